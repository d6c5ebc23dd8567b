"""shards -> checkpoints

`wit train` in one process; `torchrun --nproc-per-node N -m jobs.train RUN` in several.
"""

from pathlib import Path

from jobs.ledger import Ledger
from jobs.run import Run
from jobs.stamps import code_version
from pipeline import tokenizer
from pipeline.errors import BadInput
from pipeline.trainer import checkpoint, parallel
from pipeline.trainer.loop import steps_in, train
from pipeline.trainer.samples import Samples

VOCABULARY = "vocabulary.txt.gz"


def main(run: Run) -> None:
    settings = run.settings.train
    if settings.shards is not None and settings.vocabulary is None:
        raise BadInput(
            "train.vocabulary: with train.shards there are no captions to train one from: name a "
            "merges file in CLIP's layout"
        )
    ranks = parallel.here(settings)
    folder = run.begin("checkpoints", resume=True)
    where = run.path("shards") if settings.shards is None else settings.shards
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
    """The tokenizer of this run: the one it already has, the one it is given, or a new one."""
    settings = run.settings.train
    if kept.exists():
        return tokenizer.load(kept)
    if settings.vocabulary is not None:
        given = tokenizer.load(Path(settings.vocabulary), settings.merges)
        given.save(kept)
        return given
    with run.progress.note("learning the vocabulary"):
        captions = run.read_arrow("shards", ["caption"]).column("caption")
        counts = tokenizer.count_words(caption.as_py() for caption in captions)
        learned = tokenizer.Tokenizer(tokenizer.learn(counts, settings.merges))
    learned.save(kept)
    return learned


if __name__ == "__main__":
    from jobs.train_ranks import start

    start()
