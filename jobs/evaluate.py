"""checkpoints, audit -> scores"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.ledger import Ledger
from jobs.run import Run
from jobs.train import VOCABULARY, newest
from pipeline import parquet_files, tokenizer
from pipeline.errors import BadInput
from pipeline.evaluate.encode import Encoder
from pipeline.evaluate.scores import Scores, score_all
from pipeline.storage import Place
from pipeline.trainer import checkpoint
from pipeline.trainer.architectures import architecture
from pipeline.trainer.parallel import device_of

SCORES, PREDICTIONS = "scores.json", "predictions.parquet"
_NEWEST = "newest"


def main(run: Run) -> None:
    settings = run.settings.evaluate
    trained = run.folder("checkpoints")
    chosen = _chosen(run, trained, settings.checkpoint)
    model, state = checkpoint.load_model(chosen)
    cutter = tokenizer.load(trained / VOCABULARY)
    if cutter.digest != state.tokenizer:
        raise BadInput(
            f"{trained / VOCABULARY} is not the vocabulary that {chosen.name} was trained with: "
            f"run `wit train --run {run.root} --again`"
        )
    device = device_of(settings.device)
    side = architecture(state.model).resolution
    encoder = Encoder(model.to(device).eval(), side, device, settings)
    # The run's audit is of the run's own corpus.
    audited = None if run.settings.train.shards else run.files("audit")
    scores = score_all(
        run.settings.evalsets,
        encoder,
        cutter,
        lambda name: None if audited is None else overlapping(audited, name),
        run.settings.audit.significance,
        run.progress.note,
    )
    told = {"checkpoint": chosen.name, "model": state.model, "step": state.step}
    run.begin("scores")
    write(run.folder("scores"), told, scores)
    notes = {name: noted(one) for name, one in scores.told.items()}
    rows_in = scores.scored + sum(scores.dropped.values())
    run.finish("scores", Ledger(rows_in, scores.scored, scores.dropped, notes))


def _chosen(run: Run, trained: Path, name: str | None) -> Path:
    """The checkpoint of that name, or the newest."""
    found = newest(run)
    if name in (None, _NEWEST):
        return found
    there = sorted(path.name for path in trained.glob("step_*"))
    if name not in there:
        raise BadInput(
            f"{trained} has no checkpoint `{name}`: its checkpoints are {', '.join(there)}"
        )
    return trained / name


def overlapping(files: Sequence[Place], name: str) -> set[str]:
    """The images of an evaluation set whose near-duplicates the corpus was left with."""
    is_overlap = (pc.field("source") == name) & (pc.field("verdict") == "overlap")
    is_left = is_overlap & ~pc.field("removed")
    table = parquet_files.dataset(files)
    return set(table.to_table(columns=["eval_id"], filter=is_left).column("eval_id").to_pylist())


def write(folder: Path, told: dict[str, Any], scores: Scores) -> dict[str, Any]:
    """Write scores.json, which is returned, and predictions.parquet."""
    whole = {**told, "tests": scores.tests, "sets": scores.told, "robustness": scores.robustness}
    text = json.dumps(whole, indent=1, allow_nan=False)
    (folder / SCORES).write_text(text + "\n", encoding="utf-8")
    pq.write_table(scores.predictions, folder / PREDICTIONS)
    return whole


def noted(told: dict[str, Any]) -> dict[str, Any]:
    """What the manifest tells of a set."""
    found = (told.get("zero_shot") or told["retrieval"])["all"]
    note = {"metric": told["metric"], "score": found["score"]["value"], "chance": told["chance"]}
    return note | ({"accuracy": found["accuracy"]} if "accuracy" in found else {})
