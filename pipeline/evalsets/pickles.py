"""Pickles: the dictionaries of CIFAR, read without Python's unpickler.

A pickle is a program. Of its instructions only those are carried out that build numbers, texts,
lists, dictionaries and numpy's arrays of bytes; nothing is imported and nothing is called, so that
a hostile file can do no more than fail. Bytes stay in the file: an array says where its own lie.
"""

import io
import math
import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.errors import BadInput

_MAX_STEPS = 4_000_000
"""Instructions; CIFAR-100's training split has about half a million."""
_MAX_MEMO = 4_000_000
_MAX_SIDES = 32
"""Of an array; numpy has no more."""


_NOWHERE = -1


class Raw(NamedTuple):
    """Bytes, and where they begin in the file; nowhere when they are written as text."""

    data: bytes
    offset: int


class Array(NamedTuple):
    """An array of bytes, rows first."""

    shape: tuple[int, ...]
    raw: Raw


class _Name(NamedTuple):
    """What a pickle would have imported."""

    module: str
    name: str


class _Unbuilt(list[Any]):
    """An array or a type of numpy's between its making and its state."""


class _Refused(Exception):
    pass


_MARK = object()
_ARRAYS = {_Name(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")}
_BUFFERS = {_Name(f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")}
_ENCODE = _Name("_codecs", "encode")
"""How Python 3 writes bytes in protocols older than itself."""
_KNOWN = {_ENCODE} | _ARRAYS | _BUFFERS | {_Name("numpy", "ndarray"), _Name("numpy", "dtype")}


def load(data: bytes, path: str) -> Any:
    """What the pickle `data` holds. Raises BadInput, naming `path`, where it holds anything else
    than numbers, texts, lists, dictionaries and arrays of bytes."""
    try:
        return _Machine(data).run()
    except _Refused as error:
        raise BadInput(
            f"{path} is a pickle that {error}, which no table of images needs: it was not loaded; "
            "fetch it again from where the set is published"
        ) from error
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:
        # What pickletools and the steps below raise on bytes that are no pickle.
        raise BadInput(f"{path} is not a whole pickle ({error}): fetch it again") from error


class _Machine:
    """The stack of a pickle's program."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """What is left at STOP."""
        for number, (code, arg, at) in enumerate(pickletools.genops(io.BytesIO(self._data))):
            if number > _MAX_STEPS:
                raise _Refused(f"has more than {_MAX_STEPS:,} steps")
            if code.name == "STOP":
                return self._stack.pop()
            if code.name in _BYTES:
                self._push_bytes(code.name, arg, at or 0)
            elif code.name in _VALUES:
                self._stack.append(_VALUES[code.name](arg))
            elif code.name in _PUTS:
                place = len(self._memo) if arg is None else int(arg)
                if place > _MAX_MEMO:
                    raise _Refused("asks for too much memory")
                self._memo[place] = self._stack[-1]
            elif code.name in _GETS:
                self._stack.append(self._memo[arg or 0])
            elif code.name == "GLOBAL":
                self._push_name(*str(arg).split(" ", 1))
            elif code.name not in ("PROTO", "FRAME"):
                if code.name not in _STEPS:
                    raise _Refused(f"uses the instruction {code.name} at byte {at}")
                getattr(self, f"_{code.name.lower()}")()
        raise ValueError("no end")

    def _push_bytes(self, name: str, arg: Any, at: int) -> None:
        # Python 2 wrote bytes as strings; pickletools reads those as Latin-1.
        data = arg.encode("latin-1") if isinstance(arg, str) else bytes(arg)
        self._stack.append(Raw(data, at + _BYTES[name]))

    def _push_name(self, module: str, name: str) -> None:
        found = _Name(module, name)
        if found not in _KNOWN:
            raise _Refused(f"asks for {module}.{name}"[:200])
        self._stack.append(found)

    def _to_mark(self) -> list[Any]:
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("no mark")
        held = self._stack[place + 1 :]
        del self._stack[place:]
        return held

    def _mark(self) -> None:
        self._stack.append(_MARK)

    def _pop(self) -> None:
        self._stack.pop()

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        # str() of a list that holds another twice, and so on, is as long as memory.
        self._push_name(_of(str, module), _of(str, name))

    def _tuple(self) -> None:
        self._stack.append(tuple(self._to_mark()))

    def _tuple1(self) -> None:
        self._stack[-1:] = [tuple(self._stack[-1:])]

    def _tuple2(self) -> None:
        self._stack[-2:] = [tuple(self._stack[-2:])]

    def _tuple3(self) -> None:
        self._stack[-3:] = [tuple(self._stack[-3:])]

    def _list(self) -> None:
        self._stack.append(self._to_mark())

    def _append(self) -> None:
        value = self._stack.pop()
        _of(list, self._stack[-1]).append(value)

    def _appends(self) -> None:
        held = self._to_mark()
        _of(list, self._stack[-1]).extend(held)

    def _dict(self) -> None:
        held = self._to_mark()
        self._stack.append({_key(k): v for k, v in zip(held[::2], held[1::2], strict=True)})

    def _setitem(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        _of(dict, self._stack[-1])[_key(key)] = value

    def _setitems(self) -> None:
        held = self._to_mark()
        pairs = zip(held[::2], held[1::2], strict=True)
        _of(dict, self._stack[-1]).update({_key(key): value for key, value in pairs})

    def _reduce(self) -> None:
        args, name = self._stack.pop(), self._stack.pop()
        if not isinstance(name, _Name):  # and is not looked up: to hash what is nested can crash
            raise _Refused("calls what is not numpy's")
        if name == _Name("numpy", "dtype"):
            self._stack.append(_Unbuilt([name, _text(args[0])]))
        elif name == _ENCODE:
            text, encoding = args
            if encoding != "latin1":
                raise ValueError("bytes in another encoding than Latin-1")
            self._stack.append(Raw(_of(str, text).encode("latin-1"), _NOWHERE))
        elif name in _ARRAYS:
            self._stack.append(_Unbuilt([name]))
        elif name in _BUFFERS:
            raw, kind, shape, order = args
            self._stack.append(_array(shape, kind, raw, is_fortran=_text(order) == "F"))
        else:
            raise _Refused(f"calls {name.module}.{name.name}")

    def _build(self) -> None:
        state, made = self._stack.pop(), self._stack[-1]
        if not isinstance(made, _Unbuilt):
            raise _Refused("gives a state to what has none")
        if made[0] == _Name("numpy", "dtype"):
            return  # its byte order, and that says nothing of single bytes
        _, shape, kind, is_fortran, raw = state
        made[:] = [made[0], _array(shape, kind, raw, is_fortran=bool(is_fortran))]


def _array(shape: Any, kind: Any, raw: Any, *, is_fortran: bool) -> Array:
    is_bytes = isinstance(kind, _Unbuilt) and kind[1] in ("u1", "uint8", "|u1")
    if not is_bytes or is_fortran:
        raise ValueError("an array that is not one of bytes, rows first")
    if not isinstance(raw, Raw) or raw.offset == _NOWHERE:
        raise ValueError("an array whose bytes are written as text: pickle it with protocol 3")
    sides = tuple(_of(int, side) for side in shape)
    if any(not 0 <= side <= len(raw.data) for side in sides[:_MAX_SIDES]):
        raise ValueError(f"an array of other sides than its {len(raw.data)} bytes have")
    size = math.prod(sides[:_MAX_SIDES])
    if len(sides) > _MAX_SIDES or size != len(raw.data):
        raise ValueError(f"an array of {size} bytes that has {len(raw.data)}")
    return Array(sides, raw)


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{type(value).__name__} where {kind.__name__} was due")
    return value


def _text(value: Any) -> str:
    return value.data.decode("latin-1") if isinstance(value, Raw) else str(_of(str, value))


def _key(value: Any) -> str | int:
    return value if isinstance(value, int) else _text(value)


def finished(value: Any) -> Any:
    """`value`, or the array that was built in its place."""
    return value[1] if isinstance(value, _Unbuilt) and len(value) > 1 else value


_BYTES = {"SHORT_BINSTRING": 2, "BINSTRING": 5, "SHORT_BINBYTES": 2, "BINBYTES": 5}
_BYTES |= {"BINBYTES8": 9, "BYTEARRAY8": 9}
"""Instructions of raw bytes, and how far behind their beginning those lie."""
_AS_IT_IS: tuple[str, ...] = (
    "INT",
    "LONG",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "LONG4",
    "STRING",
)
_AS_IT_IS += ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "FLOAT", "BINFLOAT")
_VALUES: dict[str, Callable[[Any], Any]] = {name: lambda arg: arg for name in _AS_IT_IS}
_VALUES |= {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "EMPTY_TUPLE": lambda _: (),
}
_STEPS = {"MARK", "POP", "STACK_GLOBAL", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "LIST", "APPEND"}
_STEPS |= {"APPENDS", "DICT", "SETITEM", "SETITEMS", "REDUCE", "BUILD"}
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_GETS = ("GET", "BINGET", "LONG_BINGET")
