"""Subject: a corpus that is audited, whoever made it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.pictures import Downloaded
from pipeline import parquet_files
from pipeline.audit import EvalCount
from pipeline.settings import EvalSet
from pipeline.storage import Place

__all__ = ["EvalCount", "Subject", "batches", "some"]

_ROWS = 1 << 16


@dataclass(frozen=True)
class Subject:
    """What an audit tells of a corpus, and how it shows it."""

    name: str
    images: int
    """Images of the corpus that were compared."""
    digest: str
    """What they are known by, in any order (pipeline.digests)."""
    evalsets: list[EvalSet]
    """All references, blocklists and opt-outs too."""
    variants: Sequence[str]
    """Of each evaluation image that were looked for."""
    counts: dict[str, EvalCount]
    """By set that is there to evaluate on."""
    overlaps: Callable[[], Iterable[pa.RecordBatch]]
    """Rows of schemas.OVERLAPS, each time from the beginning."""
    removed: Callable[[pa.Array], set[str]]
    """Those of some `pair_id` that dedup took out; none where nothing is taken out."""
    kept: Callable[[pa.Array], set[str]]
    """Those of them that the shards still hold."""
    pictures: Callable[[list[str]], dict[str, Downloaded]]
    """Thumbnails and captions of images of the corpus, by `pair_id`."""
    eval_ids: Callable[[str], pa.Array]
    """The names of all images of an evaluation set: what predictions are told of."""
    take_decisions: str = ""
    """The command that takes a decisions file, put for `FILE`, into the corpus; empty where none
    does."""
    scan: dict[str, Any] | None = None
    """What was counted while somebody else's shards were read; None for a run."""


def batches(files: Iterable[Place], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of parquet files in order, some at a time."""
    for file in files:
        with parquet_files.opened(file, schema.names) as parquet:
            for batch in parquet.iter_batches(batch_size=_ROWS, columns=schema.names):
                columns = [batch.column(name) for name in schema.names]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)


def some(
    files: Iterable[Place], columns: Sequence[str], which: pc.Expression
) -> Iterator[pa.RecordBatch]:
    """Some rows and columns of parquet files, one file at a time and little of it ahead."""
    there = list(files)
    if there:
        rows = parquet_files.dataset(there)
        yield from rows.to_batches(
            columns=list(columns), filter=which, batch_readahead=2, fragment_readahead=1
        )
