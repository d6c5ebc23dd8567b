"""checkpoints, audit -> scores"""

import json
from collections import Counter

import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.ledger import Ledger
from jobs.run import Run
from jobs.train import VOCABULARY
from pipeline import tokenizer
from pipeline.errors import BadInput, MissingTable
from pipeline.evaluate.score import score
from pipeline.trainer import checkpoint
from pipeline.trainer.architectures import architecture
from pipeline.trainer.loop import device_of


def main(run: Run) -> None:
    settings = run.settings.evaluate
    trained = run.path("checkpoints")
    newest = checkpoint.latest(trained)
    if newest is None:
        raise MissingTable(f"{trained} holds no checkpoint: run `wit train --run {run.root}` first")
    model, state = checkpoint.load_model(newest)
    cutter = tokenizer.load(trained / VOCABULARY)
    if cutter.digest != state.tokenizer:
        raise BadInput(
            f"{trained / VOCABULARY} is not the vocabulary that {newest.name} was trained with: "
            f"run `wit train --run {run.root} --again`"
        )
    device = device_of(settings.device)
    model = model.to(device).eval()
    side = architecture(state.model).resolution
    told, counts = {}, Counter[str]()
    for evalset in run.settings.evalsets:
        if not evalset.scored:
            continue
        overlapping = _overlapping(run, evalset.name)
        with run.progress.note(f"scoring {evalset.name}"):
            scored = score(evalset, model, cutter, side, overlapping, settings, device)
        told[evalset.name] = scored.told
        counts.update(
            scored=scored.images, undecodable=scored.undecodable, unlabelled=scored.unlabelled
        )
    folder = run.begin("scores")
    scores = {"checkpoint": newest.name, "model": state.model, "step": state.step, "sets": told}
    (folder / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    rows_out = counts.pop("scored", 0)
    dropped = {reason: count for reason, count in counts.items() if count}
    notes = {
        name: {"accuracy": one["zero_shot"]["all"]["accuracy"], "chance": one["chance"]}
        for name, one in told.items()
    }
    run.finish("scores", Ledger(rows_out + counts.total(), rows_out, dropped, notes))


def _overlapping(run: Run, name: str) -> set[str]:
    """The images of an evaluation set whose near-duplicates the corpus was left with."""
    files = [str(file) for file in run.files("audit")]
    is_overlap = (pc.field("source") == name) & (pc.field("verdict") == "overlap")
    is_left = is_overlap & ~pc.field("removed")
    found = ds.dataset(files, format="parquet").to_table(columns=["eval_id"], filter=is_left)
    return set(found.column("eval_id").to_pylist())
