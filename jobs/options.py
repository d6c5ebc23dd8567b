"""Options: those that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

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


def activation_of(named: str | None) -> Literal["quick_gelu", "gelu"] | None:
    """What --activation names. Raises BadInput for another word."""
    if named is None:
        return None
    if named in ("quick_gelu", "gelu"):
        return "quick_gelu" if named == "quick_gelu" else "gelu"
    raise BadInput(f"no activation is called {named[:40]}: it is quick_gelu or gelu")
