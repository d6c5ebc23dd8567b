"""Audit captions: the captions of evaluation sets, looked for among those of a corpus.

reads   captions of the evaluation sets, captions of the corpus
writes  captions.parquet, caption_pairs.parquet, captions.json
"""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from jobs.counting import counted
from pipeline import caption_overlap, captions
from pipeline.caption_overlap import EvalCaption
from pipeline.caption_tables import REASONS
from pipeline.errors import BadInput
from pipeline.settings import EvalSet

FOUND, PAIRS, TOLD = "captions.parquet", "caption_pairs.parquet", "captions.json"


def of_evaluation(sets: list[EvalSet]) -> list[EvalCaption]:
    """The captions of evaluation sets: of their tables, or of their own tars."""
    found = []
    for evalset in sets:
        for file in _files(evalset):
            for caption in captions.read(file, Counter()):
                found.append(EvalCaption(evalset.name, caption.id, caption.image, caption.text))
    return found


def _files(evalset: EvalSet) -> list[Path]:
    path = Path(evalset.path if evalset.captions is None else evalset.captions)
    if evalset.captions is None:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        return [file for file in inside if captions.is_tar(file) and file.is_file()]
    if path.is_dir():
        inside = [f for f in sorted(path.rglob("*")) if captions.is_table(f) or captions.is_tar(f)]
        return [file for file in inside if file.is_file()]
    if not path.exists():
        raise BadInput(
            f"evalsets.{evalset.name}: {path} does not exist: correct `captions` in the settings"
        )
    return [path]


def look_for(wanted: list[EvalCaption], corpus: DataFrame, folder: Path, confidence: float) -> None:
    """Write into `folder` what of the wanted captions `corpus` (pair_id, caption) holds.

    Rows with a reason in a further column `dropped_for` are counted and not searched.
    """
    what = caption_overlap.sought(wanted)
    spark = corpus.sparkSession
    kept, told = counted(corpus, ["pair_id", "caption"], REASONS)
    hits = folder / "_hits"
    caption_overlap.hits(kept, what).write.mode("overwrite").parquet(str(hits))
    rows = {reason: count for reason, count in told().items() if count}
    found = spark.read.schema(caption_overlap.HITS_DDL).parquet(str(hits))
    by_key = caption_overlap.counts(found).toArrow()
    table = caption_overlap.found_in(what, by_key)
    pq.write_table(table, folder / FOUND, compression="zstd")
    pairs = folder / "_pairs"
    caption_overlap.pairs(found, what).write.mode("overwrite").parquet(str(pairs))
    (written,) = pairs.glob("*.parquet")
    written.replace(folder / PAIRS)
    for scratch in (hits, pairs):
        shutil.rmtree(scratch)
    summary: dict[str, Any] = {
        "corpus_captions": rows.pop("", 0),
        "unread": rows,
        "sets": caption_overlap.summary(what, table, by_key, confidence),
    }
    (folder / TOLD).write_text(json.dumps(summary, indent=1), encoding="utf-8")
