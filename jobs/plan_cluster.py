"""Cluster: a plan's stages on given machines, by the clock, in memory and in money."""

import math
from dataclasses import dataclass

from jobs.plan import Plan, StagePlan
from jobs.plan_rates import Rates
from pipeline.errors import BadInput
from pipeline.settings import Settings

HOUR = 3600.0


@dataclass(frozen=True)
class Cluster:
    """Executors that are alike, the line to the web that they share, and GPUs beside them."""

    executors: int = 16
    cores: int = 8
    """Of each."""
    memory_gb: float = 32.0
    """Of each."""
    gbit: float | None = None
    """Per second from the web, of all together; None: no bound."""
    gpus: int | None = None
    gpu_tflops: float | None = None
    """Dense bf16, of one."""
    mfu: float | None = None
    """The share of it that a training reaches."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (0 < value < math.inf):
                option = name.removesuffix("_gb").replace("_", "-")
                raise BadInput(f"--{option} {value:g}: it must be more than 0")
        if self.mfu is not None and self.mfu > 1:
            raise BadInput(f"--mfu {self.mfu:g}: a share of the GPU's peak is at most 1")
        if (self.gpu_tflops is None) != (self.mfu is None):
            raise BadInput("--gpu-tflops and --mfu go together: GPU-hours need both")
        if self.gpus is not None and self.gpu_tflops is None:
            raise BadInput("--gpus needs --gpu-tflops and --mfu: how fast they are")


@dataclass(frozen=True)
class Prices:
    """The user's own; what has none is not added up."""

    core_hour: float | None = None
    tb_month: float | None = None
    egress_gb: float | None = None
    gpu_hour: float | None = None
    months: float = 1.0
    """That the tables are kept."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (0 <= value < math.inf):
                option = "--months" if name == "months" else f"--price-{name.replace('_', '-')}"
                raise BadInput(f"{option} {value:g}: it cannot be less than 0")

    @property
    def given(self) -> bool:
        return any(
            price is not None
            for price in (self.core_hour, self.tb_month, self.egress_gb, self.gpu_hour)
        )


@dataclass(frozen=True)
class Timed:
    """A stage on a cluster."""

    verb: str
    seconds: float
    bound: str
    """What it waits for: cores, servers or the line."""
    memory_gb: float
    """Of an executor whose cores all work."""


@dataclass(frozen=True)
class Bill:
    """Money, line by line, in whatever the prices are."""

    lines: dict[str, float]
    missing: list[str]
    """What no price was given for."""

    @property
    def total(self) -> float:
        return sum(self.lines.values())


def timed(plan: Plan, cluster: Cluster, settings: Settings, rates: Rates) -> list[Timed]:
    """Every stage by the clock."""
    return [_timed(stage, cluster, settings, rates) for stage in plan.stages]


def _timed(stage: StagePlan, cluster: Cluster, settings: Settings, rates: Rates) -> Timed:
    tasks = cluster.executors * cluster.cores
    bounds = {"cores": stage.core_seconds / (tasks * rates.share("busy"))}
    if stage.waiting_seconds:
        bounds["servers"] = stage.waiting_seconds / (tasks * settings.download.threads)
    if stage.network_bytes and cluster.gbit is not None:
        bounds["line"] = 8 * stage.network_bytes / (cluster.gbit * 1e9)
    bound = max(bounds, key=lambda name: bounds[name])
    memory = rates.share("memory_gb_per_executor") + cluster.cores * stage.memory_gb_per_task
    return Timed(stage.verb, bounds[bound], bound, memory)


def gpu_hours(plan: Plan, cluster: Cluster) -> float | None:
    """None where nothing is known of the GPUs."""
    if cluster.gpu_tflops is None or cluster.mfu is None:
        return None
    return plan.training.flops / (cluster.gpu_tflops * 1e12 * cluster.mfu) / HOUR


def bill(plan: Plan, stages: list[Timed], cluster: Cluster, prices: Prices) -> Bill:
    """What it costs: every core for as long as its stage lasts, busy or not."""
    hours = sum(stage.seconds for stage in stages) / HOUR * cluster.executors * cluster.cores
    gpus = gpu_hours(plan, cluster)
    amounts = {
        "cores": (prices.core_hour, hours, "--price-core-hour"),
        "storage": (
            prices.tb_month,
            plan.storage_bytes / 1e12 * prices.months,
            "--price-tb-month",
        ),
        "shards to the GPUs, once": (
            prices.egress_gb,
            plan.stage("shard").bytes_out / 1e9,
            "--price-egress-gb",
        ),
        "GPUs": (prices.gpu_hour, gpus, "--price-gpu-hour, --gpu-tflops and --mfu"),
    }
    lines = {
        what: price * amount
        for what, (price, amount, _) in amounts.items()
        if price is not None and amount is not None
    }
    missing = [f"{what} ({how})" for what, (_, _, how) in amounts.items() if what not in lines]
    return Bill(lines, missing)
