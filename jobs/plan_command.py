"""Plan command: its options, and the settings that it plans for."""

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from jobs import load, plan_page, plan_rates
from jobs.options import Sets
from jobs.plan import candidates_for, planned
from jobs.plan_cluster import Cluster, Prices, bill, timed
from pipeline.errors import BadInput
from pipeline.settings import Settings

_CLUSTER, _PRICES = "The cluster", "Your prices; what has none is not added up"
Money = Annotated[float | None, typer.Option(rich_help_panel=_PRICES)]


def plan(
    config: Annotated[
        Path | None, typer.Option("--config", help="A settings file; clip400m.toml if not given.")
    ] = None,
    sets: Sets = None,
    candidates: Annotated[
        float | None, typer.Option("--candidates", help="Rows of 02_candidates; 10e9 if not given.")
    ] = None,
    pairs: Annotated[
        float | None, typer.Option("--pairs", help="Instead: the pairs in shards that are wanted.")
    ] = None,
    rates: Annotated[
        list[Path] | None,
        typer.Option(
            "--rates",
            help="Your own, as `make bench-walk` and `make bench-scale` write them; the last of "
            "several counts.",
        ),
    ] = None,
    assume: Annotated[
        list[str] | None, typer.Option("--assume", help="name=number, laid over an assumption.")
    ] = None,
    executors: Annotated[int, typer.Option(rich_help_panel=_CLUSTER)] = 16,
    cores: Annotated[int, typer.Option(rich_help_panel=_CLUSTER, help="Of an executor.")] = 8,
    memory: Annotated[
        float, typer.Option(rich_help_panel=_CLUSTER, help="Of an executor, GB.")
    ] = 32.0,
    gbit: Annotated[
        float | None,
        typer.Option(rich_help_panel=_CLUSTER, help="Per second from the web, of all together."),
    ] = None,
    gpus: Annotated[int | None, typer.Option(rich_help_panel=_CLUSTER)] = None,
    gpu_tflops: Annotated[
        float | None, typer.Option(rich_help_panel=_CLUSTER, help="Dense bf16, of one GPU.")
    ] = None,
    mfu: Annotated[
        float | None,
        typer.Option(rich_help_panel=_CLUSTER, help="The share of it that is reached."),
    ] = None,
    price_core_hour: Money = None,
    price_tb_month: Money = None,
    price_egress_gb: Money = None,
    price_gpu_hour: Money = None,
    months: Annotated[
        float, typer.Option(rich_help_panel=_PRICES, help="That the tables are kept.")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="For a program.")] = False,
) -> None:
    """What a run will read, write, shuffle, take and cost, stage by stage, before it is begun."""
    if candidates is not None and pairs is not None:
        raise BadInput("--candidates and --pairs exclude one another: name one of them")
    settings, what = _settings(config, sets or [])
    figures = plan_rates.read(rates or [], assume or [])
    cluster = Cluster(executors, cores, memory, gbit, gpus, gpu_tflops, mfu)
    prices = Prices(price_core_hour, price_tb_month, price_egress_gb, price_gpu_hour, months)
    if pairs is not None:
        candidates = candidates_for(settings, pairs, figures)
    made = planned(settings, 10e9 if candidates is None else candidates, figures)
    stages = timed(made, cluster, settings, figures)
    billed = bill(made, stages, cluster, prices) if prices.given else None
    if as_json:
        typer.echo(json.dumps(plan_page.tree(made, stages, cluster, billed, figures), indent=1))
    else:
        typer.echo(plan_page.page(made, stages, cluster, billed, figures, what), nl=False)


def _settings(config: Path | None, sets: list[str]) -> tuple[Settings, str]:
    if config is not None:
        return load.load(config, sets), config.name
    # The package may be a zip.
    with as_file(files("jobs").joinpath("configs", "clip400m.toml")) as path:
        return load.load(path, sets), path.name
