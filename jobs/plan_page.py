"""The plan as a person reads it, in Markdown, and as JSON."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from jobs.plan import Plan
from jobs.plan_cluster import HOUR, Bill, Cluster, Timed, gpu_hours
from jobs.plan_rates import Rates

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def page(
    plan: Plan, stages: list[Timed], cluster: Cluster, bill: Bill | None, rates: Rates, what: str
) -> str:
    """The whole plan; `what` says of which settings."""
    lines = [f"# Plan: {what}, {plan.candidates:,.0f} candidates", ""]
    lines += [_head(plan, stages, cluster), ""]
    lines += _table(
        ("stage", "rows in", "rows", "dropped", "read", "written", "shuffled"),
        (
            (
                stage.verb,
                f"{stage.rows_in:,.0f}",
                f"{stage.rows_out:,.0f}",
                ", ".join(f"{why} {rows:,.0f}" for why, rows in stage.dropped.items()),
                size(stage.bytes_in),
                size(stage.bytes_out),
                size(stage.shuffle_bytes),
            )
            for stage in plan.stages
        ),
    )
    lines += _table(
        ("stage", "core-hours", "on the clock", "bound by", "memory of an executor"),
        (
            (
                stage.verb,
                f"{stage.core_seconds / HOUR:,.1f}",
                duration(on.seconds),
                on.bound,
                f"{on.memory_gb:,.1f} GB"
                + (f", more than its {cluster.memory_gb:g}" * (on.memory_gb > cluster.memory_gb)),
            )
            for stage, on in zip(plan.stages, stages, strict=True)
        ),
    )
    lines += [*_training(plan, cluster), *_money(bill), *_notes(plan, cluster)]
    lines += ["## Assumptions", ""]
    lines += _table(
        ("what", "value", "origin"),
        ((name, f"{value:,.6g}", origin) for name, (value, origin) in rates.assumptions.items()),
    )
    lines += ["## Rates", ""]
    lines += _table(
        ("stage", "figure", "value", "origin"),
        (
            (verb, name, f"{value:,.6g}", origin)
            for verb, figures in rates.stages.items()
            for name, (value, origin) in figures.items()
        ),
    )
    return "\n".join(lines).rstrip() + "\n"


def tree(
    plan: Plan, stages: list[Timed], cluster: Cluster, bill: Bill | None, rates: Rates
) -> dict[str, Any]:
    """The same for a program."""
    return {
        "candidates": plan.candidates,
        "pairs": plan.pairs,
        "stages": [
            asdict(stage)
            | {"clock_seconds": on.seconds, "bound": on.bound, "memory_gb": on.memory_gb}
            for stage, on in zip(plan.stages, stages, strict=True)
        ],
        "core_hours": plan.core_seconds / HOUR,
        "clock_seconds": sum(on.seconds for on in stages),
        "storage_bytes": plan.storage_bytes,
        "scratch_bytes": plan.scratch_bytes,
        "caps": plan.pool._asdict(),
        "training": asdict(plan.training)
        | {"flops": plan.training.flops, "gpu_hours": gpu_hours(plan, cluster)},
        "cluster": asdict(cluster),
        "money": None if bill is None else asdict(bill) | {"total": bill.total},
        "notes": plan.notes,
        "assumptions": {name: f._asdict() for name, f in rates.assumptions.items()},
        "rates": {
            verb: {name: f._asdict() for name, f in figures.items()}
            for verb, figures in rates.stages.items()
        },
    }


def size(count: float) -> str:
    """Bytes in the unit that suits them."""
    power = 0
    while count >= 999.5 and power < len(_UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.3g} {_UNITS[power]}"


def duration(seconds: float) -> str:
    """Time in the unit that suits it."""
    for unit, name in ((86_400.0, "days"), (HOUR, "h"), (60.0, "min")):
        if seconds >= 2 * unit or (name == "h" and seconds >= unit):
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


def _head(plan: Plan, stages: list[Timed], cluster: Cluster) -> str:
    pool = plan.pool
    clock = duration(sum(on.seconds for on in stages))
    return (
        f"{plan.pairs:,.0f} pairs in shards. {plan.core_seconds / HOUR:,.0f} core-hours, {clock} "
        f"on {cluster.executors} executors of {cluster.cores} cores; {size(plan.storage_bytes)} of "
        f"tables, and at most {size(plan.scratch_bytes)} of shuffles on scratch disks. "
        f"{pool.crowded:,} queries have more pairs than their cap with headroom: downloads fill "
        f"{100 * pool.first_filled:.1f}% of their caps in one round and {100 * pool.filled:.1f}% "
        "in all rounds."
    )


def _training(plan: Plan, cluster: Cluster) -> list[str]:
    training = plan.training
    told = (
        f"Training {training.model} on {training.pairs:,.0f} pairs: {training.flops:.3g} FLOP "
        f"({training.flops_per_pair / 1e9:,.1f} GFLOP a pair)"
    )
    hours = gpu_hours(plan, cluster)
    if hours is None:
        return [f"{told}. GPU-hours need --gpu-tflops and --mfu.", ""]
    told += (
        f", {hours:,.0f} GPU-hours at {cluster.gpu_tflops:g} TFLOP/s and {cluster.mfu:.0%} of it"
    )
    if cluster.gpus is not None:
        told += f", {duration(hours * HOUR / cluster.gpus)} on {cluster.gpus}"
    return [f"{told}.", ""]


def _money(bill: Bill | None) -> list[str]:
    if bill is None:
        return []
    parts = [f"{what} {amount:,.2f}" for what, amount in bill.lines.items()]
    told = f"At the prices given: {' + '.join(parts)} = {bill.total:,.2f}."
    if bill.missing:
        told += f" Not in it: {'; '.join(bill.missing)}."
    return [told, ""]


def _notes(plan: Plan, cluster: Cluster) -> list[str]:
    notes = [f"- {note}" for note in plan.notes]
    if cluster.gbit is None:
        notes.append("- the line to the web is taken to be no bound: --gbit says what it carries")
    notes.append("- `wit evaluate` is not planned: it takes minutes to hours on one GPU")
    return [*notes, ""]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """A Markdown table, its columns aligned; text to the left, numbers to the right."""
    body = [tuple(cell.replace("|", "\\|") for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in (head, *body)
    ]
    rule = " | ".join("-" * max(3, width) for width in widths)
    first, *rest = [f"| {line.rstrip()} |" for line in lines]
    return [first, f"| {rule} |", *rest, ""]
