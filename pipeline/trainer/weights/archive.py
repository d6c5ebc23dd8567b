"""Archive: the tensors of a file of torch.save or torch.jit.save, read without running anything.

Both are zips with a pickle, data.pkl, and the bytes of each storage in data/. Of the pickle only
tensors, dictionaries and stand-ins for objects are built; a storage is read when its tensor is
asked for, and no more than the tensor needs. Compiled code in the zip is never looked at.
"""

import math
import struct
import zipfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from pipeline.errors import BadInput
from pipeline.pickles import DAMAGE, Machine, Name, Refused, of
from pipeline.trainer.weights.tensors import Tensors, shown

_MAX_DIRECTORY = 4 * 2**20
"""Bytes of the zip's list of members, which is read as one; RN50x64 has a few hundred kB."""
_MAX_PICKLE = 4 * 2**20
_MAX_SIDES = 8
_MAX_DEPTH = 32
"""Of modules in modules."""
_MAX_MODULES = 100_000
_MAX_NAME = 1_000
_LOCAL = struct.Struct("<26xHH")
"""A member's own header: how long its name and its extra field are."""
_KINDS = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
}
_TENSOR = Name("torch._utils", "_rebuild_tensor_v2")
_PARAMETER = Name("torch._utils", "_rebuild_parameter")
_ORDERED = Name("collections", "OrderedDict")


class _Storage(NamedTuple):
    kind: torch.dtype
    key: str
    length: int


