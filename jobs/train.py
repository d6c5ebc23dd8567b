"""shards, vocabulary -> checkpoints

`wit train` in one process; `torchrun --nproc-per-node N -m jobs.train RUN` in several.
"""

from pathlib import Path

from jobs.ledger import Ledger
from jobs.run import Run
from jobs.stamps import code_version
from pipeline import tokenizer
from pipeline.errors import MissingTable
from pipeline.trainer import checkpoint, parallel
from pipeline.trainer.loop import steps_in, train
from pipeline.trainer.samples import Samples

VOCABULARY = tokenizer.VOCABULARY


def newest(run: Run) -> Path:
    """The newest checkpoint of a run. Raises MissingTable where there is none."""
    trained = run.folder("checkpoints")
    found = checkpoint.latest(trained) if trained.is_dir() else None
    if found is None:
        raise MissingTable(f"{trained} holds no checkpoint: run `wit train --run {run.root}` first")
    return found


def main(run: Run) -> None:
    settings = run.settings.train
    ranks = parallel.here(settings)
    run.begin("checkpoints", resume=True)
    folder = run.folder("checkpoints")
    where = run.folder("shards") if settings.shards is None else settings.shards
    samples = Samples(where, run.settings.loader, run.progress.say)
    cutter = _tokenizer(run, folder / VOCABULARY)
    ranks.tell(
        {
            "folder": str(folder),
            "where": str(where),
            "shards": samples.index.digest,
            "merges": cutter.merges,
            "train": settings.model_dump(mode="json"),
            "loader": run.settings.loader.model_dump(mode="json"),
        }
    )
    steps = steps_in(len(samples), settings)
    with run.progress.bar("train", steps, "steps") as meter:
        trained = train(
            folder,
            samples,
            cutter,
            settings,
            meter,
            ranks,
            code=code_version(),
            tell=run.progress.say,
        )
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
    rows = run.rows("shards") if settings.shards is None else len(samples)
    run.finish("checkpoints", Ledger(rows, len(samples), notes=notes, content=content))


def _tokenizer(run: Run, kept: Path) -> tokenizer.Tokenizer:
    """The tokenizer of this run, of which a copy goes with the checkpoints."""
    found = tokenizer.load(run.folder("vocabulary") / VOCABULARY)
    found.save(kept)
    return found


if __name__ == "__main__":
    from jobs.train_ranks import start

    start()
