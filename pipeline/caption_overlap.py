"""Caption overlap: the captions of evaluation sets that stand in the corpus too.

reads   captions of the evaluation sets, captions of the corpus
writes  hits, found captions

Two captions are equal when their tokens are (pipeline.text). A long one is near another when both
hold the same 13 tokens in a row, as in GPT-3's contamination study. Short and generic captions are
equal by chance, so that those of five and more tokens are told apart.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.intervals import interval
from pipeline.text import tokens

PASSAGE = 13
"""Tokens in a row: measured beside 8 and 10 in docs/decisions.md#captions."""
LONG = 5
"""Tokens from which on a caption is hardly equal to another by chance."""
_LENGTHS = ((1, 2), (3, 4), (5, 7), (8, 12), (13, None))
_EXAMPLES = 12

HITS_DDL = "pair_id string, place long, caption string"

FOUND = pa.schema(
    [
        pa.field("evalset", pa.string(), nullable=False),
        pa.field("eval_id", pa.string(), nullable=False),
        pa.field("image", pa.string()),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False, metadata={"doc": "equal, or near"}),
        pa.field(
            "pairs",
            pa.int64(),
            nullable=False,
            metadata={"doc": "corpus pairs with that caption; for near, with one passage of it"},
        ),
        pa.field("pair_id", pa.string(), nullable=False, metadata={"doc": "the first by name"}),
        pa.field("pair_caption", pa.string(), nullable=False),
    ]
)

Keys = NDArray[np.bytes_]


class EvalCaption(NamedTuple):
    """A caption of an evaluation set."""

    evalset: str
    id: str
    image: str | None
    text: str


class Sought(NamedTuple):
    """What the corpus is searched for."""

    captions: list[EvalCaption]
    lengths: list[int]
    """Tokens of each caption."""
    keys: Keys
    """Digests of captions and passages, ascending, each once."""
    equal: list[int]
    """The place of each caption's own key; -1 where it has no token."""
    near: list[list[int]]
    """The places of its passages' keys."""


def keys_of(caption: str) -> list[bytes]:
    """The digests of a caption: its own, then those of its passages. None without tokens."""
    words = tokens(caption)
    return [] if not words else [_digest("=", words), *_passages(words)]


def _digest(kind: str, words: list[str]) -> bytes:
    # 128 bits: no two of 10^12 captions have one digest but with a chance of 10^-15.
    return blake2b((kind + " ".join(words)).encode(), digest_size=16).digest()


def _passages(words: list[str]) -> list[bytes]:
    starts = range(len(words) - PASSAGE + 1)
    return [_digest("~", words[start : start + PASSAGE]) for start in starts]


def sought(captions: Sequence[EvalCaption]) -> Sought:
    """The keys of evaluation captions."""
    own = [keys_of(caption.text) for caption in captions]
    found = np.unique(_as_keys([key for keys in own for key in keys]))
    places = dict(zip(found.tolist(), range(len(found)), strict=True))
    # Numpy takes zeros from the end of bytes.
    at = [[places[key.rstrip(b"\0")] for key in keys] for keys in own]
    return Sought(
        captions=list(captions),
        lengths=[len(tokens(caption.text)) for caption in captions],
        keys=found,
        equal=[places[0] if places else -1 for places in at],
        near=[places[1:] for places in at],
    )


def _as_keys(keys: list[bytes]) -> Keys:
    return np.frombuffer(b"".join(keys), "S16")


def hits(corpus: DataFrame, what: Sought) -> DataFrame:
    """Each pair of the corpus and each key that its caption holds, once.

    `corpus` has `pair_id` and `caption`. The keys go to every worker, so that no caption of the
    corpus is shuffled, however often it occurs.
    """
    shared = corpus.sparkSession.sparkContext.broadcast(what.keys)

    def search_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        known = shared.value
        for batch in batches:
            yield _hits_in(batch, known)

    return corpus.select("pair_id", "caption").mapInArrow(search_batches, HITS_DDL)


def _hits_in(batch: pa.RecordBatch, known: Keys) -> pa.RecordBatch:
    rows: list[int] = []
    keys: list[bytes] = []
    for row, caption in enumerate(batch.column("caption").to_pylist()):
        for text in _readings(caption or ""):
            own = keys_of(text)
            keys += own
            rows += [row] * len(own)
    digests = _as_keys(keys)
    places = np.searchsorted(known, digests)
    is_known = np.zeros(len(digests), np.bool_)
    if len(known):
        is_known = known[np.minimum(places, len(known) - 1)] == digests
    found = np.array(rows, np.int64)[is_known], places[is_known]
    once = np.unique(np.stack(found, axis=1), axis=0)
    chosen = batch.take(pa.array(once[:, 0]))
    columns = [chosen.column("pair_id"), pa.array(once[:, 1]), chosen.column("caption")]
    return pa.RecordBatch.from_arrays(columns, ["pair_id", "place", "caption"])


def _readings(caption: str) -> list[str]:
    """A caption as a whole and, where it has several lines, each of them."""
    lines = caption.splitlines()
    return [caption, *lines] if len(lines) > 1 else [caption]


