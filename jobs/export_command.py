"""The command `wit export`: its options."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.options import MaybeRun


def export(
    to: Annotated[str, typer.Option("--to", help="open_clip or hf (Hugging Face).")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    run: MaybeRun = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="step_N of the run; its newest if not given.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Instead of a checkpoint: anybody's weights.")
    ] = None,
    vocabulary: Annotated[
        Path | None, typer.Option("--vocabulary", help="Their merges file, if not the run's.")
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option("--activation", help="Of weights that do not tell: quick_gelu or gelu."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Replace an earlier export.")] = False,
) -> None:
    """A trained model as a folder that open_clip or transformers loads."""
    from jobs.export import main as write

    write(
        run,
        to,
        out,
        step=checkpoint,
        given=weights,
        vocabulary=vocabulary,
        activation=activation,
        again=again,
    )
