"""Pickles: a pickle's program carried out without Python's unpickler.

Of its instructions only those are known that build numbers, texts, lists and dictionaries. Nothing
is imported and nothing is called: a name, a call and a state go to the subclass, which builds what
its files need and refuses the rest, so that a hostile file can do no more than fail.
"""

import io
import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

_MAX_STEPS = 4_000_000
"""Instructions; CIFAR-100's training split has about half a million."""
_MAX_MEMO = 4_000_000


NOWHERE = -1


class Raw(NamedTuple):
    """Bytes, and where they begin in the file; nowhere when they are written as text."""

    data: bytes
    offset: int


class Name(NamedTuple):
    """What a pickle would have imported."""

    module: str
    name: str


class Refused(Exception):
    """The pickle asks for what its kind of file has no need of; says what, as its predicate."""


DAMAGE = (
    *(ValueError, IndexError, KeyError, TypeError, AttributeError),
    *(OverflowError, RecursionError, MemoryError),
)
"""What pickletools and the steps below raise on bytes that are no pickle."""
_MARK = object()


class Machine:
    """The stack of a pickle's program."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """What is left at STOP."""
        for number, (code, arg, at) in enumerate(pickletools.genops(io.BytesIO(self._data))):
            if number > _MAX_STEPS:
                raise Refused(f"has more than {_MAX_STEPS:,} steps")
            if code.name == "STOP":
                return self._stack.pop()
            if code.name in _BYTES:
                self._push_bytes(code.name, arg, at or 0)
            elif code.name in _VALUES:
                self._stack.append(_VALUES[code.name](arg))
            elif code.name in _PUTS:
                place = len(self._memo) if arg is None else int(arg)
                if place > _MAX_MEMO:
                    raise Refused("asks for too much memory")
                self._memo[place] = self._stack[-1]
            elif code.name in _GETS:
                self._stack.append(self._memo[arg or 0])
            elif code.name == "GLOBAL":
                self._push_name(*str(arg).split(" ", 1))
            elif code.name not in ("PROTO", "FRAME"):
                if code.name not in _STEPS:
                    raise Refused(f"uses the instruction {code.name} at byte {at}")
                getattr(self, f"_{code.name.lower()}")()
        raise ValueError("no end")

    def _push_bytes(self, name: str, arg: Any, at: int) -> None:
        # Python 2 wrote bytes as strings; pickletools reads those as Latin-1.
        data = arg.encode("latin-1") if isinstance(arg, str) else bytes(arg)
        self._stack.append(Raw(data, at + _BYTES[name]))

    def named(self, name: Name, /) -> Any:
        """What stands for `name`; refused unless a subclass knows it."""
        raise Refused(f"asks for {name.module}.{name.name}"[:200])

    def called(self, _function: Any, _args: Any, /) -> Any:
        """What stands for the result of a call; the function is anything that lay on the stack."""
        raise Refused("calls a function")

    def given(self, _made: Any, _state: Any, /) -> None:
        """Take a state into what was built."""
        raise Refused("gives a state to what has none")

    def stored(self, _told: Any, /) -> Any:
        """What stands for an object that lies outside the pickle."""
        raise Refused("asks for what lies outside of it")

    def _push_name(self, module: str, name: str) -> None:
        self._stack.append(self.named(Name(module, name)))

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
        self._push_name(of(str, module), of(str, name))

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
        of(list, self._stack[-1]).append(value)

    def _appends(self) -> None:
        held = self._to_mark()
        of(list, self._stack[-1]).extend(held)

    def _dict(self) -> None:
        held = self._to_mark()
        self._stack.append({as_key(k): v for k, v in zip(held[::2], held[1::2], strict=True)})

    def _setitem(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        of(dict, self._stack[-1])[as_key(key)] = value

    def _setitems(self) -> None:
        held = self._to_mark()
        pairs = zip(held[::2], held[1::2], strict=True)
        of(dict, self._stack[-1]).update({as_key(key): value for key, value in pairs})

    def _reduce(self) -> None:
        args, function = self._stack.pop(), self._stack.pop()
        self._stack.append(self.called(function, args))

    _newobj = _reduce

    def _build(self) -> None:
        state = self._stack.pop()
        self.given(self._stack[-1], state)

    def _binpersid(self) -> None:
        self._stack.append(self.stored(self._stack.pop()))


def of(kind: type, value: Any) -> Any:
    """`value`, which must be of exactly this kind."""
    if type(value) is not kind:
        raise ValueError(f"{type(value).__name__} where {kind.__name__} was due")
    return value


def as_text(value: Any) -> str:
    """`value` as a text; Python 2 wrote texts as bytes."""
    return value.data.decode("latin-1") if isinstance(value, Raw) else str(of(str, value))


def as_key(value: Any) -> str | int:
    """`value` as the key of a dictionary: to hash what is nested can crash."""
    return value if isinstance(value, int) else as_text(value)


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
_STEPS |= {"APPENDS", "DICT", "SETITEM", "SETITEMS", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID"}
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_GETS = ("GET", "BINGET", "LONG_BINGET")