def counts(found: DataFrame) -> DataFrame:
    """By key: how many pairs hold it, and the first of them by name."""
    first = F.min(F.struct("pair_id", "caption")).alias("first")
    by_key = found.groupBy("place").agg(F.count("*").alias("pairs"), first)
    return by_key.select("place", "pairs", "first.pair_id", "first.caption")


def pairs(found: DataFrame, what: Sought) -> DataFrame:
    """Each pair that holds an evaluation caption, or a passage of one, and the first such caption.

    In the order of the names, in one file: the same whatever the number of tasks.
    """
    of_place: dict[int, tuple[int, str, str, str]] = {}
    for number, caption in enumerate(what.captions):
        for kind, places in (("equal", [what.equal[number]]), ("near", what.near[number])):
            for place in places:
                of_place.setdefault(place, (place, kind, caption.evalset, caption.id))
    ddl = "place long, kind string, evalset string, eval_id string"
    sides = found.sparkSession.createDataFrame(list(of_place.values()), ddl)
    told = found.join(F.broadcast(sides), on="place", how="inner")
    first = F.min(F.struct("kind", "evalset", "eval_id")).alias("first")
    by_pair = told.groupBy("pair_id", "caption").agg(first)
    return by_pair.select("pair_id", "caption", "first.*").orderBy("pair_id", "caption").coalesce(1)


def found_in(what: Sought, counted: pa.Table) -> pa.Table:
    """The evaluation captions that the corpus holds: rows of FOUND, in their own order."""
    by_place = {row["place"]: row for row in counted.to_pylist()}
    rows = []
    for number, caption in enumerate(what.captions):
        kind, hit = "equal", by_place.get(what.equal[number])
        if hit is None:
            near = [by_place[place] for place in what.near[number] if place in by_place]
            kind, hit = (
                "near",
                max(near, key=lambda row: (row["pairs"], row["pair_id"]), default=None),
            )
        if hit is not None:
            row = (caption.evalset, caption.id, caption.image, caption.text, what.lengths[number])
            rows.append((*row, kind, hit["pairs"], hit["pair_id"], hit["caption"]))
    columns = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(FOUND)]
    return pa.Table.from_arrays(columns, schema=FOUND)


def summary(
    what: Sought, found: pa.Table, counted: pa.Table, confidence: float
) -> list[dict[str, Any]]:
    """What there is to tell of each evaluation set that has captions."""
    pairs = dict(
        zip(*(counted.column(name).to_pylist() for name in ("place", "pairs")), strict=True)
    )
    own: dict[str, list[int]] = defaultdict(list)
    for number, caption in enumerate(what.captions):
        own[caption.evalset].append(number)
    hits_of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in found.to_pylist():
        hits_of[row["evalset"]].append(row)
    return [
        _of_set(name, numbers, hits_of[name], what, pairs, confidence)
        for name, numbers in sorted(own.items())
    ]


def _of_set(
    name: str,
    numbers: list[int],
    rows: list[dict[str, Any]],
    what: Sought,
    pairs: dict[int, int],
    confidence: float,
) -> dict[str, Any]:
    equal = [row for row in rows if row["kind"] == "equal"]
    lengths = [what.lengths[number] for number in numbers]
    own_keys = {what.equal[number] for number in numbers} - {-1}
    images = {what.captions[number].image for number in numbers} - {None}
    long = [row for row in equal if row["tokens"] >= LONG]
    found_lengths = Counter(row["tokens"] for row in equal)
    by_length = [
        {"tokens": f"{low}-{high}" if high else f"{low}+"}
        | _share(
            sum(found_lengths[n] for n in found_lengths if _is_within(n, low, high)),
            sum(_is_within(n, low, high) for n in lengths),
            confidence,
        )
        for low, high in _LENGTHS
    ]
    told = {
        "name": name,
        "distinct": len(own_keys),
        **_share(len(equal), len(numbers), confidence),
        "pairs": sum(pairs.get(key, 0) for key in own_keys),
        "near": len(rows) - len(equal),
        "long": _share(len(long), sum(n >= LONG for n in lengths), confidence),
        "without_tokens": sum(n == 0 for n in lengths),
        "by_length": by_length,
    }
    of_images = {row["image"] for row in equal} - {None}
    shown = _share(len(of_images), len(images), confidence, "images") if images else None
    return told | {"images": shown, "examples": _examples(equal)}


def _is_within(length: int, low: int, high: int | None) -> bool:
    return low <= length and (high is None or length <= high)


def _share(found: int, trials: int, confidence: float, unit: str = "captions") -> dict[str, Any]:
    low, high = interval(found, trials, confidence)
    ratio = found / trials if trials else 0.0
    return {unit: trials, "found": found, "ratio": ratio, "low": low, "high": high}


def _examples(equal: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some captions that were found, the longest first: they say most."""
    chosen: dict[str, dict[str, Any]] = {}
    for row in sorted(equal, key=lambda row: (-row["tokens"], row["eval_id"])):
        chosen.setdefault(" ".join(tokens(row["caption"])), row)
        if len(chosen) == _EXAMPLES:
            break
    names = ("eval_id", "caption", "pair_id", "pair_caption", "pairs")
    return [{name: row[name] for name in names} for row in chosen.values()]
