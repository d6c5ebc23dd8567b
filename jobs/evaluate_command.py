"""Evaluate command: of a run, or of anybody's weights."""

import json
from pathlib import Path
from typing import Annotated

import typer

from jobs import walk
from jobs.options import Again, Config, Master, MaybeRun, Sets, Update, opened
from pipeline.errors import BadInput


def evaluate(
    run: MaybeRun = None,
    config: Config = None,
    sets: Sets = None,
    update: Update = False,
    again: Again = False,
    master: Master = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="Of a run: step_N, or newest.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Instead of a run: somebody's weights.")
    ] = None,
    vocabulary: Annotated[
        Path | None, typer.Option("--vocabulary", help="With --weights: their merges file.")
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option("--activation", help="Of weights that do not tell: quick_gelu or gelu."),
    ] = None,
    evals: Annotated[
        Path | None,
        typer.Option("--evals", help="With --weights: a settings file with evaluation sets."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="With --weights: its folder; ./scores if not given."),
    ] = None,
    audited: Annotated[
        Path | None,
        typer.Option("--audit", help="With --weights: what `wit audit` wrote of their corpus."),
    ] = None,
) -> None:
    """checkpoints, audit -> scores; or of anybody's weights"""
    if weights is not None:
        if run or config or sets or update or again or master or checkpoint:
            raise BadInput(
                "--weights are evaluated without a run: leave out --run, --config, --set, "
                "--update, --again, --master and --checkpoint (settings stand "
                "in the file of --evals)"
            )
        if evals is None:
            raise BadInput("--weights need --evals FILE, a settings file with [[evalsets]]")
        from jobs.evaluate_weights import main as evaluate_weights

        folder = out or Path("scores")
        evaluate_weights(weights, vocabulary, evals, folder, audited, activation)
        return
    if vocabulary or activation or evals or out or audited:
        raise BadInput(
            "--vocabulary, --activation, --evals, --out and --audit go with --weights; a run has "
            "its own"
        )
    if run is None:
        raise BadInput("name what is evaluated: --run RUN, or --weights PATH --evals FILE")
    laid = [] if checkpoint is None else [f"evaluate.checkpoint={json.dumps(checkpoint)}"]
    may_change = update or (bool(laid) and config is None and not sets)
    sets = [*(sets or []), *laid]
    walk.one(opened(run, config, sets, update=may_change, master=master), "evaluate", again=again)
