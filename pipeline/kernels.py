"""Kernels: loops over bytes and numbers, compiled to machine code when first called."""

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.caching import CacheImpl, UserProvidedCacheLocator
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


_ROOT = Path(__file__).resolve().parent.parent
"""A folder, or the zip that was sent to a cluster."""


def _sources() -> list[bytes]:
    """Every source file that may hold a kernel, in the order of their names."""
    if _ROOT.is_dir():
        files = [file for room in ("pipeline", "queries") for file in (_ROOT / room).rglob("*.py")]
        named = {file.relative_to(_ROOT).as_posix(): file.read_bytes() for file in files}
    else:
        with zipfile.ZipFile(_ROOT) as packed:
            names = [name for name in packed.namelist() if name.endswith(".py")]
            rooms = ("pipeline/", "queries/")
            named = {name: packed.read(name) for name in names if name.startswith(rooms)}
    return [named[name] for name in sorted(named)]


def _cache_folder() -> Path:
    """Where machine code is kept, by the sources of all kernels: numba itself looks only at the
    file of the kernel, and not at those of the kernels that it calls."""
    digest = hashlib.sha256()
    for code in _sources():
        if b"pipeline.kernels" in code or b"def _cache_folder" in code:
            digest.update(code)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "webimagetext" / digest.hexdigest()[:16]


class BySources(UserProvidedCacheLocator):
    """Keeps the machine code of our kernels by their places among our sources, wherever those lie:
    an executor of Spark has them in another folder each time, or in a zip."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        self._lineno = py_func.__code__.co_firstlineno
        place = Path(py_file).resolve().relative_to(_ROOT).parent
        self._cache_path = str(Path(numba.config.CACHE_DIR, place))  # type: ignore[attr-defined]

    def get_source_stamp(self) -> str:
        return "by the folder's name"

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "BySources | None":
        if not Path(py_file).resolve().is_relative_to(_ROOT):
            return None
        made = cls(py_func, py_file)
        try:
            made.ensure_cache_path()  # type: ignore[no-untyped-call]
        except OSError:
            return None
        return made


if "NUMBA_CACHE_DIR" not in os.environ and "NUMBA_CACHE_LOCATOR_CLASSES" not in os.environ:
    with contextlib.suppress(RuntimeError):  # where the user has no home
        numba.config.CACHE_DIR = str(_cache_folder())  # type: ignore[attr-defined]
        others = ",".join(kind.__name__ for kind in CacheImpl._locator_classes)
        numba.config.CACHE_LOCATOR_CLASSES = f"{__name__}.BySources,{others}"  # type: ignore[attr-defined]


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
