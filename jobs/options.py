"""Options: those that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

RunDir = Annotated[Path, typer.Option("--run", help="The run directory.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="A settings file; needed to begin a run.")
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="section.key=value, laid over the settings.")
]
Update = Annotated[
    bool, typer.Option("--update", help="Take changed settings into an existing run.")
]
Again = Annotated[bool, typer.Option("--again", help="Make it once more though up to date.")]
