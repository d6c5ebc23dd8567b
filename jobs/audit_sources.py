"""Audit sources: the shards or tables of a corpus that somebody else made, as a user names them."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from jobs.stamps import digest, stamp
from pipeline.captions import is_table, is_tar
from pipeline.errors import BadInput
from pipeline.scan import Shard

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MAX_FILES = 5_000_000
_SCAN = 2
"""Raised when a scan finds more or other things than it did: what is there is then made anew."""


@dataclass(frozen=True)
class Corpus:
    """The files of a corpus: tars, or tables of captions."""

    name: str
    shards: list[Shard]
    tables: list[Path]


def corpus(named: Sequence[str], scans: Path) -> Corpus:
    """The files that are named: a folder, a pattern as {00000..00099}.tar or *.tar, or a list.

    Raises BadInput when one is missing, or there is nothing, or tars stand beside tables.
    """
    files = [file for name in named for file in _fitting(name)]
    files = sorted(dict.fromkeys(path.absolute() for path in files))
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 1:,} more" if missing[1:] else ""
        raise BadInput(f"--corpus: {missing[0]}{more} not found: correct the name or the pattern")
    tars = [path for path in files if is_tar(path)]
    tables = [path for path in files if not is_tar(path)]
    if tars and tables:
        raise BadInput(
            f"--corpus: tars ({tars[0].name}) beside tables ({tables[0].name}): name one kind"
        )
    if not files:
        raise BadInput("--corpus: no tar and no table (parquet, csv, tsv, jsonl): name some")
    unknown = [path.name for path in tables if not is_table(path)]
    if unknown:
        raise BadInput(f"--corpus: {unknown[0]} is neither a tar nor a table: name tars")
    root = Path(os.path.commonpath([path.parent for path in files]))
    shards = [_shard(path, path.relative_to(root).as_posix(), scans) for path in tars]
    return Corpus(" ".join(named), shards, tables)


def _shard(path: Path, name: str, scans: Path) -> Shard:
    known_by = digest([_SCAN, str(path), name, stamp(str(path))])[:20]
    plain = re.sub(r"[^\w.-]", "_", path.name)[:80]
    return Shard(name, str(path), str(scans / f"{plain}.{known_by}.parquet"))


def _fitting(named: str) -> list[Path]:
    found: list[Path] = []
    for name in [named] if Path(named).exists() else expanded(named):
        path = Path(name)
        if path.is_dir():
            found += _in_folder(path)
        elif not path.exists() and re.search(r"[*?\[]", name):
            fitting = sorted(glob.glob(name, recursive=True))  # noqa: PTH207
            if not fitting:
                raise BadInput(f"--corpus: no file fits {name}: correct the pattern")
            found += [Path(fit) for fit in fitting]
        else:
            found.append(path)
    return found


def _in_folder(folder: Path) -> list[Path]:
    """The tars of a folder, or else its tables: img2dataset writes both side by side."""
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
    ]
    tars = [file for file in files if is_tar(file) and file.is_file()]
    tables = [f for f in files if is_table(f) and f.is_file() and f.suffix.lower() != ".json"]
    if not tars and not tables:
        raise BadInput(f"--corpus: {folder} holds no tar and no table: name another folder")
    return tars or tables


def expanded(pattern: str) -> list[str]:
    """The names that braces stand for, as a shell has them: {00..11} and {a,b}."""
    pieces: list[list[str]] = []
    end = 0
    for brace in _BRACES.finditer(pattern):
        pieces += [[pattern[end : brace.start()]], _choices(brace[1])]
        end = brace.end()
    pieces.append([pattern[end:]])
    names = 1
    for piece in pieces:
        names *= len(piece)
    if names > _MAX_FILES:
        raise BadInput(f"--corpus: {pattern} stands for {names:,} files: name fewer")
    return ["".join(parts) for parts in product(*pieces)]


def _choices(inside: str) -> list[str]:
    span = _RANGE.fullmatch(inside)
    if span is None:
        return inside.split(",")
    first, last = int(span[1]), int(span[2])
    if abs(last - first) >= _MAX_FILES:
        raise BadInput(f"--corpus: {{{inside}}} stands for too many files: name fewer")
    is_padded = span[1].startswith("0") or span[2].startswith("0")
    width = max(len(span[1]), len(span[2])) if is_padded else 0
    step = 1 if first <= last else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]
