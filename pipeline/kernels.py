"""Kernels: loops over bytes and numbers, compiled to machine code when first called."""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.caching import CacheImpl, _CacheLocator
from numba.extending import intrinsic

Bytes = npt.NDArray[np.uint8]
FNV_BASIS, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
"""Of FNV-1a, 64 bits."""
GOLDEN = 0x9E3779B97F4A7C15
"""2**64 over the golden ratio, odd: a product with it spreads numbers (Knuth, 6.4)."""
LANES = 16
"""Numbers that a core compares at once."""

P = ParamSpec("P")
R = TypeVar("R")


def _cache_folder() -> Path:
    """Where machine code is kept, by the sources of all kernels: numba itself looks only at the
    file of the kernel, and not at those of the kernels that it calls."""
    root = Path(__file__).resolve().parent.parent
    sources = [root]
    if root.is_dir():  # and no zip for spark-submit
        sources = [*sorted(root.glob("pipeline/**/*.py")), *sorted(root.glob("queries/**/*.py"))]
    digest = hashlib.sha256()
    for source in sources:
        code = source.read_bytes()
        if b"pipeline.kernels" in code or source in (root, Path(__file__)):
            digest.update(code)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "webimagetext" / digest.hexdigest()[:16]


class Kept(_CacheLocator):
    """Where numba keeps a kernel of ours, by what it is made of and not by where its source lies.

    An executor has our packages in a folder of its own, as a zip: by its path, each executor and
    each that takes the place of a killed one would compile for half a minute.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._folder = Path(numba.config.CACHE_DIR, function.__module__)  # type: ignore[attr-defined]
        self._line = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "Kept | None":  # noqa: ARG003
        """None for what is not ours, and where there is no place to keep it."""
        if py_func.__module__.partition(".")[0] not in ("pipeline", "queries"):
            return None
        kept = cls(py_func)
        try:
            kept.ensure_cache_path()  # type: ignore[no-untyped-call]
        except OSError:
            return None
        return kept

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return ""  # the folder is named by all sources

    def get_disambiguator(self) -> str:
        return str(self._line)


if "NUMBA_CACHE_DIR" not in os.environ:
    with contextlib.suppress(RuntimeError):  # where the user has no home
        numba.config.CACHE_DIR = str(_cache_folder())  # type: ignore[attr-defined]
        CacheImpl._locator_classes.insert(0, Kept)  # type: ignore[arg-type]


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, compiled. Its arguments are numbers, arrays and named tuples of them."""
    return _compiled(function)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A kernel that is copied to where other kernels call it: a call with four arrays is a call
    with 28 numbers, and takes longer than to look up a word."""
    return _compiled(function, forceinline=True)


def _compiled(function: Callable[P, R], **options: Any) -> Callable[P, R]:
    try:
        compiled: Any = numba.njit(nogil=True, cache=True, **options)(function)
    except (RuntimeError, OSError):  # no place to keep it: every process compiles anew
        compiled = numba.njit(nogil=True, **options)(function)
    return compiled  # type: ignore[no-any-return]


def _load_word(_: Any, text: Any, __: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(array.data, [arguments[1]])
        pointer = builder.bitcast(address, ir.IntType(64).as_pointer())
        return builder.load(pointer, align=1)

    return types.uint64(text, types.intp), generate


def _low_zeros(_: Any, __: Any) -> Any:
    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


def _prefetch(_: Any, array: Any, __: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.gep(data, [arguments[1]])
        flag = ir.IntType(32)
        takes = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [address.type], takes)
        builder.call(fetch, [address, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.none(array, types.intp), generate


def _rank(_: Any, values: Any, __: Any, ___: Any, ranks: Any) -> Any:
    number = ir.IntType(32)
    lanes = ir.VectorType(number, LANES)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data, _, _, told = (
            context.make_array(kind)(context, builder, value).data if kind in (values, ranks) else 0
            for kind, value in zip(signature.args, arguments, strict=True)
        )
        first, count = arguments[1:3]
        mine = builder.bitcast(builder.gep(data, [first]), lanes.as_pointer())
        own = builder.load(mine, align=4)
        below = cgutils.alloca_once_value(builder, ir.Constant(lanes, [0] * LANES))  # type: ignore[no-untyped-call]
        with cgutils.for_range(builder, count) as loop:
            other = builder.load(builder.gep(data, [loop.index]))
            one = builder.insert_element(ir.Constant(lanes, ir.Undefined), other, number(0))
            every = builder.shuffle_vector(one, one, ir.Constant(lanes, [0] * LANES))
            is_below = builder.sext(builder.icmp_signed("<", every, own), lanes)
            builder.store(builder.sub(builder.load(below), is_below), below)
        place = builder.bitcast(builder.gep(told, [first]), lanes.as_pointer())
        builder.store(builder.load(below), place, align=4)
        return context.get_dummy_value()

    return types.none(values, types.intp, types.intp, ranks), generate


load_word: Any = intrinsic(_load_word)
"""`load_word(text, at)`: the 8 bytes of `text` from `at` on, the first one lowest. They must be
there: nothing checks it."""
low_zeros: Any = intrinsic(_low_zeros)
"""`low_zeros(word)`: how many bits are below the lowest 1 of 64 bits, one of which is 1."""
prefetch: Any = intrinsic(_prefetch)
"""`prefetch(array, place)`: begin to load what is at `array[place]`."""
rank: Any = intrinsic(_rank)
"""`rank(values, first, count, ranks)`: how many of the first `count` of `values`, 32-bit numbers,
are below each of the LANES from `first` on, into `ranks` from `first` on. There must be so many in
both arrays: nothing checks it."""
