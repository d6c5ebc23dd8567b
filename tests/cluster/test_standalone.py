"""The loopback cluster itself: jobs on two executors, a worker killed and another started."""

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster.standalone import Cluster, driver, wait_for

_JOB = textwrap.dedent(
    """
    import json, sys
    from pyspark.sql import SparkSession

    spark = (
        SparkSession.builder.master(sys.argv[1]).config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1").config("spark.ui.enabled", "false")
        .config("spark.pyspark.python", sys.executable).getOrCreate()
    )
    def told(numbers):
        import os, time
        time.sleep(0.5)  # so that the other executor gets its share
        yield os.getcwd(), os.getpid(), sum(numbers)
    for line in sys.stdin:
        seen = spark.sparkContext.parallelize(range(100), 6).mapPartitions(told).collect()
        with open(sys.argv[2], "a") as out:
            print(json.dumps(seen), file=out, flush=True)
    """
)


@pytest.mark.chaos
def test_a_job_runs_on_every_worker_and_survives_the_loss_of_one(tmp_path: Path) -> None:
    out, log = tmp_path / "told", tmp_path / "driver.log"
    out.touch()
    with Cluster(tmp_path / "cluster") as cluster:
        first, second = cluster.workers
        with driver(cluster, log, ["-c", _JOB, cluster.url, str(out)]) as process:

            def ask(nth: int) -> tuple[set[str], int]:
                assert process.stdin is not None
                process.stdin.write(b"go\n")
                process.stdin.flush()
                wait_for(lambda: len(out.read_text().splitlines()) == nth, process)
                told: list[Any] = json.loads(out.read_text().splitlines()[-1])
                names = {Path(place).relative_to(cluster.folder).parts[0] for place, _, _ in told}
                return names, sum(total for _, _, total in told)

            assert ask(1)[1] == 4950
            wait_for(lambda: all(cluster.executors(worker) for worker in cluster.workers))
            assert ask(2) == ({"worker0", "worker1"}, 4950)
            assert all(cluster.pythons(worker) for worker in cluster.workers)
            lost = [*cluster.executors(first), *cluster.pythons(first), first.pid]
            cluster.kill_machine(first)
            assert not any(psutil.pid_exists(pid) for pid in lost)
            assert cluster.alive() == [second]
            assert ask(3) == ({"worker1"}, 4950)
            third = cluster.start_worker()
            wait_for(lambda: cluster.executors(third))
            assert ask(4)[1] == 4950
            mine = [process.pid, second.pid, third.pid, *cluster.executors(third)]
            mine += cluster.executors(second)
    assert not [pid for pid in mine if psutil.pid_exists(pid)]
    assert os.getpid() not in mine
