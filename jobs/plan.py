"""Plan: what every stage will read, write, shuffle and take, from settings and rates alone.

Rows follow from the number of candidates and from assumptions (`jobs.plan_pool`, plan_rates.toml),
everything else from rows times rates. Nothing here touches a disk or a clock.
"""

import math
from dataclasses import dataclass
from typing import Any

from jobs import plan_pool
from jobs.plan_rates import Rates
from pipeline.errors import BadInput
from pipeline.settings import Settings
from pipeline.trainer.architectures import architecture
from pipeline.trainer.flops import training_flops


@dataclass(frozen=True)
class StagePlan:
    """One stage. Rows in are rows out and the dropped."""

    verb: str
    rows_in: float
    rows_out: float
    dropped: dict[str, float]
    bytes_in: float
    bytes_out: float
    shuffle_bytes: float
    core_seconds: float
    memory_gb_per_task: float
    waiting_seconds: float = 0.0
    """Of threads that wait for servers, all together; they are not of a core."""
    network_bytes: float = 0.0
    """Received from the web."""


@dataclass(frozen=True)
class Training:
    """What the model costs, whatever machine learns it."""

    model: str
    pairs: float
    """Seen in all epochs."""
    flops_per_pair: float

    @property
    def flops(self) -> float:
        return self.pairs * self.flops_per_pair


@dataclass(frozen=True)
class Plan:
    """Every stage in order, the training, and what the caps came to."""

    candidates: float
    stages: list[StagePlan]
    training: Training
    pool: plan_pool.Drawn
    notes: list[str]

    @property
    def pairs(self) -> float:
        """In shards."""
        return self.stage("shard").rows_out

    @property
    def storage_bytes(self) -> float:
        """Of all tables, which a run keeps."""
        return sum(stage.bytes_out for stage in self.stages)

    @property
    def scratch_bytes(self) -> float:
        """Of the largest shuffle: scratch disks of all machines together."""
        return max(stage.shuffle_bytes for stage in self.stages)

    @property
    def core_seconds(self) -> float:
        return sum(stage.core_seconds for stage in self.stages)

    def stage(self, verb: str) -> StagePlan:
        return next(stage for stage in self.stages if stage.verb == verb)


