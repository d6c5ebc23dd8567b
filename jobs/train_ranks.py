"""Train in several processes: the first one does the stage, the others follow it.

Only the first locks the run, writes into it and tells how far it is.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from jobs import load, walk
from jobs.__main__ import main
from jobs.options import Again, Config, Sets, Update
from jobs.run import SETTINGS, Run
from pipeline import storage
from pipeline.errors import BadInput, WitError
from pipeline.settings import LoaderSettings, TrainSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer import parallel
from pipeline.trainer.loop import NotFinite, Stopped, train
from pipeline.trainer.samples import Samples


def start() -> None:
    """The command of `python -m jobs.train`, as torchrun starts it in each process."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(_command)
    main(app)


def _command(
    folder: Annotated[
        Path | None, typer.Argument(parser=storage.place, metavar="RUN", help="The run directory.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", parser=storage.place, help="The same; torchrun takes it itself."),
    ] = None,
    config: Config = None,
    sets: Sets = None,
    update: Update = False,
    again: Again = False,
) -> None:
    """Train in each of the processes that torchrun starts; alone without it."""
    root = folder or run
    if root is None:
        raise BadInput("name the run directory: torchrun --nproc-per-node N -m jobs.train RUN")
    with parallel.joined(_settings(root, config, sets or [])) as ranks:
        if ranks.is_first:
            walk.one(Run.open(root, config, sets or [], update=update), "train", again=again)
            return
        try:
            _follow(ranks)
        except (NotFinite, Stopped) as error:
            sys.exit(error.exit_code)  # the first one says so
        except WitError as error:
            raise type(error)(f"process {ranks.rank} of {ranks.count}: {error}") from None


def _settings(root: Path, config: Path | None, sets: list[str]) -> TrainSettings:
    """Those that the first process will open the run with; nothing is written."""
    kept = root / SETTINGS
    if config is None and not kept.exists():
        raise BadInput(f"{root} is not a run directory: give --config FILE too")
    return load.load(config or kept, sets).train


def _follow(ranks: parallel.Ranks) -> None:
    """Train as the first process does."""
    told = ranks.hear()
    if told is None:
        return  # there is nothing to train, or the first process says why not
    loader = LoaderSettings.model_validate(told["loader"])
    samples = Samples(told["where"], loader)
    if samples.index.digest != told["shards"]:
        raise BadInput(f"{told['where']} holds other shards than the first process sees there")
    cutter = Tokenizer([(first, second) for first, second in told["merges"]])
    settings = TrainSettings.model_validate(told["train"])
    train(Path(told["folder"]), samples, cutter, settings, _Silent(), ranks)


class _Silent:
    """A meter that shows nothing."""

    def advance(self, count: int = 1) -> None:
        del count
