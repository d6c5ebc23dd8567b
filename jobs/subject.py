"""Subject: a corpus that is audited, whoever made it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from jobs.pictures import Downloaded
from pipeline.audit import EvalCount
from pipeline.settings import EvalSet

__all__ = ["EvalCount", "Subject"]


@dataclass(frozen=True)
class Subject:
    """What an audit tells of a corpus, and how it shows it."""

    name: str
    images: int
    """Images of the corpus that were compared."""
    evalsets: list[EvalSet]
    counts: dict[str, EvalCount]
    """By evaluation set."""
    overlaps: pa.Table
    """Rows of schemas.OVERLAPS, all distances known (`references.of_evaluation`)."""
    removed: set[str]
    """The `pair_id` of those overlaps that dedup took out; empty where nothing is taken out."""
    kept: set[str]
    """The `pair_id` of those overlaps that the shards still hold."""
    pictures: Callable[[list[str]], dict[str, Downloaded]]
    """Thumbnails and captions of images of the corpus, by `pair_id`."""
    eval_ids: Callable[[str], pa.Array]
    """The names of all images of an evaluation set: what predictions are told of."""
    take_decisions: str = ""
    """The command that takes a decisions file, put for `FILE`, into the corpus; empty where none
    does."""
    avoided: list[dict[str, Any]] = field(default_factory=list)
    """What was found of blocklists and opt-outs, a line for each (pipeline.audit.references)."""
    scan: dict[str, Any] | None = None
    """What was counted while somebody else's shards were read; None for a run."""
