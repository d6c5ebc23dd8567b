"""Audit captions: the captions of evaluation sets, looked for among those of a corpus.

reads   captions of the evaluation sets, captions of the corpus
writes  captions.parquet, caption_pairs.parquet, captions.json
"""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from pyspark import StorageLevel
from pyspark.sql import DataFrame

from jobs.counting import counted
from jobs.run import Run
from pipeline import caption_overlap, captions, copies, inputs, storage
from pipeline.caption_overlap import EvalCaption
from pipeline.caption_tables import REASONS
from pipeline.errors import BadInput
from pipeline.settings import EvalSet

FOUND, PAIRS, TOLD = "captions.parquet", "caption_pairs.parquet", "captions.json"


def of_run(run: Run, folder: Path) -> list[dict[str, Any]]:
    """What the shards of a run hold of evaluation captions, one for each set that has some."""
    wanted = of_evaluation(run.settings.evalsets)
    if not wanted.captions:
        return []
    # Its name keeps it apart from the rows of the table `audit`.
    place = folder / "_captions"
    place.mkdir()
    corpus = run.read("shards").select("pair_id", "caption")
    # Executors write to no folder that this machine alone has.
    is_shared = not storage.is_remote(run.path("audit"))
    with run.watch("captions"):
        look_for(wanted, corpus, place, run.settings.audit.confidence, is_shared=is_shared)
    return told(place)


def told(folder: Path) -> list[dict[str, Any]]:
    """What `look_for` tells of each set."""
    found: list[dict[str, Any]] = json.loads((folder / TOLD).read_text(encoding="utf-8"))
    return found


class Wanted(NamedTuple):
    """The captions of evaluation sets."""

    captions: list[EvalCaption]
    unread: dict[str, dict[str, int]]
    """By set: what of its captions could not be read, by reason."""


def of_evaluation(sets: list[EvalSet]) -> Wanted:
    """The captions of evaluation sets: of their tables, or of their own tars."""
    found, unread = [], dict[str, dict[str, int]]()
    for evalset in sets:
        counts = Counter[str]()
        for file in _files(evalset):
            for caption in captions.read(file, counts):
                found.append(EvalCaption(evalset.name, caption.id, caption.image, caption.text))
        unread[evalset.name] = dict(sorted(counts.items()))
    return Wanted(found, unread)


def _files(evalset: EvalSet) -> list[Path]:
    where = evalset.path if evalset.captions is None else evalset.captions
    if storage.is_address(where):
        place = storage.place(where)
        some = [place] if inputs.kind(place) == "file" else storage.files(place)
        fits = captions.is_tar if evalset.captions is None else _is_fit
        return [copies.local(str(file)) for file in some if fits(Path(file.name))]
    path = Path(where)
    if evalset.captions is None:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        return [file for file in inside if captions.is_tar(file) and file.is_file()]
    if path.is_dir():
        return [file for file in sorted(path.rglob("*")) if _is_fit(file) and file.is_file()]
    if not path.exists():
        raise BadInput(
            f"evalsets.{evalset.name}: {path} does not exist: correct `captions` in the settings"
        )
    return [path]


def _is_fit(file: Path) -> bool:
    return captions.is_table(file) or captions.is_tar(file)


def look_for(
    wanted: Wanted, corpus: DataFrame, folder: Path, confidence: float, *, is_shared: bool = True
) -> None:
    """Write into `folder` what of the wanted captions `corpus` (pair_id, caption) holds.

    Rows with a reason in a further column `dropped_for` are counted and not searched. What was
    found lies in `folder` in between, where tasks see it: where it `is_shared`.
    """
    what = caption_overlap.sought(wanted.captions)
    spark = corpus.sparkSession
    kept, count = counted(corpus, ["pair_id", "caption"], REASONS)
    found = caption_overlap.hits(kept, what)
    hits = folder / "_hits"
    if is_shared:
        found.write.mode("overwrite").parquet(str(hits))
        found = spark.read.schema(caption_overlap.HITS_DDL).parquet(str(hits))
    else:
        found = found.persist(StorageLevel.DISK_ONLY)
        found.count()
    rows = {reason: number for reason, number in count().items() if number}
    by_key = caption_overlap.counts(found).toArrow()
    table = caption_overlap.found_in(what, by_key)
    pq.write_table(table, folder / FOUND, compression="zstd")
    pairs = folder / "_pairs"
    if is_shared:
        caption_overlap.pairs(found, what).write.mode("overwrite").parquet(str(pairs))
        (written,) = pairs.glob("*.parquet")
        written.replace(folder / PAIRS)
        for scratch in (hits, pairs):
            shutil.rmtree(scratch)
    else:
        rows_of_pairs = caption_overlap.pairs(found, what).toArrow()
        pq.write_table(rows_of_pairs, folder / PAIRS, compression="zstd")
        found.unpersist()
    of_corpus = {"corpus_captions": rows.pop("", 0), "unread_of_corpus": rows}
    sets = [
        {**told, **of_corpus, "unread": wanted.unread[told["name"]]}
        for told in caption_overlap.summary(what, table, by_key, confidence)
    ]
    (folder / TOLD).write_text(json.dumps(sets, indent=1), encoding="utf-8")
