"""The command `wit`."""

import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from jobs import walk
from jobs.audit_command import audit
from jobs.evaluate_command import evaluate
from jobs.export_command import export
from jobs.options import Again, Config, Master, RunDir, Sets, Update, opened
from jobs.plan_command import plan
from jobs.run import Run
from pipeline.errors import BadInput, WitError
from pipeline.storage import place

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Rebuild the corpus behind CLIP, from raw sources to a trained model.",
)

Explain = Annotated[
    str | None,
    typer.Option("--explain", help="Make nothing: tell why a text is in the list, or is not."),
]
_STAGES = "Stages, in order"


@app.command()
def build(
    run: RunDir,
    config: Config = None,
    sets: Sets = None,
    update: Update = False,
    again: Again = False,
    master: Master = None,
) -> None:
    """Every stage that is missing or stale, in order, and the report."""
    walk.build(opened(run, config, sets, update=update, master=master), again=again)


@app.command(rich_help_panel=_STAGES)
def derive(
    run: RunDir,
    config: Config = None,
    sets: Sets = None,
    update: Update = False,
    again: Again = False,
    master: Master = None,
    explain: Explain = None,
) -> None:
    """sources -> words, bigrams, titles, queries"""
    if explain is None:
        asked = opened(run, config, sets, update=update, master=master)
        walk.one(asked, "derive", again=again)
        return
    if config is not None or sets or update or again or master:
        raise BadInput("--explain makes nothing: leave out the other options but --run")
    from jobs.explain import show

    show(Run.open(run, None, []), explain)


def _add_stage(verb: str, doc: str) -> None:
    def command(
        run: RunDir,
        config: Config = None,
        sets: Sets = None,
        update: Update = False,
        again: Again = False,
        master: Master = None,
    ) -> None:
        asked = opened(run, config, sets, update=update, master=master)
        walk.one(asked, verb, again=again)

    command.__doc__ = doc
    app.command(verb, rich_help_panel=_STAGES)(command)


for _stage in walk.STAGES:
    if _stage.verb in ("derive", "audit", "evaluate"):  # they have flags of their own
        continue
    _reads, _writes = ", ".join(_stage.reads) or "sources", ", ".join(_stage.writes)
    _add_stage(_stage.verb, f"{_reads} -> {_writes}")


app.command(rich_help_panel=_STAGES)(audit)
app.command(rich_help_panel=_STAGES)(evaluate)


@app.command()
def status(
    run: RunDir,
    watch: Annotated[
        bool, typer.Option("--watch", help="Again and again, until nobody works on it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For a program to read.")] = False,
) -> None:
    """Every table of a run, what is missing or stale, and how far the stage is that is made."""
    from jobs.status import follow, show, show_json

    if watch and as_json:
        raise BadInput("--json tells once: leave out --watch")
    asked = Run.open(run, None, [])
    if as_json:
        show_json(asked)
    elif watch:
        follow(asked)
    else:
        show(asked)


@app.command()
def follow(
    pair_id: Annotated[str, typer.Argument(help="32 hexadecimal digits.")], run: RunDir
) -> None:
    """Every row that one pair left behind, table by table."""
    from jobs.follow import show

    show(Run.open(run, None, []), pair_id)


@app.command()
def verify(
    folder: Annotated[
        Path | None,
        typer.Argument(
            parser=place,
            metavar="[FOLDER]",
            help="A folder of shards or its address, made by wit or by others.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", parser=place, metavar="PLACE", help="Instead: the run."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; one a core if not given.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Checksums and structure: no image is decoded.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write all findings to this file, as JSON.")
    ] = None,
) -> None:
    """Check shards to the last byte; exit code 1 when anything is wrong with them."""
    if (folder is None) == (run is None):
        raise BadInput("name what is verified: a folder of shards, or --run RUN")
    from jobs.verify import main as check

    if not check(folder, run, workers, report, quick=quick):
        raise typer.Exit(1)


@app.command()
def report(run: RunDir) -> None:
    """Write report.html again."""
    walk.report(Run.open(run, None, []))


app.command()(export)
app.command()(plan)


@app.command("evalsets")
def list_evalsets(
    name: Annotated[str | None, typer.Argument(help="One of them.")] = None,
) -> None:
    """The evaluation sets that are known; of one, where to get it and the settings to paste."""
    from jobs.list_evalsets import show

    show(name)


@app.command()
def doctor(
    run: Annotated[Path, typer.Option("--run", help="Where runs will lie.")] = Path(),
) -> None:
    """What this machine has and lacks, and what to do about it."""
    from jobs.doctor import examine

    raise typer.Exit(examine(run))


@app.command(hidden=True)
def java() -> None:
    """Stop with a clear word when there is no Java for Spark."""
    from jobs.spark import java_version

    java_version()


@app.command("train-filter")
def train_filter(
    labels: Annotated[
        Path, typer.Option("--labels", help="Lines `__label__x caption`, or a table of both.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The model's file, .bin.")],
    seed: int = 0,
) -> None:
    """Train a model that scores captions, from captions that you have labelled."""
    from jobs.train_filter import main as train

    train(str(labels), str(out), seed)


@app.command()
def demo(
    run: RunDir = Path("runs/demo"), pairs: int = 4000, sets: Sets = None, master: Master = None
) -> None:
    """Make a small web with planted trouble, build its corpus, and check what was found."""
    from jobs.demo import main as run_demo

    run_demo(run, pairs, sets or [], master)


@app.command()
def real(
    data: Annotated[Path, typer.Option("--data", help="A folder of real sources.")],
    run: RunDir = Path("runs/real"),
    wordnet: Annotated[Path, typer.Option("--wordnet", help="WordNet's database files.")] = Path(
        "/usr/share/wordnet"
    ),
    sets: Sets = None,
    master: Master = None,
) -> None:
    """Build a corpus from a folder of real sources, its images served over loopback."""
    from jobs.real import main as run_real

    run_real(run, data, wordnet, sets or [], master)


def main(command: Callable[[], None] = app) -> None:
    """Run the command; a user's mistake is one line and exit code 2."""
    terminal = os.dup(2)  # a later step may send stderr elsewhere for a while

    def interrupted(*_: object) -> None:
        # Typer ends on an interrupt without a word, and the bridge to Spark with too many.
        logging.disable(logging.CRITICAL)
        # To verify or to look makes nothing that could be taken up.
        what = (
            ""
            if sys.argv[1:2] in (["verify"], ["status"])
            else "; `wit build` goes on where it stopped"
        )
        os.write(terminal, f"\nwit: interrupted{what}\n".encode())
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupted)
    try:
        command()
    except WitError as error:
        print(f"wit: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        told = _told_by_worker(error)
        if told is None:
            raise
        print(f"wit: {told}", file=sys.stderr)
        sys.exit(2)


def _told_by_worker(error: Exception) -> str | None:
    """The words of a WitError that a Spark worker raised, from the traceback it arrives in."""
    if not type(error).__module__.startswith(("pyspark.", "py4j.")):
        return None
    found = re.search(r"^pipeline\.errors\.\w+: (.*)$", str(error), re.MULTILINE)
    if found:
        return found[1]
    # A source that breaks off in its middle is met by Spark alone, long after it was opened.
    unread = re.search(r"FAILED_READ_FILE\S*\].*?(?:file|path):?\s*(\S+)", str(error))
    if unread:
        return f"{unread[1]} cannot be read to its end: fetch or write it again"
    return None


if __name__ == "__main__":
    main()
