"""Export: a checkpoint or any weights -> a folder that open_clip or transformers loads.

Needs no Java and no Spark.
"""

from pathlib import Path

from jobs.options import activation_of
from jobs.progress import Progress
from jobs.run import Run
from jobs.train import VOCABULARY, newest
from pipeline import tokenizer
from pipeline.errors import BadInput
from pipeline.trainer import export, weights


def main(
    run: Path | None,
    kind: str,
    out: Path,
    *,
    step: str | None = None,
    given: Path | None = None,
    vocabulary: Path | None = None,
    activation: str | None = None,
    again: bool = False,
) -> None:
    """Export checkpoint `step` of `run`, or its newest, or the weights at `given`."""
    progress = Progress()
    if given is not None and step is not None:
        raise BadInput("--checkpoint is one of a run's, and --weights names others: leave one out")
    if run is not None:
        opened = Run.open(run, None, [])
        path = given or _checkpoint(opened, step)
        merges = vocabulary or opened.folder("checkpoints") / VOCABULARY
    elif given is not None and vocabulary is not None:
        path, merges = given, vocabulary
    else:
        raise BadInput("name what is exported: --run RUN, or --weights PATH --vocabulary PATH")
    with progress.note(f"reading {path}"):
        found = weights.read(path, activation=activation_of(activation))
        cutter = tokenizer.load_for(merges, found.vocabulary)
    with progress.note(f"writing {out}"):
        export.export(found, cutter, kind, out, _notes(found), again=again)
    progress.say(f"exported: {out}")


def _checkpoint(run: Run, step: str | None) -> Path:
    if step is None:
        return newest(run)
    trained, number = run.folder("checkpoints"), step.removeprefix("step_")
    path = trained / f"step_{int(number):09d}" if number.isdecimal() else trained / number
    if not number.isdecimal() or not path.is_dir():
        there = ", ".join(sorted(p.name for p in trained.glob("step_*"))) or "none"
        raise BadInput(f"--checkpoint {step[:60]} is not there; there are {there}")
    return path


def _notes(found: weights.Weights) -> dict[str, str]:
    """What the card says of where the weights are from."""
    if found.trained is None:
        return {"weights": f"of {found.origin}"}
    steps, pairs = found.trained.step, found.trained.samples
    return {"steps": f"{steps:,}", "pairs it learned from": f"{pairs:,}"}
