"""The small world's corpus on a cluster of processes: the same bytes as on one machine."""

import hashlib
import random
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from small import SMALL

from jobs import walk
from jobs.run import Run
from jobs.world import World
from tests.chaos.cluster import Chaos
from tests.chaos.cluster_rounds import Kill
from tests.cluster.standalone import Cluster, driver

_SECONDS = 400.0
"""Of a machine that others use as well; alone it takes about a minute."""
_BUILD = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from jobs import walk
    from jobs.__main__ import main
    from jobs.options import on_master
    from jobs.run import Run

    def build():
        run = on_master(Run.open(Path("run"), Path(sys.argv[2]), sys.argv[3:]), sys.argv[1])
        for stage in walk.STAGES[: walk.STAGES.index(audit) + 1]:
            stage.make(run)

    audit = walk.stage_of("audit")
    main(build)
    """
)
_CLUSTER = (
    "spark.partitions=5",
    'spark.conf={"spark.speculation"="true", "spark.speculation.multiplier"="1.2", '
    '"spark.ui.enabled"="false"}',
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster") / "cluster") as found:
        yield found


@pytest.fixture(scope="module")
def spread(cluster: Cluster, other: Run, world: World) -> Run:
    """The same world built by two executors, without the trainings."""
    folder = cluster.folder.parent
    log = folder / "driver.log"
    words = [cluster.url, str(world.settings), *SMALL, *_CLUSTER]
    # The run is named by a relative path, and workers stand in folders of their own.
    with driver(cluster, log, ["-c", _BUILD, *words]) as process:
        code = process.wait(_SECONDS)
    assert code == 0, log.read_text() + cluster.executors_logs()[-5000:]
    used = [worker for worker in cluster.workers if list(worker.work.glob("*/*/stderr"))]
    assert used == cluster.workers
    return Run(folder / "run", other.settings)


def test_a_cluster_makes_the_same_tables_as_one_machine(spread: Run, other: Run) -> None:
    """Rows, drops and, where they are part of a manifest, the bytes."""
    for stage in walk.STAGES[:9]:
        for table in stage.writes:
            mine, its = (run.manifest(table) for run in (spread, other))
            told = ("rows", "rows_in", "dropped", "content", "settings")
            assert {key: mine[key] for key in told} == {key: its[key] for key in told}, table


def test_a_cluster_writes_the_same_shards_to_the_byte(spread: Run, other: Run) -> None:
    def digests(run: Run) -> dict[str, str]:
        files = sorted(file for file in run.path("shards").iterdir() if file.name[0] not in "_.")
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    assert digests(spread) == digests(other)
    assert len(digests(spread)) > 3


def test_the_master_of_one_call_is_not_kept(spread: Run) -> None:
    kept = Path(spread.root, "run.toml").read_text()
    assert "spark://" not in kept
    assert Run.open(spread.root, None, []).settings.spark.master.startswith("local")


def test_our_packages_travelled_and_left_no_note_in_the_run(spread: Run) -> None:
    assert list(spread.root.joinpath("_scratch").glob("webimagetext-*.zip"))
    assert list(spread.root.glob(".muster-*")) == []


@pytest.mark.parametrize(
    "kills",
    [
        [Kill("match", "machine", 0.3), Kill("draw", "driver", 0.5)],
        [Kill("balance", "executor", 0.5), Kill("shard", "zombie", 0.5)],
    ],
    ids=lambda kills: "-".join(kill.kind for kill in kills),
)
def test_what_is_killed_changes_nothing(cluster: Cluster, spread: Run, kills: list[Kill]) -> None:
    """`make test-chaos-cluster` does it again and again, in every stage."""
    chaos = Chaos(cluster.folder.parent, cluster, Path(spread.root))
    chaos.look()
    found = chaos.round(kills[0].kind, kills, random.Random(3))
    assert found.hits, found
    assert (found.lost, found.doubled, found.differences) == (Counter(), Counter(), [])
