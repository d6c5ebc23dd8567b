"""Shards as the stage writes them, and strangers to read them: each in its own environment."""

from pathlib import Path

import corpus
import pytest
from asking import Strangers
from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def shards(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished stage `shard`, with all that it lays beside the tars."""
    return corpus.write_run(tmp_path_factory.mktemp("interop") / "run", spark)


@pytest.fixture(scope="session")
def told() -> list[corpus.Pair]:
    """What the shards hold."""
    return corpus.pairs()


@pytest.fixture
def strangers(tmp_path: Path) -> Strangers:
    """Whoever reads or writes by the packages of an environment."""
    home = tmp_path / "home"
    home.mkdir()
    return Strangers(home)
