"""Rounds: which kills each one has, what came of it, and the table of all."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.chaos.cluster_losses import KINDS

WINDOWS = (
    ("derive", "ingest"),
    ("match", "draw"),
    ("download", "fingerprint"),
    ("dedup", "balance"),
    ("shard", "audit"),
)
"""Stages that a round makes, and kills in each; those before and behind them are done."""
STAGES = tuple(itertools.chain(*WINDOWS))


class Kill(NamedTuple):
    """A kill that is planned."""

    stage: str
    kind: str
    moment: float
    """Of the stage's duration."""


@dataclass
class Round:
    """What came of a build that was killed again and again."""

    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Kills of something alive while the stage ran, by stage and kind."""
    missed: Counter[tuple[str, str]] = field(default_factory=Counter)
    goes_on: list[str] = field(default_factory=list)
    """The last words of each build that ended with an error, after which it was given again."""
    tasks: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    doubled: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.doubled or self.differences)


def plan(chance: random.Random) -> Iterator[list[Kill]]:
    """The kills of each round: in 25 rounds every kind strikes in every stage."""
    decks: dict[str, list[str]] = {}
    for window in itertools.cycle(WINDOWS):
        kills: list[Kill] = []
        for stage in window:
            if not decks.get(stage):
                decks[stage] = chance.sample(KINDS, len(KINDS))
            kills.append(Kill(stage, decks[stage].pop(), chance.random()))
        yield kills


def as_json(rounds: list[Round]) -> dict[str, Any]:
    """The sums of all rounds."""
    tasks = sum((found.tasks for found in rounds), Counter[str]())
    hits = sum((found.hits for found in rounds), Counter[tuple[str, str]]())
    missed = sum((found.missed for found in rounds), Counter[tuple[str, str]]())
    return {
        "rounds": len(rounds),
        "kills": hits.total(),
        "missed": missed.total(),
        "tasks": dict(tasks),
        "goes_on": [line for found in rounds for line in found.goes_on],
        "lost_pairs": sum(found.lost.total() for found in rounds),
        "doubled_pairs": sum(found.doubled.total() for found in rounds),
        "unequal": sum(bool(found.differences) for found in rounds),
        "seconds": [round(found.seconds, 1) for found in rounds],
        "hits": {verb: {kind: hits[verb, kind] for kind in KINDS} for verb in STAGES},
    }


def as_table(rounds: list[Round]) -> str:
    """Kills that hit, by stage and kind, and what came of them."""
    sums = as_json(rounds)
    lines = ["", f"{'':12}" + "".join(f"{kind:>10}" for kind in KINDS)]
    for verb in STAGES:
        lines.append(f"{verb:12}" + "".join(f"{sums['hits'][verb][k]:10}" for k in KINDS))
    tasks = ", ".join(f"{name} {count:,}" for name, count in sums["tasks"].items())
    lines += [
        "",
        f"rounds {sums['rounds']}, kills {sums['kills']} (too late: {sums['missed']})",
        f"tasks: {tasks}",
        f"given again after an error: {len(sums['goes_on'])}",
        f"lost pairs {sums['lost_pairs']}, doubled pairs {sums['doubled_pairs']}, "
        f"unequal rounds {sums['unequal']}",
    ]
    return "\n".join(lines)
