"""Lanes: what a core does to 16 numbers at once, and compilers do not find by themselves.

The three colours of pixels lie side by side; loops along a row wait at each pixel for the one
before; sums go to memory and back at each term. Here they are taken apart, turned, and kept in
registers.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pipeline.kernels import LANES, Bytes, inlined, kernel

Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.int32]

SUMS = 8
"""Sums of columns that are kept in registers at once."""

_GREY = (19595, 38470, 7471)
"""Of red, green and blue: ITU-R 601-2 in 16 bits, as Pillow has it."""
_LIGHT = (299, 587, 114)
"""The same in thousandths, as PDQ has it. Both sums are whole and below 2**24: exact in floats."""
_THOUSAND = (1000.0, float(np.float32(1 / 1000)))
_PIXELS_BYTES = 4 * LANES
"""A register that holds LANES pixels of 3 bytes, and a few more."""
_WIDE = 2 * LANES
"""Columns that are summed up at once, in so many registers that none waits for itself."""

BROAD = 4 * LANES
"""Columns that `slide` takes at once."""

_BYTE, _WORD, _LONG = (ir.IntType(bits) for bits in (8, 32, 64))
_FLOAT = ir.FloatType()


def _lanes(number: Any, count: int = LANES) -> Any:
    return ir.VectorType(number, count)


def _mask(places: list[int]) -> Any:
    return ir.Constant(_lanes(_WORD, len(places)), places)


def _every(builder: Any, number: Any, count: int = LANES) -> Any:
    """One number in each lane."""
    first = builder.insert_element(
        ir.Constant(_lanes(number.type, count), ir.Undefined), number, _WORD(0)
    )
    return builder.shuffle_vector(first, first, _mask([0] * count))


def _at(builder: Any, array: Any, place: Any, lanes: Any) -> Any:
    return builder.bitcast(builder.gep(array.data, [place]), lanes.as_pointer())


def _row_of(builder: Any, array: Any, row: Any, column: Any) -> Any:
    return builder.add(builder.mul(row, builder.extract_value(array.shape, 1)), column)


def _arrays(context: Any, builder: Any, signature: Any, arguments: Any, places: list[int]) -> Any:
    kinds = signature.args
    return [context.make_array(kinds[i])(context, builder, arguments[i]) for i in places]


def _fused(builder: Any, one: Any, other: Any, more: Any) -> Any:
    """A product and a sum that are rounded once, on every machine."""
    name = f"llvm.fma.v{one.type.count}f32"
    takes = ir.FunctionType(one.type, [one.type] * 3)
    known: Any = cgutils.get_or_insert_function(builder.module, takes, name)  # type: ignore[no-untyped-call]
    return builder.call(known, [one, other, more])


def _divided(builder: Any, number: Any, divisor: Any, inverse: Any) -> Any:
    """The quotient as it is rounded, from a near one and what that lacks (P. Markstein, 1990)."""
    near = builder.fmul(number, inverse)
    lacks = _fused(builder, builder.fneg(near), divisor, number)
    return _fused(builder, lacks, inverse, near)


def _weighed(builder: Any, pixels: Any, first: Any, weights: tuple[int, ...]) -> Any:
    """The weighed sums of the colours of LANES pixels, as floats."""
    block = _lanes(_BYTE, _PIXELS_BYTES)
    place = builder.mul(first, _LONG(len(weights)))
    loaded = builder.load(_at(builder, pixels, place, block), align=1)
    total = ir.Constant(_lanes(_FLOAT), [0.0] * LANES)
    for colour, weight in enumerate(weights):
        # Each byte of the colour at the high end of a word.
        apart = [place for lane in range(LANES) for place in [3 * lane + colour] * 4]
        words = builder.bitcast(builder.shuffle_vector(loaded, loaded, _mask(apart)), _lanes(_WORD))
        low = builder.lshr(words, ir.Constant(_lanes(_WORD), [24] * LANES))
        values = builder.sitofp(low, _lanes(_FLOAT))
        every = ir.Constant(_lanes(_FLOAT), [float(weight)] * LANES)
        total = builder.fadd(total, builder.fmul(values, every))
    return total


def _greyed(_: Any, pixels: Any, __: Any, ___: Any, row: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, out = _arrays(context, builder, signature, arguments, [0, 3])
        total = _weighed(builder, source, arguments[1], _GREY)
        half, scale = (ir.Constant(_lanes(_FLOAT), [x] * LANES) for x in (2.0**15, 2.0**-16))
        grey = builder.fptosi(builder.fmul(builder.fadd(total, half), scale), _lanes(_WORD))
        place = _at(builder, out, arguments[2], _lanes(_BYTE))
        builder.store(builder.trunc(grey, _lanes(_BYTE)), place, align=1)
        return context.get_dummy_value()

    return types.none(pixels, types.intp, types.intp, row), generate


def _lightened(_: Any, pixels: Any, __: Any, ___: Any, row: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, out = _arrays(context, builder, signature, arguments, [0, 3])
        total = _weighed(builder, source, arguments[1], _LIGHT)
        whole, inverse = (ir.Constant(_lanes(_FLOAT), [x] * LANES) for x in _THOUSAND)
        place = _at(builder, out, arguments[2], _lanes(_FLOAT))
        builder.store(_divided(builder, total, whole, inverse), place, align=4)
        return context.get_dummy_value()

    return types.none(pixels, types.intp, types.intp, row), generate


def _turned(_: Any, source: Any, __: Any, ___: Any, turned: Any) -> Any:
    """Each of four rounds interleaves rows i and i + 8, and so takes one bit of the row's number to
    the column's."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one, other = _arrays(context, builder, signature, arguments, [0, 3])
        lanes = _lanes(context.get_data_type(signature.args[0].dtype))
        align = signature.args[0].dtype.bitwidth // 8
        _, top, left, _ = arguments
        rows = []
        for i in range(LANES):
            place = _row_of(builder, one, builder.add(top, _LONG(i)), left)
            rows.append(builder.load(_at(builder, one, place, lanes), align=align))
        half = LANES // 2
        low, high = ([s + i // 2 + LANES * (i % 2) for i in range(LANES)] for s in (0, half))
        for _round in range(4):
            pairs = [(rows[i], rows[i + half]) for i in range(half)]
            rows = [builder.shuffle_vector(*p, _mask(m)) for p in pairs for m in (low, high)]
        for i, row in enumerate(rows):
            place = _row_of(builder, other, builder.add(left, _LONG(i)), top)
            builder.store(row, _at(builder, other, place, lanes), align=align)
        return context.get_dummy_value()

    return types.none(source, types.intp, types.intp, turned), generate


def _summed(_: Any, lines: Any, __: Any, weights: Any, ___: Any, sums: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, taps, out = _arrays(context, builder, signature, arguments, [0, 2, 4])
        _, first, _, left, _ = arguments
        lanes = _lanes(_WORD, _WIDE)
        place = _at(builder, out, left, lanes)
        total = cgutils.alloca_once_value(builder, builder.load(place, align=4))  # type: ignore[no-untyped-call]
        with cgutils.for_range(builder, builder.extract_value(taps.shape, 0)) as loop:
            at = _row_of(builder, source, builder.add(first, loop.index), left)
            line = builder.load(_at(builder, source, at, _lanes(_BYTE, _WIDE)), align=1)
            weight = builder.load(builder.gep(taps.data, [loop.index]))
            product = builder.mul(builder.zext(line, lanes), _every(builder, weight, _WIDE))
            builder.store(builder.add(builder.load(total), product), total)
        builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    return types.none(lines, types.intp, weights, types.intp, sums), generate


def _multiplied(_: Any, lines: Any, factors: Any, __: Any, sums: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, down, out = _arrays(context, builder, signature, arguments, [0, 1, 3])
        left, lanes = arguments[2], _lanes(_FLOAT)
        number = context.get_data_type(signature.args[0].dtype)
        zero = ir.Constant(lanes, [0.0] * LANES)
        totals = [cgutils.alloca_once_value(builder, zero) for _ in range(SUMS)]  # type: ignore[no-untyped-call]
        with cgutils.for_range(builder, builder.extract_value(source.shape, 0)) as loop:
            at = _row_of(builder, source, loop.index, left)
            line = builder.load(_at(builder, source, at, _lanes(number)), align=1)
            values = builder.uitofp(line, lanes) if number == _BYTE else line
            for i, total in enumerate(totals):
                factor = builder.gep(down.data, [_row_of(builder, down, loop.index, _LONG(i))])
                every = _every(builder, builder.load(factor))
                if number == _BYTE:
                    now = _fused(builder, values, every, builder.load(total))
                else:
                    now = builder.fadd(builder.load(total), builder.fmul(values, every))
                builder.store(now, total)
        for i, total in enumerate(totals):
            place = _at(builder, out, _row_of(builder, out, _LONG(i), left), lanes)
            builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    return types.none(lines, factors, types.intp, sums), generate


def _slid(
    _: Any,
    source: Any,
    __: Any,
    ___: Any,
    ____: Any,
    _____: Any,
    sums: Any,
    ______: Any,
    means: Any,
) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lines, totals, out = _arrays(context, builder, signature, arguments, [0, 5, 7])
        _, enters, leaves, count, left, _, window, _ = arguments
        lanes = _lanes(_FLOAT, BROAD)
        ones = ir.Constant(lanes, [1.0] * BROAD)
        divisor = _every(builder, window, BROAD)
        inverse = builder.fdiv(ones, divisor)
        place = _at(builder, totals, left, lanes)
        total = cgutils.alloca_once_value(builder, builder.load(place, align=4))  # type: ignore[no-untyped-call]
        with cgutils.for_range(builder, count) as loop:

            def line(first: Any) -> Any:
                at = _row_of(builder, lines, builder.add(first, loop.index), left)
                return builder.load(_at(builder, lines, at, lanes), align=4)

            now = builder.fadd(builder.load(total), line(enters))
            now = builder.fsub(now, line(leaves))
            builder.store(now, total)
            mean = _divided(builder, now, divisor, inverse)
            at = _row_of(builder, out, loop.index, left)
            builder.store(mean, _at(builder, out, at, lanes), align=4)
        builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    numbers = (types.intp, types.intp, types.intp, types.intp)
    return types.none(source, *numbers, sums, types.float32, means), generate


_grey_block: Any = intrinsic(_greyed)
_light_block: Any = intrinsic(_lightened)
_turn_block: Any = intrinsic(_turned)
_sum_block: Any = intrinsic(_summed)
_slide_block: Any = intrinsic(_slid)
_multiply_block: Any = intrinsic(_multiplied)


@inlined
def _whole(pixels: Bytes, first: int, count: int) -> int:
    """How many of `count` pixels come in blocks that do not reach beyond the last byte."""
    reach = (len(pixels) - _PIXELS_BYTES) // 3 - first + LANES
    whole = min(count, max(0, reach))
    return whole - whole % LANES


@kernel
def grey(pixels: Bytes, first: int, row: Bytes) -> None:
    """Fill `row` with the grey, as Pillow converts RGB to L, of `pixels`, bytes of red, green and
    blue one behind the other, from the pixel `first` on."""
    whole = _whole(pixels, first, len(row))
    for x in range(0, whole, LANES):
        _grey_block(pixels, first + x, x, row)
    for x in range(whole, len(row)):
        at = 3 * (first + x)
        red, green, blue = pixels[at], pixels[at + 1], pixels[at + 2]
        row[x] = (red * _GREY[0] + green * _GREY[1] + blue * _GREY[2] + (1 << 15)) >> 16


@kernel
def light(pixels: Bytes, first: int, row: Floats) -> None:
    """As `grey`, with the brightness as PDQ has it."""
    whole = _whole(pixels, first, len(row))
    for x in range(0, whole, LANES):
        _light_block(pixels, first + x, x, row)
    for x in range(whole, len(row)):
        at = 3 * (first + x)
        red, green, blue = pixels[at], pixels[at + 1], pixels[at + 2]
        row[x] = np.float32((red * _LIGHT[0] + green * _LIGHT[1] + blue * _LIGHT[2]) * 0.001)


@kernel
def transpose(source: Any, turned: Any) -> None:
    """Fill `turned` (columns, rows) from `source` (rows, columns). Both are of one type."""
    rows, columns = source.shape
    whole_rows, whole_columns = rows - rows % LANES, columns - columns % LANES
    for top in range(0, whole_rows, LANES):
        for left in range(0, whole_columns, LANES):
            _turn_block(source, top, left, turned)
        for y in range(top, top + LANES):
            for x in range(whole_columns, columns):
                turned[x, y] = source[y, x]
    for y in range(whole_rows, rows):
        for x in range(columns):
            turned[x, y] = source[y, x]


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
def slide(lines: Floats, enters: int, leaves: int, sums: Floats, size: int, means: Floats) -> None:
    """Move a window down each column of `lines`, by as many rows as `means` has: each time its
    `sums` gain the next row from `enters` on, then lose the next from `leaves` on, and their
    `size`-th part goes to `means`."""
    columns = len(sums)
    whole = columns - columns % BROAD
    for x in range(0, whole, BROAD):
        _slide_block(lines, enters, leaves, len(means), x, sums, np.float32(size), means)
    for row in range(len(means)):
        for x in range(whole, columns):
            sums[x] = (sums[x] + lines[enters + row, x]) - lines[leaves + row, x]
            means[row, x] = sums[x] / np.float32(size)