def planned(settings: Settings, candidates: float, rates: Rates) -> Plan:
    """The plan of a run with so many candidates, which are rows of 02_candidates.

    Raises BadInput for a number of candidates that there cannot be.
    """
    if not (0 < candidates < math.inf):
        raise BadInput(f"--candidates {candidates:g}: a plan is of 1 candidate or more")
    of, share = rates.of, rates.share
    balance = settings.balance
    like_published = candidates * share("like_published")
    has_all = settings.match.semantics == "tokens"
    matched = candidates * share("matched") if has_all else like_published
    pool = plan_pool.drawn(
        min(like_published, matched),
        balance.max_pairs_per_query,
        balance.headroom,
        settings.download.rounds,
        alive=share("alive"),
        kept_by_dedup=share("kept_by_dedup"),
        spread=share("queries_together"),
    )
    links = candidates / share("kept_by_ingest")
    queries = float(settings.derive.max_queries)
    hashes = 1 + len(settings.fingerprint.variants)
    evals = share("eval_images") if settings.evalsets else 0.0
    overlaps = pool.alive * share("overlaps_per_image") if settings.evalsets else 0.0
    train_pairs = pool.balanced * settings.train.epochs

    def line(
        verb: str,
        rows_in: float,
        rows_out: float,
        why: str = "",
        *,
        reads: float = 0.0,
        core_seconds: float = 0.0,
        shuffle: float = 0.0,
        **more: Any,
    ) -> StagePlan:
        """`core_seconds` and `shuffle` come on top of what rows cost."""
        more.setdefault("memory_gb_per_task", of(verb, "memory_gb_per_task"))
        rate = more.pop("rate", of(verb, "rows_per_core_second"))
        return StagePlan(
            verb,
            rows_in,
            rows_out,
            {why: rows_in - rows_out} if why else {},
            reads,
            rows_out * of(verb, "bytes_out_per_row"),
            rows_in * of(verb, "shuffle_bytes_per_row") + shuffle,
            rows_in / rate + core_seconds,
            **more,
        )

    stages = [line("derive", queries, queries)]
    stages.append(
        line(
            "ingest",
            links,
            candidates,
            "language, length, duplicates",
            reads=links * of("ingest", "bytes_in_per_row"),
            core_seconds=links / of("ingest", _source_rate(settings)),
        )
    )
    wrote = {stage.verb: stage.bytes_out for stage in stages}
    stages.append(line("match", candidates, matched, "no query", reads=wrote["ingest"]))
    full = "every query is full"
    near = of("draw", "shuffle_bytes_per_claim")
    wrote["match"] = stages[-1].bytes_out
    stages.append(
        line("draw", matched, pool.first, full, reads=wrote["match"], shuffle=pool.near * near)
    )
    dead = pool.drawn - pool.alive
    received = pool.alive * share("bytes_received_per_image")
    drawn_bytes = pool.drawn * of("draw", "bytes_out_per_row")
    stages.append(
        line(
            "download",
            pool.drawn,
            pool.alive,
            "no image",
            reads=drawn_bytes + received,
            # A rate of images: a link that is dead costs less.
            core_seconds=dead / of("download", "dead_links_per_core_second")
            - dead / of("download", "rows_per_core_second"),
            waiting_seconds=pool.drawn * share("seconds_per_link"),
            network_bytes=received,
        )
    )
    images = stages[-1].bytes_out
    decoded = of("fingerprint", "decoded_per_core_second")
    is_hashed = settings.download.fingerprints
    stages.append(
        line(
            "fingerprint",
            pool.alive + evals * hashes,
            pool.alive + evals * hashes,
            reads=pool.alive * of("draw", "bytes_out_per_row") if is_hashed else images,
            core_seconds=(0.0 if is_hashed else pool.alive / decoded) + evals * hashes / decoded,
        )
    )
    hashed = stages[-1].bytes_out
    per_million = of("dedup", "memory_gb_per_million_hashes")
    stages.append(
        line(
            "dedup",
            pool.alive,
            pool.kept_by_dedup,
            "equal, near, or in an evaluation set",
            reads=hashed,
            memory_gb_per_task=of("dedup", "memory_gb_per_task")
            + per_million * evals * hashes / 1e6,
        )
    )
    near = of("balance", "shuffle_bytes_per_claim")
    stages.append(
        line(
            "balance",
            pool.kept_by_dedup,
            pool.balanced,
            full,
            reads=pool.alive * of("draw", "bytes_out_per_row"),
            shuffle=pool.near_kept * near,
        )
    )
    kept = pool.balanced
    stages.append(line("shard", kept, kept, reads=images))
    stages.append(line("audit", overlaps, overlaps, reads=hashed))
    stages.append(line("train-tokenizer", kept, kept, reads=stages[7].bytes_out))
    arch = architecture(settings.train.model)
    training = Training(settings.train.model, train_pairs, training_flops(arch))
    return Plan(candidates, stages, training, pool, _notes(settings))


def candidates_for(settings: Settings, pairs: float, rates: Rates) -> float:
    """The candidates from which so many pairs come. Raises BadInput where none are enough."""
    low, high = 1.0, 1e15
    if not 0 < pairs <= planned(settings, high, rates).pairs:
        raise BadInput(
            f"--pairs {pairs:g}: with a cap of {settings.balance.max_pairs_per_query:,} a plan is "
            f"of 1 to {planned(settings, high, rates).pairs:,.0f} pairs"
        )
    for _ in range(60):
        middle = math.sqrt(low * high)
        enough = planned(settings, middle, rates).pairs >= pairs
        low, high = (low, middle) if enough else (middle, high)
    return high


def _source_rate(settings: Settings) -> str:
    """Of the slowest kind of source that the settings name."""
    if settings.ingest.warcs:
        return "warc_links_per_core_second"
    if settings.ingest.wats:
        return "wat_links_per_core_second"
    return "table_rows_per_core_second"


def _notes(settings: Settings) -> list[str]:
    notes = []
    if settings.balance.semantics == "rarest":
        notes.append("balance.semantics = `rarest` is planned as `union`, which keeps more")
    if settings.download.retry_failures and settings.download.rounds > 1:
        notes.append("links that are asked for again in a later round are not counted")
    if settings.train.shards is not None:
        notes.append("train.shards names other shards: the training is planned for the run's own")
    return notes