class _Lying(NamedTuple):
    """A tensor that still lies in its storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class _Object:
    """What stands for an object of any class."""

    name: Name | None = None
    state: Any = field(default=None, repr=False)


class _Machine(Machine):
    """Knows tensors and ordered dictionaries; everything else becomes a stand-in."""

    def named(self, name: Name, /) -> Name:
        return name

    def called(self, function: Any, args: Any, /) -> Any:
        if not isinstance(function, Name):
            raise Refused("calls what has no name")
        args = of(tuple, args)
        if function == _TENSOR:
            return _lying(*args[:4])
        if function == _PARAMETER:
            return args[0]
        if function == _ORDERED:
            return {of(str, name): value for name, value in args[0]} if args else {}
        return _Object(function)

    def given(self, made: Any, state: Any, /) -> None:
        # A dictionary's state are notes of torch's about the versions of its modules.
        if isinstance(made, _Object):
            made.state = state

    def stored(self, told: Any, /) -> _Storage:
        what, kind, key, _, length = of(tuple, told)
        # Nothing is spelled that is not a name: a nest of lists may be as long as memory.
        if what != "storage" or not isinstance(kind, Name):
            raise Refused("asks for what is no storage")
        if kind.name not in _KINDS:
            raise Refused(f"asks for a storage of {kind.module}.{kind.name}"[:200])
        return _Storage(_KINDS[kind.name], of(str, key), of(int, length))


def _lying(storage: Any, offset: Any, shape: Any, strides: Any) -> _Lying:
    sides, steps = (tuple(of(int, n) for n in of(tuple, told)) for told in (shape, strides))
    if len(sides) > _MAX_SIDES or len(sides) != len(steps):
        raise Refused(f"has a tensor of {len(sides)} sides and {len(steps)} strides")
    if any(number < 0 for number in (of(int, offset), *sides, *steps)):
        raise Refused("has a tensor with a negative side, stride or offset")
    # Strides that step over one another would make much of few bytes.
    reach = 1
    for step, side in sorted((step, side) for step, side in zip(steps, sides, strict=True)):
        if side > 1 and step < reach:
            raise Refused("has a tensor whose elements lie in one another")
        reach = max(reach, step * (side - 1) + reach)
    return _Lying(of(_Storage, storage), offset, sides, steps)


class Archive:
    """An open file; its root, and its tensors by name."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file, self._walked = path, file, 0
        self._bytes = path.stat().st_size
        self._members = self._listed()
        found = [name for name in self._members if name.count("/") == 1]
        roots = [name.removesuffix("data.pkl") for name in found if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise self._refused(f"has {len(roots)} members data.pkl where a torch archive has one")
        self._root = roots[0]
        if self._small("byteorder", 16) not in (None, b"little"):
            raise self._refused("is of a machine whose bytes are in another order")
        self.is_script = f"{self._root}constants.pkl" in self._members
        """Whether torch.jit wrote it."""
        self.root = self._unpickled()

    def tensors(self) -> Tensors:
        """Its tensors by name: a script's by the path of its modules, else those of its state."""
        lying: dict[str, _Lying] = {}
        if self.is_script:
            self._walk("", self.root, lying, 0)
        else:
            state = self.root
            if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
                state = state["state_dict"]
            if not isinstance(state, dict):
                raise self._refused(
                    "holds no dictionary of weights but a whole object: load it where it was made "
                    "and save its state_dict()"
                )
            lying = {str(n): tensor for n, tensor in state.items() if isinstance(tensor, _Lying)}
        self._check(lying)
        shapes = {name: tensor.shape for name, tensor in lying.items()}
        return Tensors(shapes, lambda name: self._load(lying[name]))

    def _walk(self, prefix: str, module: Any, found: dict[str, _Lying], depth: int) -> None:
        self._walked += 1
        if depth > _MAX_DEPTH or self._walked > _MAX_MODULES or len(prefix) > _MAX_NAME:
            raise self._refused("nests more modules than a model has")
        state = module.state if isinstance(module, _Object) else None
        for name, value in state.items() if isinstance(state, dict) else ():
            if isinstance(value, _Lying):
                found[f"{prefix}{name}"] = value
            elif isinstance(value, _Object):
                self._walk(f"{prefix}{name}.", value, found, depth + 1)

    def _check(self, lying: dict[str, _Lying]) -> None:
        total = 0
        for name, (storage, offset, shape, strides) in lying.items():
            held = self._sizes(storage)
            last = sum(step * (side - 1) for step, side in zip(strides, shape, strict=True))
            if 0 not in shape and offset + last >= storage.length:
                raise self._refused(f"has a tensor `{name}`"[:200] + " that ends behind its bytes")
            if storage.length * storage.kind.itemsize > held:
                raise self._refused(
                    f"promises {storage.length:,} numbers of `{name}`"[:200] + f" in {held:,} bytes"
                )
            total += math.prod(shape) * storage.kind.itemsize
        if total > self._bytes:
            raise self._refused(f"makes {total:,} bytes of tensors from {self._bytes:,}")

    def _sizes(self, storage: _Storage) -> int:
        return self._member(f"data/{storage.key}").file_size

    def _load(self, lying: _Lying) -> Tensor:
        kind = lying.storage.kind
        if 0 in lying.shape:
            return torch.empty(lying.shape, dtype=kind)
        pairs = zip(lying.strides, lying.shape, strict=True)
        numbers = sum(step * (side - 1) for step, side in pairs) + 1
        begin = self._begin(f"data/{lying.storage.key}") + lying.offset * kind.itemsize
        self._file.seek(begin)
        data = bytearray(self._file.read(numbers * kind.itemsize))
        flat = torch.frombuffer(data, dtype=kind)
        return flat.as_strided(lying.shape, lying.strides)

    def _listed(self) -> dict[str, zipfile.ZipInfo]:
        try:
            # The list of members is the one long read of a zip that is opened.
            with zipfile.ZipFile(_Wary(self._file)) as opened:
                members = opened.infolist()
        except (zipfile.BadZipFile, _TooLong, *DAMAGE, OSError, NotImplementedError) as error:
            raise self._refused(f"is no whole torch archive ({error})") from None
        listed = {member.filename: member for member in members}
        if len(listed) != len(members):
            raise self._refused("has two members of one name")
        return listed

    def _member(self, name: str) -> zipfile.ZipInfo:
        found = self._members.get(self._root + name)
        if found is None:
            raise self._refused(f"lacks its member {name}"[:200])
        if found.compress_type != zipfile.ZIP_STORED or found.flag_bits & 1:
            raise self._refused(f"has packed its member {name}"[:200] + ", which torch never does")
        if found.file_size != found.compress_size:
            raise self._refused(f"says two lengths of its member {name}"[:200])
        return found

    def _begin(self, name: str) -> int:
        member = self._member(name)
        if member.header_offset < 0:
            raise self._refused(f"says that its member {name}"[:200] + " begins before the file")
        self._file.seek(member.header_offset)
        head = self._file.read(30)
        is_one = len(head) == 30 and head.startswith(b"PK\3\4")
        begin = member.header_offset + 30 + sum(_LOCAL.unpack(head)) if is_one else self._bytes
        if begin + member.file_size > self._bytes:
            raise self._refused(f"ends within its member {name}"[:200])
        return begin

    def _small(self, name: str, limit: int) -> bytes | None:
        """A member's bytes, if there is one of that name and it has no more than `limit`."""
        if self._root + name not in self._members:
            return None
        member, begin = self._member(name), self._begin(name)
        if member.file_size > limit:
            raise self._refused(f"has {member.file_size:,} bytes of {name}")
        self._file.seek(begin)
        return self._file.read(member.file_size)

    def _unpickled(self) -> Any:
        try:
            return _Machine(self._small("data.pkl", _MAX_PICKLE) or b"").run()
        except Refused as error:
            raise self._refused(f"{error}, which no weights need") from None
        except DAMAGE as error:
            raise self._refused(f"has a damaged data.pkl ({error})"[:300]) from None

    def _refused(self, why: str) -> BadInput:
        return BadInput(
            f"{self._path} {shown(why, 400)}: it was not loaded; fetch it again from its maker"
        )


class _TooLong(Exception):
    pass


class _Wary:
    """A file that does not read a long list of members."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell
        self.seekable = partial(bool, True)

    def read(self, length: int = -1) -> bytes:
        if length < 0:
            # The zip's end is looked for in the file's last bytes.
            length = _MAX_DIRECTORY
        if length > _MAX_DIRECTORY:
            raise _TooLong(f"a list of members of {length:,} bytes")
        return self._file.read(length)
