"""Sums of lines, kept in registers until they are done: compilers keep them in memory."""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pipeline.kernels import LANES, Bytes, kernel
from pipeline.vectors import (
    BYTE,
    FLOAT,
    FLOATS,
    LONG,
    WORD,
    arrays,
    divided,
    fused,
    offset,
    pointer,
    spread,
    vector,
)

Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.int32]

SUMS = 8
"""Of columns, that `multiply` makes at once."""
BROAD = 2 * LANES
"""Columns that `slide` takes at once."""
_WIDE = 2 * LANES
"""Columns that `add_lines` takes at once: in so many registers that none waits for itself."""


def _summed(_: Any, lines: Any, __: Any, weights: Any, ___: Any, sums: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, taps, out = arrays(context, builder, signature, arguments, [0, 2, 4])
        _, first, _, left, _ = arguments
        lanes = vector(WORD, _WIDE)
        place = pointer(builder, out, left, lanes)
        total = cgutils.alloca_once_value(builder, builder.load(place, align=4))  # type: ignore[no-untyped-call]
        with cgutils.for_range(builder, builder.extract_value(taps.shape, 0)) as loop:
            at = offset(builder, source, builder.add(first, loop.index), left)
            line = builder.load(pointer(builder, source, at, vector(BYTE, _WIDE)), align=1)
            weight = builder.load(builder.gep(taps.data, [loop.index]))
            product = builder.mul(builder.zext(line, lanes), spread(builder, weight, _WIDE))
            builder.store(builder.add(builder.load(total), product), total)
        builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    return types.none(lines, types.intp, weights, types.intp, sums), generate


def _multiplied(_: Any, lines: Any, factors: Any, __: Any, sums: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, down, out = arrays(context, builder, signature, arguments, [0, 1, 3])
        left, lanes = arguments[2], FLOATS
        number = context.get_data_type(signature.args[0].dtype)
        zero = ir.Constant(lanes, [0.0] * LANES)
        totals = [cgutils.alloca_once_value(builder, zero) for _ in range(SUMS)]  # type: ignore[no-untyped-call]
        with cgutils.for_range(builder, builder.extract_value(source.shape, 0)) as loop:
            at = offset(builder, source, loop.index, left)
            line = builder.load(pointer(builder, source, at, vector(number)), align=1)
            values = builder.uitofp(line, lanes) if number == BYTE else line
            for i, total in enumerate(totals):
                factor = builder.gep(down.data, [offset(builder, down, loop.index, LONG(i))])
                factor = spread(builder, builder.load(factor))
                if number == BYTE:
                    now = fused(builder, values, factor, builder.load(total))
                else:
                    now = builder.fadd(builder.load(total), builder.fmul(values, factor))
                builder.store(now, total)
        for i, total in enumerate(totals):
            place = pointer(builder, out, offset(builder, out, LONG(i), left), lanes)
            builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    return types.none(lines, factors, types.intp, sums), generate


def _begun(builder: Any, sums: Any, left: Any) -> tuple[Any, Any]:
    """Where sums are in memory, and in registers."""
    place = pointer(builder, sums, left, vector(FLOAT, BROAD))
    return place, cgutils.alloca_once_value(builder, builder.load(place, align=4))  # type: ignore[no-untyped-call]


def _moved(builder: Any, lines: Any, total: Any, rows: tuple[Any, Any], left: Any) -> Any:
    """The sums, which have gained the first of the rows and lost the other."""
    lanes = vector(FLOAT, BROAD)
    first, last = (
        builder.load(pointer(builder, lines, offset(builder, lines, row, left), lanes), align=4)
        for row in rows
    )
    now = builder.fsub(builder.fadd(builder.load(total), first), last)
    builder.store(now, total)
    return now


def _advanced(_: Any, source: Any, __: Any, ___: Any, ____: Any, _____: Any, sums: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lines, totals = arrays(context, builder, signature, arguments, [0, 5])
        _, enters, leaves, count, left, _ = arguments
        place, total = _begun(builder, totals, left)
        with cgutils.for_range(builder, count) as loop:
            rows = builder.add(enters, loop.index), builder.add(leaves, loop.index)
            _moved(builder, lines, total, rows, left)
        builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    return types.none(source, *[types.intp] * 4, sums), generate


def _slid(
    _: Any, source: Any, __: Any, ___: Any, ____: Any, sums: Any, _____: Any, means: Any
) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lines, totals, out = arrays(context, builder, signature, arguments, [0, 4, 6])
        _, enters, leaves, left, _, size, _ = arguments
        divisor = spread(builder, size, BROAD)
        inverse = builder.fdiv(ir.Constant(divisor.type, [1.0] * BROAD), divisor)
        place, total = _begun(builder, totals, left)
        with cgutils.for_range(builder, builder.extract_value(out.shape, 0)) as loop:
            rows = builder.add(enters, loop.index), builder.add(leaves, loop.index)
            now = _moved(builder, lines, total, rows, left)
            mean = divided(builder, now, divisor, inverse)
            where = offset(builder, out, loop.index, left)
            builder.store(mean, pointer(builder, out, where, divisor.type), align=4)
        builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    return types.none(source, *[types.intp] * 3, sums, types.float32, means), generate


_sum_block: Any = intrinsic(_summed)
_advance_block: Any = intrinsic(_advanced)
_slide_block: Any = intrinsic(_slid)
_multiply_block: Any = intrinsic(_multiplied)


@kernel
def add_lines(lines: Bytes, first: int, weights: Words, sums: Words) -> None:
    """Add to `sums` the weighed sum of as many of `lines`, from `first` on, as there are weights.
    It is one of 32 bits, which wrap around."""
    width = len(sums)
    whole = width - width % _WIDE
    for x in range(0, whole, _WIDE):
        _sum_block(lines, first, weights, x, sums)
    for tap in range(len(weights)):
        for x in range(whole, width):
            sums[x] += np.int32(weights[tap] * np.int32(lines[first + tap, x]))


@kernel
def multiply(lines: Bytes, factors: Floats, sums: Floats) -> None:
    """Fill `sums` (SUMS, columns) with the product of `factors` (rows, SUMS), turned, and `lines`
    (rows, columns), each sum from the first row to the last. Of floats each product is rounded."""
    rows, columns = lines.shape
    whole = columns - columns % LANES
    for x in range(0, whole, LANES):
        _multiply_block(lines, factors, x, sums)
    sums[:, whole:] = 0
    for y in range(rows):
        for i in range(SUMS):
            for x in range(whole, columns):
                sums[i, x] += np.float32(lines[y, x]) * factors[y, i]


@kernel
def advance(lines: Floats, enters: int, leaves: int, count: int, sums: Floats) -> None:
    """Move a window down each column of `lines` by `count` rows: each time its `sums` gain the next
    row from `enters` on, then lose the next from `leaves` on."""
    columns = len(sums)
    whole = columns - columns % BROAD
    for x in range(0, whole, BROAD):
        _advance_block(lines, enters, leaves, count, x, sums)
    for row in range(count):
        for x in range(whole, columns):
            sums[x] = (sums[x] + lines[enters + row, x]) - lines[leaves + row, x]


@kernel
def slide(lines: Floats, enters: int, leaves: int, sums: Floats, size: int, means: Floats) -> None:
    """As `advance`, by as many rows as `means` has, which get the `size`-th part of the sums."""
    columns = len(sums)
    whole = columns - columns % BROAD
    for x in range(0, whole, BROAD):
        _slide_block(lines, enters, leaves, x, sums, np.float32(size), means)
    for row in range(len(means)):
        for x in range(whole, columns):
            sums[x] = (sums[x] + lines[enters + row, x]) - lines[leaves + row, x]
            means[row, x] = sums[x] / np.float32(size)
