"""Vectors: words of LLVM for kernels that say themselves what goes into a register."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from pipeline.kernels import LANES

BYTE, WORD, LONG = (ir.IntType(bits) for bits in (8, 32, 64))
FLOAT = ir.FloatType()


def vector(number: Any, count: int = LANES) -> Any:
    return ir.VectorType(number, count)


def mask(places: list[int]) -> Any:
    """Of a shuffle."""
    return ir.Constant(vector(WORD, len(places)), places)


def spread(builder: Any, number: Any, count: int = LANES) -> Any:
    """One number in each lane."""
    first = builder.insert_element(
        ir.Constant(vector(number.type, count), ir.Undefined), number, WORD(0)
    )
    return builder.shuffle_vector(first, first, mask([0] * count))


def pointer(builder: Any, array: Any, place: Any, lanes: Any) -> Any:
    """Where `lanes` begin in an array."""
    return builder.bitcast(builder.gep(array.data, [place]), lanes.as_pointer())


def offset(builder: Any, array: Any, row: Any, column: Any) -> Any:
    """The place of a number in an array in C order."""
    return builder.add(builder.mul(row, builder.extract_value(array.shape, 1)), column)


def arrays(context: Any, builder: Any, signature: Any, arguments: Any, places: list[int]) -> Any:
    """Those of the arguments of an intrinsic that are at `places`."""
    kinds = signature.args
    return [context.make_array(kinds[i])(context, builder, arguments[i]) for i in places]


def fused(builder: Any, one: Any, other: Any, more: Any) -> Any:
    """A product and a sum that are rounded once, on every machine."""
    name = f"llvm.fma.v{one.type.count}f32"
    takes = ir.FunctionType(one.type, [one.type] * 3)
    known: Any = cgutils.get_or_insert_function(builder.module, takes, name)  # type: ignore[no-untyped-call]
    return builder.call(known, [one, other, more])


def divided(builder: Any, number: Any, divisor: Any, inverse: Any) -> Any:
    """The quotient as it is rounded, from a near one and what that lacks (P. Markstein, 1990)."""
    near = builder.fmul(number, inverse)
    lacks = fused(builder, builder.fneg(near), divisor, number)
    return fused(builder, lacks, inverse, near)


BYTES, WORDS, FLOATS = vector(BYTE), vector(WORD), vector(FLOAT)
