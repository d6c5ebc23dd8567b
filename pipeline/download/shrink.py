"""Shrink: a picture in memory to fewer pixels, antialiased, as compiled loops.

The filter is the cubic of Keys (a = -1/2), stretched by as much as the picture shrinks: Pillow's
BICUBIC. All is done in whole numbers, so that every machine makes the same pixels.
"""

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
_BLOCK = 32
_ROWS = 4
_LANES = _ROWS * CHANNELS


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


def shrink(pixels: Bytes, extent: tuple[float, float], size: tuple[int, int]) -> Bytes:
    """`pixels` (rows, columns, CHANNELS), the first `extent` rows and columns of which are the
    picture, as RGB of `size` rows and columns."""
    side = squares(extent, size)
    if side > 1:
        pixels = means(pixels, side)
        extent = extent[0] / side, extent[1] / side
    rows, columns, _ = pixels.shape
    if columns * CHANNELS < _BLOCK:  # the kernel reads whole blocks
        pixels = np.pad(pixels, ((0, 0), (0, _BLOCK // CHANNELS - columns), (0, 0)))
    lines = np.ascontiguousarray(pixels).reshape(rows, -1)
    small: Bytes = np.empty((*size, 3), np.uint8)
    _shrink(lines, taps(rows, extent[0], size[0]), taps(columns, extent[1], size[1]), small)
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
def _shrink(lines: Bytes, down: Taps, across: Taps, small: Bytes) -> None:
    """First each column, then each row: of 4 rows at once, whose pixels lie side by side."""
    columns = lines.shape[1] // CHANNELS
    row = np.empty(lines.shape[1], np.int16)
    pixels = row.view(np.uint64)
    abreast = np.zeros((columns, _ROWS), np.uint64)
    sums = abreast.reshape(-1).view(np.int16)
    done = np.zeros(_LANES, np.uint8)
    for top in range(0, len(small), _ROWS):
        rows = min(_ROWS, len(small) - top)
        for y in range(rows):
            for at in range(0, len(row), _BLOCK):
                at = min(at, len(row) - _BLOCK)
                _sum_columns(lines, down.first[top + y], down.weights[top + y], at, row)
            for x in range(columns):
                abreast[x, y] = pixels[x]
        for x in range(small.shape[1]):
            _sum_rows(sums, across.first[x], across.weights[x], done)
            for y in range(rows):
                for channel in range(3):
                    small[top + y, x, channel] = done[CHANNELS * y + channel]


def _weighed(builder: Any, lanes: Any, values: Any, weights: Any, place: Any) -> Any:
    """The upper halves of the products of `values` and one weight."""
    wide = ir.VectorType(ir.IntType(32), lanes)
    one = builder.sext(builder.load(builder.gep(weights, [place])), ir.IntType(32))
    first = builder.insert_element(ir.Constant(wide, ir.Undefined), one, ir.IntType(32)(0))
    every = builder.shuffle_vector(first, first, ir.Constant(wide, [0] * lanes))
    product = builder.mul(builder.sext(values, wide), every)
    upper = builder.ashr(product, ir.Constant(wide, [16] * lanes))
    return builder.trunc(upper, ir.VectorType(ir.IntType(16), lanes))


def _begun(builder: Any, lanes: int, count: Any, half: int) -> Any:
    """Sums before the first product: each product is rounded down, by a half on average."""
    number = ir.VectorType(ir.IntType(16), lanes)
    lost = builder.lshr(builder.trunc(count, ir.IntType(16)), ir.IntType(16)(1))
    start = builder.add(lost, ir.IntType(16)(half))
    first = builder.insert_element(ir.Constant(number, ir.Undefined), start, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    every = builder.shuffle_vector(first, first, mask)
    return cgutils.alloca_once_value(builder, every)  # type: ignore[no-untyped-call]


def _sum_columns_(_: Any, lines: Any, __: Any, weights: Any, ___: Any, row: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        source, taps_, out = (
            context.make_array(kinds[i])(context, builder, arguments[i]) for i in (0, 2, 4)
        )
        stride = builder.extract_value(source.shape, 1)
        count = builder.extract_value(taps_.shape, 0)
        short = ir.VectorType(ir.IntType(16), _BLOCK)
        total = _begun(builder, _BLOCK, count, 0)
        with cgutils.for_range(builder, count) as loop:
            line = builder.mul(builder.add(arguments[1], loop.index), stride)
            place = builder.gep(source.data, [builder.add(line, arguments[3])])
            block = ir.VectorType(ir.IntType(8), _BLOCK).as_pointer()
            values = builder.zext(builder.load(builder.bitcast(place, block), align=1), short)
            values = builder.shl(values, ir.Constant(short, [_IN_BITS] * _BLOCK))
            product = _weighed(builder, _BLOCK, values, taps_.data, loop.index)
            builder.store(builder.add(builder.load(total), product), total)
        place = builder.bitcast(builder.gep(out.data, [arguments[3]]), short.as_pointer())
        builder.store(builder.load(total), place, align=2)
        return context.get_dummy_value()

    return types.none(lines, types.intp, weights, types.intp, row), generate


def _sum_rows_(_: Any, sums: Any, __: Any, weights: Any, done: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        source, taps_, out = (
            context.make_array(kinds[i])(context, builder, arguments[i]) for i in (0, 2, 3)
        )
        count = builder.extract_value(taps_.shape, 0)
        short = ir.VectorType(ir.IntType(16), _LANES)
        total = _begun(builder, _LANES, count, 1 << (_OUT_BITS - 1))
        with cgutils.for_range(builder, count) as loop:
            at = builder.mul(builder.add(arguments[1], loop.index), ir.IntType(64)(_LANES))
            place = builder.bitcast(builder.gep(source.data, [at]), short.as_pointer())
            values = builder.load(place, align=2)
            product = _weighed(builder, _LANES, values, taps_.data, loop.index)
            builder.store(builder.add(builder.load(total), product), total)
        whole = builder.ashr(builder.load(total), ir.Constant(short, [_OUT_BITS] * _LANES))
        for limit, sign in ((0, ">"), (255, "<")):
            limits = ir.Constant(short, [limit] * _LANES)
            whole = builder.select(builder.icmp_signed(sign, whole, limits), whole, limits)
        pixels = ir.VectorType(ir.IntType(8), _LANES)
        place = builder.bitcast(out.data, pixels.as_pointer())
        builder.store(builder.trunc(whole, pixels), place, align=1)
        return context.get_dummy_value()

    return types.none(sums, types.intp, weights, done), generate


_sum_columns: Any = intrinsic(_sum_columns_)
"""`(lines, first, weights, at, row)`: _BLOCK weighed sums of columns into `row` from `at` on."""
_sum_rows: Any = intrinsic(_sum_rows_)
"""`(sums, first, weights, done)`: _LANES weighed sums of rows as pixels into `done`."""
