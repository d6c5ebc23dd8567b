"""Pickles: the dictionaries of CIFAR, read without Python's unpickler.

Of what a pickle can call only numpy's arrays of bytes are built. Bytes stay in the file: an array
says where its own lie.
"""

import math
from typing import Any, NamedTuple

from pipeline.errors import BadInput
from pipeline.pickles import DAMAGE, NOWHERE, Machine, Name, Raw, Refused, as_text, of

__all__ = ["Array", "Raw", "finished", "load"]

_MAX_SIDES = 32
"""Of an array; numpy has no more."""


class Array(NamedTuple):
    """An array of bytes, rows first."""

    shape: tuple[int, ...]
    raw: Raw


class _Unbuilt(list[Any]):
    """An array or a type of numpy's between its making and its state."""


_ARRAYS = {Name(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")}
_BUFFERS = {Name(f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")}
_ENCODE = Name("_codecs", "encode")
"""How Python 3 writes bytes in protocols older than itself."""
_DTYPE = Name("numpy", "dtype")
_KNOWN = {_ENCODE} | _ARRAYS | _BUFFERS | {Name("numpy", "ndarray"), _DTYPE}


def load(data: bytes, path: str) -> Any:
    """What the pickle `data` holds. Raises BadInput, naming `path`, where it holds anything else
    than numbers, texts, lists, dictionaries and arrays of bytes."""
    try:
        return _Machine(data).run()
    except Refused as error:
        raise BadInput(
            f"{path} is a pickle that {error}, which no table of images needs: it was not loaded; "
            "fetch it again from where the set is published"
        ) from error
    except DAMAGE as error:
        raise BadInput(f"{path} is not a whole pickle ({error}): fetch it again") from error


class _Machine(Machine):
    """Knows numpy's arrays of bytes."""

    def named(self, name: Name, /) -> Name:
        return name if name in _KNOWN else super().named(name)

    def called(self, function: Any, args: Any, /) -> Any:
        if not isinstance(function, Name):  # and is not looked up: to hash what is nested can crash
            raise Refused("calls what is not numpy's")
        if function == _DTYPE:
            return _Unbuilt([function, as_text(args[0])])
        if function == _ENCODE:
            letters, encoding = args
            if encoding != "latin1":
                raise ValueError("bytes in another encoding than Latin-1")
            return Raw(of(str, letters).encode("latin-1"), NOWHERE)
        if function in _ARRAYS:
            return _Unbuilt([function])
        if function in _BUFFERS:
            raw, kind, shape, order = args
            return _array(shape, kind, raw, is_fortran=as_text(order) == "F")
        raise Refused(f"calls {function.module}.{function.name}")

    def given(self, made: Any, state: Any, /) -> None:
        if not isinstance(made, _Unbuilt):
            super().given(made, state)
        if made[0] == _DTYPE:
            return  # its byte order, and that says nothing of single bytes
        _, shape, kind, is_fortran, raw = state
        made[:] = [made[0], _array(shape, kind, raw, is_fortran=bool(is_fortran))]


def _array(shape: Any, kind: Any, raw: Any, *, is_fortran: bool) -> Array:
    is_bytes = isinstance(kind, _Unbuilt) and kind[1] in ("u1", "uint8", "|u1")
    if not is_bytes or is_fortran:
        raise ValueError("an array that is not one of bytes, rows first")
    if not isinstance(raw, Raw) or raw.offset == NOWHERE:
        raise ValueError("an array whose bytes are written as text: pickle it with protocol 3")
    sides = tuple(of(int, side) for side in shape)
    if any(not 0 <= side <= len(raw.data) for side in sides[:_MAX_SIDES]):
        raise ValueError(f"an array of other sides than its {len(raw.data)} bytes have")
    size = math.prod(sides[:_MAX_SIDES])
    if len(sides) > _MAX_SIDES or size != len(raw.data):
        raise ValueError(f"an array of {size} bytes that has {len(raw.data)}")
    return Array(sides, raw)


def finished(value: Any) -> Any:
    """`value`, or the array that was built in its place."""
    return value[1] if isinstance(value, _Unbuilt) and len(value) > 1 else value
