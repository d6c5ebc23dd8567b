"""Options: those that several commands share."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.run import Run
from pipeline.errors import BadInput
from pipeline.storage import place

# In truth a Place: Typer knows no unions, and Path makes s3:/bucket of s3://bucket.
RunDir = Annotated[
    Path,
    typer.Option(
        "--run",
        parser=place,
        metavar="PLACE",
        help="The run: a folder, or an address such as s3://bucket/runs/one.",
    ),
]
MaybeRun = Annotated[
    Path | None, typer.Option("--run", parser=place, metavar="PLACE", help="The run.")
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        parser=place,
        metavar="FILE",
        help="A settings file, or its address; needed to begin a run.",
    ),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="section.key=value, laid over the settings.")
]
Update = Annotated[
    bool, typer.Option("--update", help="Take changed settings into an existing run.")
]
Again = Annotated[bool, typer.Option("--again", help="Make it once more though up to date.")]
Master = Annotated[
    str | None,
    typer.Option(
        "--master",
        help="Where Spark runs this time: local[4], spark://HOST:7077, yarn, k8s://https://HOST.",
    ),
]
_MASTERS = re.compile(r"local(\[.+\])?|yarn|spark://\S+:\d+|k8s://\S+")


def opened(
    where: Path,
    config: Path | None,
    sets: list[str] | None,
    *,
    update: bool,
    master: str | None = None,
) -> Run:
    """The run at `where`, its stages on `master` where one is named. Raises as `Run.open` does."""
    return on_master(Run.open(where, config, sets or [], update=update), master)


def on_master(run: Run, master: str | None) -> Run:
    """The run, its stages on `master` where one is named. What the run keeps stays as it is."""
    if master is None:
        return run
    if not _MASTERS.fullmatch(master):
        raise BadInput(
            f"--master {master[:80]} is none that Spark knows: local[4], spark://HOST:7077, yarn "
            "or k8s://https://HOST:443"
        )
    from jobs.spark import is_submitted

    if is_submitted():
        raise BadInput("--master is spark-submit's here: give it before the script, not behind")
    spark = run.settings.spark.model_copy(update={"master": master})
    return Run(run.root, run.settings.model_copy(update={"spark": spark}))


def activation_of(named: str | None) -> Literal["quick_gelu", "gelu"] | None:
    """What --activation names. Raises BadInput for another word."""
    if named is None:
        return None
    if named in ("quick_gelu", "gelu"):
        return "quick_gelu" if named == "quick_gelu" else "gelu"
    raise BadInput(f"no activation is called {named[:40]}: it is quick_gelu or gelu")
