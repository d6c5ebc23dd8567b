"""Audit command: of a run, or of anybody's corpus."""

import json
from pathlib import Path
from typing import Annotated

import typer

from jobs import walk
from jobs.options import Again, Config, Master, MaybeRun, Sets, Update, opened
from pipeline.errors import BadInput


def audit(
    more: Annotated[
        list[str] | None,
        typer.Argument(help="Further files of --corpus, as a shell makes them of a `*`."),
    ] = None,
    run: MaybeRun = None,
    config: Config = None,
    sets: Sets = None,
    update: Update = False,
    again: Again = False,
    master: Master = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option("--corpus", help="Instead of a run: tars, or tables of captions."),
    ] = None,
    evals: Annotated[
        Path | None,
        typer.Option("--evals", help="With --corpus: a settings file with evaluation sets."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --corpus: its folder; ./audit if not given.")
    ] = None,
    decisions: Annotated[
        Path | None, typer.Option("--decisions", help="What the report's page exported.")
    ] = None,
    predictions: Annotated[
        list[Path] | None, typer.Option("--predictions", help="What a model said of eval images.")
    ] = None,
) -> None:
    """images, fingerprints, overlaps, dropped, shards -> audit; or of any WebDataset"""
    if corpus:
        if run or config or sets or update or again or master:
            raise BadInput(
                "--corpus is audited without a run: leave out --run, --config, --set, --update, "
                "--again and --master (settings stand in the file of --evals)"
            )
        if evals is None:
            raise BadInput("--corpus needs --evals FILE, a settings file with [[evalsets]]")
        from jobs.audit_corpus import main as audit_corpus

        audit_corpus(
            [*corpus, *(more or [])], evals, out or Path("audit"), decisions, predictions or []
        )
        return
    if evals or out or more:
        raise BadInput(
            "files, --evals and --out go with --corpus; a run has its own sets and folder"
        )
    if run is None:
        raise BadInput("name what is audited: --run RUN, or --corpus SHARDS --evals FILE")
    given: dict[str, str | list[str]] = {}
    if decisions is not None:
        given |= {"decisions": str(decisions.absolute())}
    if predictions:
        given |= {"predictions": [str(path.absolute()) for path in predictions]}
    laid = [f"audit.{key}={json.dumps(value)}" for key, value in given.items()]
    may_change = update or (bool(given) and config is None and not sets)
    sets = [*(sets or []), *laid]
    walk.one(opened(run, config, sets, update=may_change, master=master), "audit", again=again)
