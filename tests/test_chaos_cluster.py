"""A few losses on a cluster, as `make test-chaos-cluster` brings about many."""

import random
from collections import Counter
from pathlib import Path

from tests.chaos import cluster
from tests.chaos.cluster import Kill
from tests.chaos.cluster_told import lost_and_doubled


def test_what_is_killed_on_a_cluster_changes_nothing(tmp_path: Path) -> None:
    kills = [
        Kill("match", "machine", 0.3),
        Kill("download", "executor", 0.5),
        Kill("dedup", "driver", 0.4),
        Kill("balance", "python", 0.5),
        Kill("shard", "zombie", 0.5),
    ]
    with cluster.prepared(tmp_path, pairs=150) as chaos:
        found = chaos.round("killed", kills, random.Random(3))
        # Where it is compared: the same run, but for a pair that is lost and one that came twice.
        whole = chaos.whole
        broken = whole._replace(pairs={**whole.pairs, "matched": Counter(whole.pairs["matched"])})
        one, other, *_ = broken.pairs["matched"]
        broken.pairs["matched"][one] += 1
        del broken.pairs["matched"][other]
    assert found.hits.total() >= 3, found
    assert (found.lost, found.doubled, found.differences) == (Counter(), Counter(), [])
    lost, doubled = lost_and_doubled(whole, broken)
    assert (lost, doubled) == (Counter(matched=1), Counter(matched=1))
