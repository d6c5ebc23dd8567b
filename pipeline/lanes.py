"""Lanes: pixels laid out so that what follows runs as many abreast as a register has lanes.

The three colours of pixels lie side by side, and loops along a row wait at each pixel for the one
before. Compilers find no good way out: here colours are taken apart and rows turned to columns.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pipeline.kernels import LANES, Bytes, inlined, kernel
from pipeline.vectors import (
    BYTE,
    BYTES,
    FLOATS,
    LONG,
    WORDS,
    arrays,
    divided,
    mask,
    offset,
    pointer,
    vector,
)

Floats = npt.NDArray[np.float32]

_GREY = (19595, 38470, 7471)
"""Of red, green and blue: ITU-R 601-2 in 16 bits, as Pillow has it."""
_LIGHT = (299, 587, 114)
"""The same in thousandths, as PDQ has it. Both sums are whole and below 2**24: exact in floats."""
_THOUSAND = (1000.0, float(np.float32(1 / 1000)))
"""And its inverse."""
_PIXELS_BYTES = 4 * LANES
"""A register that holds LANES pixels of 3 bytes, and a few more."""


def _weighed(builder: Any, pixels: Any, first: Any, weights: tuple[int, ...]) -> Any:
    """The weighed sums of the colours of LANES pixels, as floats."""
    block = vector(BYTE, _PIXELS_BYTES)
    place = builder.mul(first, LONG(len(weights)))
    loaded = builder.load(pointer(builder, pixels, place, block), align=1)
    total = ir.Constant(FLOATS, [0.0] * LANES)
    for colour, weight in enumerate(weights):
        # Each byte of the colour at the high end of a word.
        apart = [place for lane in range(LANES) for place in [3 * lane + colour] * 4]
        words = builder.bitcast(
            builder.shuffle_vector(loaded, loaded, mask(apart)),
            WORDS,
        )
        low = builder.lshr(words, ir.Constant(WORDS, [24] * LANES))
        values = builder.sitofp(low, FLOATS)
        factor = ir.Constant(FLOATS, [float(weight)] * LANES)
        total = builder.fadd(total, builder.fmul(values, factor))
    return total


def _greyed(_: Any, pixels: Any, __: Any, ___: Any, row: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, out = arrays(context, builder, signature, arguments, [0, 3])
        total = _weighed(builder, source, arguments[1], _GREY)
        half, scale = (ir.Constant(FLOATS, [x] * LANES) for x in (2.0**15, 2.0**-16))
        grey = builder.fptosi(builder.fmul(builder.fadd(total, half), scale), WORDS)
        place = pointer(builder, out, arguments[2], BYTES)
        builder.store(builder.trunc(grey, BYTES), place, align=1)
        return context.get_dummy_value()

    return types.none(pixels, types.intp, types.intp, row), generate


def _brightness(builder: Any, pixels: Any, first: Any) -> Any:
    whole, inverse = (ir.Constant(FLOATS, [x] * LANES) for x in _THOUSAND)
    return divided(builder, _weighed(builder, pixels, first, _LIGHT), whole, inverse)


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """LANES rows to columns: each of four rounds interleaves rows i and i + 8, and so takes one bit
    of the row's number to the column's."""
    half = LANES // 2
    low, high = ([s + i // 2 + LANES * (i % 2) for i in range(LANES)] for s in (0, half))
    for _round in range(4):
        pairs = [(rows[i], rows[i + half]) for i in range(half)]
        rows = [builder.shuffle_vector(*p, mask(m)) for p in pairs for m in (low, high)]
    return rows


def _lightened(_: Any, pixels: Any, __: Any, ___: Any, row: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, out = arrays(context, builder, signature, arguments, [0, 3])
        light = _brightness(builder, source, arguments[1])
        builder.store(light, pointer(builder, out, arguments[2], FLOATS), align=4)
        return context.get_dummy_value()

    return types.none(pixels, types.intp, types.intp, row), generate


def _lightened_columns(_: Any, pixels: Any, __: Any, ___: Any, ____: Any, turned: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, out = arrays(context, builder, signature, arguments, [0, 4])
        _, width, top, left, _ = arguments
        firsts = [builder.mul(builder.add(top, LONG(i)), width) for i in range(LANES)]
        rows = [_brightness(builder, source, builder.add(first, left)) for first in firsts]
        for i, row in enumerate(_turned(builder, rows)):
            place = offset(builder, out, builder.add(left, LONG(i)), top)
            builder.store(row, pointer(builder, out, place, FLOATS), align=4)
        return context.get_dummy_value()

    return types.none(pixels, types.intp, types.intp, types.intp, turned), generate


def _turned_block(_: Any, source: Any, __: Any, ___: Any, turned: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one, other = arrays(context, builder, signature, arguments, [0, 3])
        lanes = vector(context.get_data_type(signature.args[0].dtype))
        align = signature.args[0].dtype.bitwidth // 8
        _, top, left, _ = arguments
        places = [offset(builder, one, builder.add(top, LONG(i)), left) for i in range(LANES)]
        rows = [builder.load(pointer(builder, one, p, lanes), align=align) for p in places]
        for i, row in enumerate(_turned(builder, rows)):
            place = offset(builder, other, builder.add(left, LONG(i)), top)
            builder.store(row, pointer(builder, other, place, lanes), align=align)
        return context.get_dummy_value()

    return types.none(source, types.intp, types.intp, turned), generate


_grey_block: Any = intrinsic(_greyed)
_light_block: Any = intrinsic(_lightened)
_light_columns_block: Any = intrinsic(_lightened_columns)
_turn_block: Any = intrinsic(_turned_block)


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
def light_columns(pixels: Bytes, height: int, width: int, turned: Floats) -> None:
    """As `light`, of a picture whose rows become columns: the first `height` of each of the first
    `width` rows of `turned`."""
    row = np.empty(width, np.float32)
    for top in range(0, height, LANES):
        rows = min(LANES, height - top)
        # The last row of the strip is the one whose blocks may reach beyond the last byte.
        whole = _whole(pixels, (top + rows - 1) * width, width) if rows == LANES else 0
        for left in range(0, whole, LANES):
            _light_columns_block(pixels, width, top, left, turned)
        for y in range(top, top + rows):
            light(pixels, y * width + whole, row[whole:])
            for x in range(whole, width):
                turned[x, y] = row[x]


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
