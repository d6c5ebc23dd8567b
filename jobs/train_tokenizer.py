"""shards -> vocabulary"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.ledger import Ledger
from jobs.run import Run
from pipeline import copies, parquet_files, storage, tokenizer
from pipeline.errors import BadInput
from pipeline.schemas import VOCABULARY
from pipeline.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def main(run: Run) -> None:
    settings = run.settings.train
    if settings.vocabulary is not None:
        given = tokenizer.load(copies.local(settings.vocabulary), settings.merges)
        run.begin("vocabulary")
        _finish(run, run.folder("vocabulary"), given, Ledger(0, 0))
        return
    from pyspark.storagelevel import StorageLevel

    from pipeline import vocabulary

    captions = _captions(run)
    run.begin("vocabulary")
    folder = run.folder("vocabulary")
    with run.watch("words"):
        # On disk: of a large corpus there are tens of millions.
        counts = vocabulary.counted(captions).persist(StorageLevel.DISK_ONLY)
        cut = vocabulary.cut(counts, settings.vocabulary_words)
        kept = vocabulary.frequent(counts, cut.min_count)
        kept.write.mode("append").parquet(str(folder))
        counts.unpersist()
    with run.progress.note("learning the merges"):
        parts = [pq.ParquetFile(file).read() for file in sorted(folder.glob("*.parquet"))]
        words = pa.concat_tables(part.cast(VOCABULARY) for part in parts)
        often = words["count"].to_numpy()
        merges = tokenizer.learn_counted(words["word"], often, settings.merges)
    rare = cut.distinct - words.num_rows
    ledger = Ledger(cut.distinct, words.num_rows, {"rare word": rare} if rare else {})
    ledger.notes = {"words": cut.occurrences, "min_count": cut.min_count}
    _finish(run, folder, Tokenizer(merges), ledger)


def _captions(run: Run) -> DataFrame:
    """The captions beside the shards that are trained on."""
    shards = run.settings.train.shards
    if shards is None:
        return run.read("shards").select("caption")
    folder = storage.place(shards)
    files = [
        file
        for file in storage.files(folder)
        if file.parent == folder and file.suffix == ".parquet" and not file.name.startswith(".")
    ]
    schemas = parquet_files.schemas(files)
    if not files or any("caption" not in schema.names for schema in schemas):
        raise BadInput(
            f"train.shards: {shards} has no parquet with a column `caption` beside its shards to "
            "count words in: name a merges file in train.vocabulary"
        )
    return run.frame(files, pa.schema([("caption", pa.string())]))


def _finish(run: Run, folder: Path, found: Tokenizer, ledger: Ledger) -> None:
    found.save(folder / tokenizer.VOCABULARY)
    asked = run.settings.train.merges
    ledger.notes |= {"merges": len(found.merges), "tokens": found.vocabulary}
    if len(found.merges) < asked:
        is_given = run.settings.train.vocabulary is not None
        cause = "the file has no more" if is_given else "no further pair of letters occurs twice"
        why = f"only {len(found.merges):,} of {asked:,} merges: {cause}"
        ledger.notes["short"] = why
        run.progress.say(f"train-tokenizer: {why}")
    ledger.content = found.digest
    run.finish("vocabulary", ledger)
