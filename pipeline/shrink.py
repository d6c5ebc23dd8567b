"""Shrink: a picture in memory, or a part of it, to fewer pixels, antialiased, as compiled loops.

The filter is the cubic of Keys (a = -1/2), stretched by as much as the picture shrinks: Pillow's
BICUBIC; a picture that grows is interpolated by it. All is done in whole numbers, so that every
machine makes the same pixels.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pipeline.kernels import Bytes, kernel

Shorts = npt.NDArray[np.int16]
Longs = npt.NDArray[np.int64]

CHANNELS = 4
"""Red, green, blue, and one that is not looked at: a pixel is a word."""

_REACH = 2.0
_ONE = 1 << 15
"""A weight of 1. The largest product keeps its upper half, as machines do it at a stroke."""
_IN_BITS = 7
_OUT_BITS = _IN_BITS - 2
"""Of the fraction: one goes with each of the two products, and so there is room for a sum of up to
511, though a cubic overshoots."""
_MAX_SCALE = 4
"""Pictures that shrink by more are first made of the means of squares. Of 16 products the errors
come to less than half of a pixel's value, so that a flat picture stays as it is."""
_BLOCK = 8
"""Pixels whose columns are summed at a time: the bytes of two registers, once they are shorts."""
_ROWS = 8
"""Rows of pixels that lie side by side while their pixels are summed: a line of the cache."""
_KEPT_TAPS = 64


class Taps(NamedTuple):
    """How much of which pixels each pixel of a smaller line is made of."""

    first: Longs
    weights: Shorts


@kernel
def taps(size: int, extent: float, target: int) -> Taps:
    """Of a line of `size` pixels, the first `extent` of which are the picture, shrunk to `target`.

    A line is longer than its picture by a fraction of a pixel when it was decoded at a scale.
    """
    scale = extent / target
    stretch = max(scale, 1.0)
    count = min(size, int(np.ceil(2 * _REACH * stretch)))
    first = np.empty(target, np.int64)
    weights = np.empty((target, count), np.int16)
    line = np.empty(count, np.float64)
    for place in range(target):
        centre = (place + 0.5) * scale
        begin = int(np.ceil(centre - _REACH * stretch - 0.5))
        begin = max(0, min(begin, size - count))
        for tap in range(count):
            line[tap] = _cubic((begin + tap + 0.5 - centre) / stretch)
        total, left, largest = line.sum(), _ONE, 0
        for tap in range(count):
            whole = int(np.rint(line[tap] / total * _ONE))
            weights[place, tap] = min(whole, _ONE - 1)
            left -= whole
            if line[tap] > line[largest]:
                largest = tap
        # What rounding took goes to the largest, so that a flat picture stays as it is.
        weights[place, largest] = min(weights[place, largest] + left, _ONE - 1)
        missing = _ONE - weights[place].sum()
        if missing > 1:
            # Beside an edge of what grows, one pixel would weigh more than 1, another less than 0.
            weights[place, weights[place].argmin()] += missing
        first[place] = begin
    return Taps(first, weights)


@kernel
def _cubic(x: float) -> float:
    # R. Keys, Cubic convolution interpolation for digital image processing, 1981, with a = -1/2.
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < _REACH else 0.0


def squares(extent: tuple[float, float], size: tuple[int, int]) -> int:
    """The side of the squares whose means are enough to shrink `extent` to `size`."""
    return int(np.ceil(max(extent[0] / size[0], extent[1] / size[1]) / _MAX_SCALE))


_kept_taps = lru_cache(_KEPT_TAPS)(taps)


def shrink(
    pixels: Bytes,
    extent: tuple[float, float],
    size: tuple[int, int],
    begin: tuple[int, int] = (0, 0),
    out: Bytes | None = None,
) -> Bytes:
    """`pixels` (rows, columns, CHANNELS), the `extent` rows and columns of which from `begin` on
    are the picture, as RGB of `size` rows and columns; in `out` where it is given."""
    top, left = begin
    rows, columns = int(np.ceil(extent[0])), int(np.ceil(extent[1]))
    side = squares(extent, size)
    if side > 1 or columns < _BLOCK or not pixels.flags.c_contiguous:
        pixels = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
        top = left = 0
    if side > 1:
        pixels = means(pixels, side)
        extent = extent[0] / side, extent[1] / side
        rows, columns, _ = pixels.shape
    if columns < _BLOCK:  # the kernel reads whole blocks
        pixels = np.pad(pixels, ((0, 0), (0, _BLOCK - columns), (0, 0)))
    line = pixels.shape[1] * CHANNELS
    if min(top, left) < 0 or top + rows > len(pixels) or left + max(columns, _BLOCK) > line // 4:
        raise ValueError(f"{rows}x{columns} pixels from {begin} on reach beyond {pixels.shape}")
    small = np.empty((*size, 3), np.uint8) if out is None else out
    if small.shape != (*size, 3) or small.dtype != np.uint8 or not small.flags.c_contiguous:
        raise ValueError(f"no place for {size} pixels: {small.shape} of {small.dtype}")
    # Flat, from the first pixel on: one kind of array, wherever the part lies.
    flat = pixels.reshape(-1)[top * line + left * CHANNELS :]
    down, across = _kept_taps(rows, extent[0], size[0]), _kept_taps(columns, extent[1], size[1])
    _shrink(flat, line, max(columns, _BLOCK), down, across, small)
    return small


