"""One Spark session for all tests: one core, few partitions, scratch in a temporary folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.spark import session
from pipeline.settings import SparkSettings


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    scratch: Path = tmp_path_factory.mktemp("spark")
    found = session(SparkSettings(master="local[2]", partitions=3, driver_memory="2g"), scratch)
    yield found
    found.stop()
