"""Training: a fasttext model that tells the captions that a user likes from the others.

reads   captions with labels: fasttext's own lines, or a table with columns caption and label
writes  a model, .bin, for `ingest.filter_model`
"""

import csv
import hashlib
import importlib
import json
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import BadInput
from pipeline.ingest.captions import clean_caption, normalise_all
from pipeline.ingest.model import Floats, Model
from pipeline.text import encodable

_PREFIX = "__label__"
_MIN_CAPTIONS = 50
"""Of each label: with fewer, the figures of the held-out ones say nothing."""
_HELD_OUT = 5
"""One caption of so many is measured on and not trained on."""
_MAX_LINE = 1 << 20

# The rate and passes of fasttext's tutorial for short texts; word pairs as DCLM's filter has them.
_SETTINGS = {"lr": 0.5, "epoch": 25, "wordNgrams": 2, "dim": 16, "bucket": 1 << 18, "minCount": 1}

# floret is fasttext with one more table, and writes two numbers more than it.
_HEAD = "<2i11i"
_MODE_AND_HASHES = struct.pack("<2i", 1, 1)


class Line(NamedTuple):
    """How well one label is found among the held-out captions."""

    label: str
    captions: int
    precision: float
    recall: float


@dataclass(frozen=True)
class Report:
    """What a model was trained on, and how well it does."""

    trained: int
    held_out: int
    dropped: dict[str, int]
    lines: list[Line]


def train(labels: str, out: str, seed: int = 0) -> Report:
    """Train on the file `labels` and write the model to `out`: the same captions, in any order,
    make the same bytes.

    Raises BadInput for a file that cannot be read, has too few captions, or only one label.
    """
    label_of, dropped = _distinct(_labelled(labels))
    # By hash, so that neither the order of the file nor its length decides where a caption goes.
    in_order = sorted(label_of, key=lambda caption: _hash(caption, seed))
    held_out = [c for c in in_order if _hash(c, seed) % _HELD_OUT == 0]
    trained = [c for c in in_order if _hash(c, seed) % _HELD_OUT]
    _check(labels, Counter(label_of.values()), Counter(label_of[c] for c in held_out))
    target = Path(out)
    with TemporaryDirectory(dir=_folder(target)) as scratch:
        lines = Path(scratch, "captions.txt")
        lines.write_bytes("".join(f"{_PREFIX}{label_of[c]} {c}\n" for c in trained).encode())
        staged = Path(scratch, "model.bin")
        _fit(str(lines), str(staged), seed)
        model = Model.load(str(staged))
        best, scores = model.best(pa.array(held_out, pa.string()))
        told = [model.labels[place] if place >= 0 else "" for place in best]
        _prove(str(staged), held_out, told, scores)
        staged.replace(target)
    wanted = [label_of[caption] for caption in held_out]
    by_reason = dict(sorted(dropped.items()))
    return Report(len(trained), len(held_out), by_reason, _measured(told, wanted))


def _folder(target: Path) -> Path:
    if not target.parent.is_dir() or target.is_dir():
        raise BadInput(f"--out {target}: its folder does not exist, or it is one: name a file")
    return target.parent


def _hash(caption: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\n{caption}".encode()).digest()[:8], "big")


def _check(path: str, captions: Counter[str], held_out: Counter[str]) -> None:
    if len(captions) < 2:
        told = f"the label {next(iter(captions))!r} alone" if captions else "no labelled caption"
        raise BadInput(f"--labels {path} has {told}: label captions of two kinds at least")
    for label, count in sorted(captions.items()):
        if count < _MIN_CAPTIONS or not held_out[label]:
            raise BadInput(
                f"--labels {path} has {count} captions labelled {label!r}: label at least "
                f"{_MIN_CAPTIONS}"
            )


def _fit(lines: str, out: str, seed: int) -> None:
    try:
        floret: Any = importlib.import_module("floret")
    except ImportError:
        raise BadInput(
            "floret is missing, which trains the model: `pip install webimagetext[filter]`"
        ) from None
    # One thread: more of them write over one another's steps, each time otherwise.
    model = floret.train_supervised(lines, thread=1, seed=seed, verbose=0, **_SETTINGS)
    model.save_model(out)
    written = Path(out).read_bytes()
    size = struct.calcsize(_HEAD)
    head, extra, tail = written[:size], written[size : size + 8], written[size + 8 :]
    if extra != _MODE_AND_HASHES:
        raise BadInput("floret writes another format than 0.10.5 does: install that version")
    Path(out).write_bytes(head + tail)


def _prove(path: str, captions: list[str], told: list[str], scores: Floats) -> None:
    """Raises BadInput unless fasttext itself reads the file, and says of each caption the label
    and the probability that we do, to the bit: it is written in fasttext's format by another."""
    mend = "install floret 0.10.5 and fasttext-predict 0.9.2.4, which agree"
    try:
        model = fasttext.load_model(path)
        for caption, label, score in zip(captions, told, scores, strict=True):
            labels, probabilities = model.predict(caption, k=1)
            theirs = labels[0].removeprefix(_PREFIX) if labels else ""
            probability = min(np.float32(probabilities[0]), np.float32(1)) if labels else 0
            if (theirs, probability) != (label, score):
                raise BadInput(f"fasttext scores {caption[:60]!r} otherwise than wit: {mend}")
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"fasttext does not read the model ({error}): {mend}") from None


