"""The stage, through Spark."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from download_site import Site, drawn, images, pictures, serving

from pipeline.download import download


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


def test_each_raw_shard_is_one_task_and_an_empty_one_makes_no_file(
    spark, site: Site, tmp_path: Path
) -> None:
    urls = pictures(site, 4)
    table = pa.concat_tables([drawn(urls, 2), drawn(urls[:3], 0)])
    source = tmp_path / "drawn.parquet"
    pq.write_table(table.take([6, 2, 4, 0, 3, 1, 5]), source)
    folder = tmp_path / "images"
    folder.mkdir()

    results = download(spark.read.parquet(str(source)), str(folder), site.settings())
    told = sorted(tuple(row) for row in results.collect())
    assert told == [(0, 3, 3, None, None), (2, 4, 4, None, None)]
    assert sorted(file.stem for file in folder.glob("*.tar")) == ["00000", "00002"]
    assert [row["position"] for row in images(folder, 2)] == [0, 1, 2, 3]
    assert results.rdd.getNumPartitions() == 3
