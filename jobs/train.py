"""shards, vocabulary -> checkpoints"""

from pathlib import Path

from jobs.ledger import Ledger
from jobs.run import Run
from pipeline import tokenizer
from pipeline.trainer import checkpoint
from pipeline.trainer.loop import steps_in, train
from pipeline.trainer.samples import Samples

VOCABULARY = tokenizer.VOCABULARY


def main(run: Run) -> None:
    settings = run.settings.train
    folder = run.begin("checkpoints", resume=True)
    samples = Samples(run.path("shards"), run.settings.loader, run.progress.say)
    cutter = _tokenizer(run, folder / VOCABULARY)
    steps = steps_in(len(samples), settings)
    with run.progress.bar("train", steps, "steps") as meter:
        trained = train(folder, samples, cutter, settings, meter)
    notes = {
        "model": settings.model,
        "steps": trained.steps,
        "final_loss": trained.final_loss,
        "pairs_per_second": round(trained.pairs_per_second, 1),
        "vocabulary": cutter.vocabulary,
        "skipped": trained.skipped,
        "lost": dict(samples.lost),
    }
    newest = checkpoint.latest(folder)
    content = "" if newest is None else checkpoint.digest(newest)
    run.finish(
        "checkpoints", Ledger(run.rows("shards"), len(samples), notes=notes, content=content)
    )


def _tokenizer(run: Run, kept: Path) -> tokenizer.Tokenizer:
    """The tokenizer of this run, of which a copy goes with the checkpoints."""
    found = tokenizer.load(run.path("vocabulary") / VOCABULARY)
    found.save(kept)
    return found