@kernel
def means(pixels: Bytes, side: int) -> Bytes:
    """The mean of each square of `side` pixels; squares at the far edges may be cut off."""
    rows, columns, channels = pixels.shape
    means = np.empty(((rows + side - 1) // side, (columns + side - 1) // side, channels), np.uint8)
    sums = np.empty((means.shape[1], channels), np.int32)
    for y in range(len(means)):
        top, bottom = y * side, min(rows, (y + 1) * side)
        sums[:] = 0
        for line in range(top, bottom):
            for x in range(columns):
                for channel in range(channels):
                    sums[x // side, channel] += pixels[line, x, channel]
        for x in range(len(sums)):
            area = (bottom - top) * (min(columns, (x + 1) * side) - x * side)
            for channel in range(channels):
                means[y, x, channel] = (sums[x, channel] + area // 2) // area
    return means


@kernel
def _shrink(flat: Bytes, line: int, columns: int, down: Taps, across: Taps, small: Bytes) -> None:
    """First each column, then each row: of 8 rows at once, whose pixels lie side by side."""
    abreast = np.empty((columns, _ROWS), np.uint64)
    last = small.shape[1] - 1
    for top in range(0, len(small), _ROWS):
        for column in range(0, columns, _BLOCK):
            column = min(column, columns - _BLOCK)
            _sum_columns(flat, line, column, down.first, down.weights, top, abreast)
        for x in range(last):
            _sum_rows(abreast, across.first, across.weights, x, small, top, True)
        _sum_rows(abreast, across.first, across.weights, last, small, top, False)


_SHORT, _WORD, _LONG = (ir.IntType(bits) for bits in (16, 32, 64))


def _vector(bits: int, lanes: int) -> Any:
    return ir.VectorType(ir.IntType(bits), lanes)


def _all(bits: int, lanes: int, number: int) -> Any:
    return ir.Constant(_vector(bits, lanes), [number] * lanes)


def _spread(builder: Any, value: Any, lanes: int) -> Any:
    """`value` in every lane."""
    nothing = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(nothing, value, _WORD(0))
    return builder.shuffle_vector(first, first, _all(32, lanes, 0))


def _sum(builder: Any, lanes: int, half: int, weights: Any, count: Any, load: Any) -> Any:
    """`half`, and what `load` gives for each of `count` places, weighed. A product keeps its upper
    half, and so is rounded down, by a half on average."""
    lost = builder.lshr(builder.trunc(count, _SHORT), _SHORT(1))
    begun = _spread(builder, builder.add(lost, _SHORT(half)), lanes)
    total = cgutils.alloca_once(builder, begun.type)  # type: ignore[no-untyped-call]
    builder.store(begun, total)
    with cgutils.for_range(builder, count) as loop:
        weight = builder.sext(builder.load(builder.gep(weights, [loop.index])), _WORD)
        values = builder.sext(load(loop.index), _vector(32, lanes))
        product = builder.mul(values, _spread(builder, weight, lanes))
        upper = builder.trunc(builder.ashr(product, _all(32, lanes, 16)), _vector(16, lanes))
        builder.store(builder.add(builder.load(total), upper), total)
    return builder.load(total)


def _row(builder: Any, top: Any, row: int, count: Any) -> Any:
    """The number of one of the rows from `top` on, of which the last of all may be repeated."""
    number, last = builder.add(top, _LONG(row)), builder.sub(count, _LONG(1))
    return builder.select(builder.icmp_signed("<", number, last), number, last)


def _sum_columns_(
    _: Any, flat: Any, __: Any, ___: Any, first: Any, weights: Any, ____: Any, abreast: Any
) -> Any:
    lanes = _BLOCK * CHANNELS

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        pixels, begins, taps_, out = (
            context.make_array(kinds[i])(context, builder, arguments[i]) for i in (0, 3, 4, 6)
        )
        line, column, top = arguments[1], arguments[2], arguments[5]
        rows, count = (builder.extract_value(taps_.shape, i) for i in (0, 1))
        left = builder.mul(column, _LONG(CHANNELS))

        def summed(row: int) -> Any:
            y = _row(builder, top, row, rows)
            begin = builder.load(builder.gep(begins.data, [y]))

            def load(tap: Any) -> Any:
                at = builder.add(builder.mul(builder.add(begin, tap), line), left)
                place = builder.gep(pixels.data, [at])
                block = builder.bitcast(place, _vector(8, lanes).as_pointer())
                values = builder.zext(builder.load(block, align=1), _vector(16, lanes))
                return builder.shl(values, _all(16, lanes, _IN_BITS))

            mine = builder.gep(taps_.data, [builder.mul(y, count)])
            return builder.bitcast(_sum(builder, lanes, 0, mine, count, load), _vector(64, _BLOCK))

        def picked(one: Any, other: Any, *lanes: int) -> Any:
            return builder.shuffle_vector(one, other, ir.Constant(_vector(32, len(lanes)), lanes))

        for row in range(0, _ROWS, 4):
            one, two, three, four = (summed(row + i) for i in range(4))
            for pixel in range(_BLOCK):
                upper = picked(one, two, pixel, _BLOCK + pixel)
                lower = picked(three, four, pixel, _BLOCK + pixel)
                at = builder.mul(builder.add(column, _LONG(pixel)), _LONG(_ROWS))
                place = builder.gep(out.data, [builder.add(at, _LONG(row))])
                place = builder.bitcast(place, _vector(64, 4).as_pointer())
                builder.store(picked(upper, lower, 0, 1, 2, 3), place, align=8)
        return context.get_dummy_value()

    return types.none(flat, types.intp, types.intp, first, weights, types.intp, abreast), generate


def _sum_rows_(
    _: Any, sums: Any, first: Any, weights: Any, __: Any, small: Any, ___: Any, ____: Any
) -> Any:
    lanes = _ROWS * CHANNELS

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        source, begins, taps_, out = (
            context.make_array(kinds[i])(context, builder, arguments[i]) for i in (0, 1, 2, 4)
        )
        x, top, has_room = arguments[3], arguments[5], arguments[6]
        count = builder.extract_value(taps_.shape, 1)
        rows, columns = (builder.extract_value(out.shape, i) for i in (0, 1))
        begin = builder.load(builder.gep(begins.data, [x]))

        def load(tap: Any) -> Any:
            at = builder.mul(builder.add(begin, tap), _LONG(_ROWS))
            place = builder.gep(source.data, [at])
            return builder.load(builder.bitcast(place, _vector(16, lanes).as_pointer()), align=8)

        mine = builder.gep(taps_.data, [builder.mul(x, count)])
        total = _sum(builder, lanes, 1 << (_OUT_BITS - 1), mine, count, load)
        whole = builder.ashr(total, _all(16, lanes, _OUT_BITS))
        for sign, limit in ((">", _all(16, lanes, 0)), ("<", _all(16, lanes, 255))):
            whole = builder.select(builder.icmp_signed(sign, whole, limit), whole, limit)
        pixels = builder.bitcast(builder.trunc(whole, _vector(8, lanes)), _vector(32, _ROWS))

        def put(value: Any, place: Any) -> None:
            builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=1)

        places = []
        for row in range(_ROWS):
            line = builder.mul(_row(builder, top, row, rows), columns)
            places.append(builder.gep(out.data, [builder.mul(builder.add(line, x), _LONG(3))]))
        words = [builder.extract_element(pixels, _WORD(row)) for row in range(_ROWS)]
        with builder.if_else(has_room) as (there_is, there_is_none):
            with there_is:  # a pixel is a word, whose fourth byte the next pixel overwrites
                for word, place in zip(words, places, strict=True):
                    put(word, place)
            with there_is_none:
                for word, place in zip(words, places, strict=True):
                    put(builder.trunc(word, _SHORT), place)
                    blue = builder.trunc(builder.lshr(word, _WORD(16)), ir.IntType(8))
                    put(blue, builder.gep(place, [_LONG(2)]))
        return context.get_dummy_value()

    return types.none(sums, first, weights, types.intp, small, types.intp, types.boolean), generate


_sum_columns: Any = intrinsic(_sum_columns_)
"""`(flat, line, column, first, weights, top, abreast)`: the weighed sums of _BLOCK columns, of the
_ROWS rows from `top` on."""
_sum_rows: Any = intrinsic(_sum_rows_)
"""`(abreast, first, weights, x, small, top, has_room)`: the pixels of column `x`, of the _ROWS rows
from `top` on; `has_room` where a byte behind them may be overwritten."""
