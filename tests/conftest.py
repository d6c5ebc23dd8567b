"""One Spark session and one small world for all tests: few cores, few partitions."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from small import SMALL

from jobs import walk
from jobs.run import Run
from jobs.spark import session
from jobs.world import World, make_world, serve
from pipeline.settings import SparkSettings
from tests.s3_server import S3Server, served

PAIRS = 300
PORT = 18584


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    scratch: Path = tmp_path_factory.mktemp("spark")
    settings = SparkSettings(master="local[2]", partitions=3, driver_memory="2g")
    # Adaptive execution would make one partition of every small table, whatever is asked for.
    found = session(settings, scratch, {"spark.sql.adaptive.enabled": "false"})
    yield found
    found.stop()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A small web with planted trouble, and its server."""
    made = make_world(tmp_path_factory.mktemp("world") / "web", PAIRS, port=PORT)
    with serve(made.folder, made.port):
        yield made


@pytest.fixture(scope="module")
def one_s3() -> Iterator[S3Server]:
    with served() as found:
        yield found


@pytest.fixture
def s3(one_s3: S3Server) -> Iterator[S3Server]:
    """An object store without faults, that has been asked for nothing yet."""
    one_s3.asked.clear()
    yield one_s3
    one_s3.faults.clear()
    one_s3.seconds = 0.0


@pytest.fixture(scope="session")
def built(world: World, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run in the small world."""
    root = tmp_path_factory.mktemp("runs") / "first"
    run = Run.open(root, world.settings, [*SMALL, "spark.partitions=3"])
    walk.build(run)
    return run


@pytest.fixture(scope="session")
def other(built: Run, world: World, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with other partitions, up to its shards, after `built` has healed what heals."""
    root = tmp_path_factory.mktemp("runs") / "other"
    run = Run.open(root, world.settings, [*SMALL, "spark.partitions=7"])
    for stage in walk.STAGES[:9]:
        stage.make(run)
    return run