def _measured(told: list[str], wanted: list[str]) -> list[Line]:
    hits = Counter(label for label, other in zip(told, wanted, strict=True) if label == other)
    called, there = Counter(told), Counter(wanted)
    return [
        Line(label, count, hits[label] / (called[label] or 1), hits[label] / count)
        for label, count in sorted(there.items())
    ]


# -- labels --------------------------------------------------------------------------------


def _distinct(rows: Iterable[tuple[Any, Any]]) -> tuple[dict[str, str], Counter[str]]:
    """The label of each normalised caption, and how many rows were dropped, by reason."""
    dropped: Counter[str] = Counter()
    label_of: dict[str, str] = {}
    torn: Counter[str] = Counter()
    found = [(caption, label) for caption, label in rows]
    cleaned = [clean_caption(c) if isinstance(c, str) else "" for c, _ in found]
    for caption, (_, label) in zip(
        normalise_all(pa.array(cleaned, pa.string())).to_pylist(), found, strict=True
    ):
        # What ends a word to fasttext, in a label too.
        words = "" if label is None else encodable(str(label)).replace("\0", " ")
        name = "-".join(words.split())
        if not caption:
            dropped["no words"] += 1
        elif not name:
            dropped["no label"] += 1
        elif caption in torn or label_of.get(caption, name) != name:
            torn[caption] += 1
        elif caption in label_of:
            dropped["duplicate"] += 1
        else:
            label_of[caption] = name
    for caption, rows_more in torn.items():
        del label_of[caption]
        dropped["two labels"] += 1 + rows_more
    return label_of, dropped


def _labelled(path: str) -> Iterator[tuple[Any, Any]]:
    """Captions and labels of a file, as they are written."""
    kinds = {".parquet": _parquet, ".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl}
    read = kinds.get(Path(path).suffix.lower(), _lines)
    try:
        yield from read(path)
    except (OSError, pa.ArrowException, csv.Error, ValueError) as error:
        raise BadInput(f"--labels {path} cannot be read ({error}): correct it") from None


def _lines(path: str) -> Iterator[tuple[Any, Any]]:
    with Path(path).open("rb") as stream:
        while line := stream.readline(_MAX_LINE):
            words = line.decode(errors="replace").split()
            labels = [word for word in words if word.startswith(_PREFIX)]
            caption = " ".join(word for word in words if not word.startswith(_PREFIX))
            for label in labels or words[:1]:
                yield caption, label.removeprefix(_PREFIX) if labels else None


def _csv(path: str) -> Iterator[tuple[Any, Any]]:
    with Path(path).open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t" if path.lower().endswith("tsv") else ",")
        _need_columns(path, rows.fieldnames or [])
        for row in rows:
            yield row["caption"], row["label"]


def _jsonl(path: str) -> Iterator[tuple[Any, Any]]:
    with Path(path).open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except RecursionError:
                    row = None
                if not isinstance(row, dict):
                    raise BadInput(f"--labels {path}, line {number} is no object: correct it")
                _need_columns(path, row)
                yield row["caption"], row["label"]


def _parquet(path: str) -> Iterator[tuple[Any, Any]]:
    with pq.ParquetFile(path) as file:
        _need_columns(path, file.schema_arrow.names)
        for batch in file.iter_batches(columns=["caption", "label"]):
            captions, labels = batch.column("caption"), batch.column("label")
            yield from zip(captions.to_pylist(), labels.to_pylist(), strict=True)


def _need_columns(path: str, has: Iterable[str]) -> None:
    missing = [name for name in ("caption", "label") if name not in has]
    if missing:
        raise BadInput(
            f"--labels {path} has no column {' and no column '.join(missing)} (it has "
            f"{', '.join(map(str, has))}): name them caption and label"
        )
