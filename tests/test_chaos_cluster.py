"""Losses on a cluster, and shards that always fail; `make test-chaos-cluster` brings about many."""

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.chaos import cluster
from tests.chaos.cluster import Chaos
from tests.chaos.cluster_rounds import Kill
from tests.chaos.cluster_told import differences, lost_and_doubled, told
from tests.cluster.standalone import wait_for

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    root = tmp_path_factory.mktemp("chaos")
    with cluster.prepared(root, pairs=150, on_cluster=False) as found:
        yield found


def test_what_is_killed_on_a_cluster_changes_nothing(chaos: Chaos) -> None:
    kills = [
        Kill("match", "machine", 0.3),
        Kill("download", "executor", 0.5),
        Kill("dedup", "driver", 0.4),
        Kill("balance", "python", 0.5),
        Kill("shard", "zombie", 0.5),
    ]
    found = chaos.round("killed", kills, random.Random(3))
    assert found.hits.total() >= 3, found
    assert (found.lost, found.doubled, found.differences) == (Counter(), Counter(), [])


def test_a_pair_that_is_lost_or_there_twice_is_counted(chaos: Chaos) -> None:
    broken = chaos.whole._replace(pairs={**chaos.whole.pairs})
    one, other, *_ = broken.pairs["final tars"]
    found = broken.pairs["final tars"].copy()
    found[one] += 1
    del found[other]
    broken.pairs["final tars"] = found
    expected = Counter({"final tars": 1})
    assert lost_and_doubled(chaos.whole, broken) == (expected, expected)
    assert lost_and_doubled(chaos.whole, chaos.whole) == (Counter(), Counter())


def test_a_shard_that_always_fails_is_named_and_the_others_are_made(chaos: Chaos) -> None:
    run = chaos.root / "poisoned"
    chaos.copy(run, "download")
    for folder, name in (("05_images", "00001.tar"), ("09_shards", "000001.tar")):
        with chaos.started(run) as process:
            wait_for((run / folder / "_begun.json").exists, process, 300)
            (run / folder / name).mkdir()  # no file can be moved there
            assert process.wait(300) == 2
        words = cluster.log_text(run).splitlines()[-1]
        assert f"1 shard failed at every try: {name.removesuffix('.tar')}" in words
        assert "on " in words
        made = {file: file.stat().st_mtime_ns for file in (run / folder).glob("0*.tar")}
        del made[run / folder / name]
        assert made
        (run / folder / name).rmdir()
    with chaos.started(run) as process:
        assert process.wait(300) == 0, cluster.log_text(run)
    assert {file: file.stat().st_mtime_ns for file in made} == made
    assert differences(chaos.whole, told(run, chaos.tables)) == []
