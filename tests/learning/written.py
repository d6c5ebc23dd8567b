"""A run that begins with its shards: pairs written as `wit shard` writes them, and a set of images.

What is learned from them and how well is left to `wit train` and `wit evaluate`.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import evaluate, train, train_tokenizer
from jobs.ledger import Ledger
from jobs.run import Run
from pipeline import tokenizer
from pipeline.compaction import compact
from pipeline.placing import write_index
from pipeline.schemas import AUDIT
from pipeline.settings import EvalSet, EvaluateSettings, LoaderSettings, Settings, TrainSettings
from tests.pipeline import compaction_rows

PER_SHARD = 500

Pair = tuple[bytes, str]


def learned(
    root: Path,
    pairs: Iterable[Pair],
    evalset: EvalSet,
    overlaps: Iterable[str] = (),
    **training: Any,
) -> tuple[list[float], dict[str, Any]]:
    """Train on `pairs` and evaluate, in a new run: the losses that were logged, and the zero-shot
    scores. Images of `overlaps` count as those that an audit found in the corpus."""
    told = list(pairs)
    words = tokenizer.count_words(caption for _, caption in told)
    merges = tokenizer.learn(words, training.pop("merges"))
    root.mkdir(parents=True)
    vocabulary = root / "merges.txt.gz"
    tokenizer.Tokenizer(merges).save(vocabulary)
    settings = Settings(
        train=TrainSettings(
            vocabulary=str(vocabulary),
            merges=len(merges),
            device="cpu",
            cpu_threads=1,
            save_every_steps=10**6,
            **training,
        ),
        # The pictures are small: one process decodes them as fast as two.
        loader=LoaderSettings(workers=0),
        evaluate=EvaluateSettings(device="cpu"),
        evalsets=[evalset],
    )
    run = Run(root, settings)
    _write_shards(run, told)
    _write_audit(run, evalset.name, overlaps)
    with run.stage("train-tokenizer", {}, {}):
        train_tokenizer.main(run)
    with run.stage("train", {}, {}):
        train.main(run)
    with run.stage("evaluate", {}, {}):
        evaluate.main(run)
    lines = (run.path("checkpoints") / "metrics.jsonl").read_text().splitlines()
    scores = json.loads((run.path("scores") / "scores.json").read_text())
    zero_shot = scores["sets"][evalset.name]["zero_shot"]
    return [json.loads(line)["loss"] for line in lines], zero_shot


def write_images(folder: Path, images: Iterable[tuple[str, bytes]]) -> list[str]:
    """Images of named classes, each class a folder of `folder`/test; their names as a set's."""
    names = []
    for number, (name, image) in enumerate(images):
        place = folder / "test" / name.replace(" ", "_") / f"{number:05d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(image)
        names.append(place.relative_to(folder).as_posix())
    return names


def _write_shards(run: Run, pairs: list[Pair]) -> None:
    """Raw tars as a download leaves them, and the shards that are made of them."""
    raw = run.path("images")
    raw.mkdir(parents=True)
    with run.stage("shard", {}, {}):
        folder = run.begin("shards")
        written = []
        for number, first in enumerate(range(0, len(pairs), PER_SHARD)):
            samples = [
                (hashlib.sha256(f"{number} {sample}".encode()).hexdigest()[:32], *pair)
                for sample, pair in enumerate(pairs[first : first + PER_SHARD])
            ]
            rows = compaction_rows.raw_tar(raw, number, samples)
            written.append(compact(rows, number, raw, folder))
        write_index(folder, written, PER_SHARD)
        run.finish("shards", Ledger(len(pairs), len(pairs)))


def _write_audit(run: Run, source: str, overlaps: Iterable[str]) -> None:
    fixed = {"source": source, "verdict": "overlap", "variant": "original", "removed": False}
    told = {"pair_id": "", "phash_distance": 0, "pdq_distance": 0, **fixed}
    rows = pa.Table.from_pylist([{**told, "eval_id": name} for name in overlaps], AUDIT)
    with run.stage("audit", {}, {}):
        folder = run.begin("audit")
        pq.write_table(rows, folder / "part-0.parquet")
        run.finish("audit", Ledger(len(rows), len(rows)))
