"""pipeline.ingest: the stage"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs.ingest import expanded
from pipeline.errors import BadInput
from pipeline.ingest import REASONS, ingest
from pipeline.ingest.training import train
from pipeline.settings import IngestSettings, TableSource

_HERE = "http://a.example"
_HOSTILE = [None, "", " \t ", "x" * 10**6, "\x00\x00", "\u202e\u2066", "🎉🎉", "a" + "\u0301" * 900]


def _table(folder: Path, rows: list[tuple[str | None, ...]], name: str = "t.parquet") -> Path:
    path = folder / name
    columns = ("url", "caption", "page_url")[: len(rows[0])]
    pq.write_table(
        pa.table(
            {
                column: pa.array([row[place] for row in rows], pa.string())
                for place, column in enumerate(columns)
            }
        ),
        path,
        row_group_size=2,
    )
    return path


def _settings(*paths: Path, **more: Any) -> IngestSettings:
    return IngestSettings(tables=[TableSource(path=str(path)) for path in paths], **more)


def _told(spark: SparkSession, wanted: IngestSettings) -> dict[str | None, int]:
    """The links that became candidates, under None, and those dropped by reason."""
    found: dict[str | None, int] = {}
    for row in ingest(spark, wanted)[0].collect():
        found[row.dropped_for] = found.get(row.dropped_for, 0) + row.rows
    return found


def test_equal_pairs_meet_once_and_every_row_is_accounted_for(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = _table(
        tmp_path,
        [
            (f"{_HERE}/1?utm_source=z", "a red circle"),
            ("http://A.example/1#x", "a  red circle"),
            (f"{_HERE}/1?fbclid=1", "a red circle"),
            (None, "a red circle"),
            (f"{_HERE}/2", "Ein roter Kreis auf der Wiese"),
        ],
    )
    rows = ingest(spark, _settings(path))[0].collect()
    told = {row.dropped_for: (row.url, row.caption, row.rows) for row in rows}
    assert told == {
        None: (f"{_HERE}/1", "a red circle", 3),
        "no url": (None, None, 1),
        "language": (None, None, 1),
    }


def test_the_page_that_is_known_and_first_stays(spark: SparkSession, tmp_path: Path) -> None:
    pages = [None, "http://c.example/", "http://b.example/"]
    path = _table(tmp_path, [(f"{_HERE}/1", "a red circle", page) for page in pages])
    wanted = IngestSettings(tables=[TableSource(path=str(path))])
    (row,) = ingest(spark, wanted)[0].collect()
    assert (row.page_url, row.rows) == ("http://b.example/", 3)


def test_the_candidates_are_the_same_however_the_rows_are_cut(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = [
        (f"{_HERE}/{n % 7}?v={n % 3}&utm_id={n}", f"a red circle number {n % 5}") for n in range(60)
    ]
    whole = _table(tmp_path, rows, "whole.parquet")
    parts = [_table(tmp_path, rows[n::4][::-1], f"part-{n}.parquet") for n in range(4)]
    one = {tuple(row) for row in ingest(spark, _settings(whole))[0].collect()}
    four = {tuple(row) for row in ingest(spark, _settings(*parts))[0].collect()}
    assert one == four


def test_each_source_tells_what_it_gave(spark: SparkSession, tmp_path: Path) -> None:
    first = _table(tmp_path, [(f"{_HERE}/1", "a red circle"), (None, "a red circle")], "1.parquet")
    second = _table(tmp_path, [(f"{_HERE}/1", "a red circle"), (f"{_HERE}/1", "🎉")], "2.parquet")
    wat = tmp_path / "x.wat"
    wat.write_bytes(b"no archive")
    wanted = expanded(
        IngestSettings(
            tables=[TableSource(path=str(tmp_path / "*.parquet"))], wats=[str(tmp_path / "*.wat")]
        )
    )
    candidates, per_source = ingest(spark, wanted)
    rows = candidates.collect()
    assert per_source == {
        str(first): {"links": 2, "fit": 1, "no url": 1},
        str(second): {"links": 2, "fit": 1, "no words": 1},
        "ingest.wats": {"links": 1, "fit": 0, "unreadable file": 1},
    }
    assert sum(row.rows for row in rows) == 5


def test_no_caption_stops_the_job_and_each_has_a_reason(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = _table(tmp_path, [(f"{_HERE}/{n}", caption) for n, caption in enumerate(_HOSTILE)])
    told = _told(spark, _settings(path, languages=[]))
    assert told == {"no caption": 5, "caption too long": 1, "no words": 1, None: 1}
    assert set(told) - {None} <= set(REASONS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of captions: what is for sale is bad."""
    folder = tmp_path_factory.mktemp("model")
    lines = [f"__label__good a circle seen {n}\n__label__bad buy a circle {n}\n" for n in range(99)]
    (folder / "labels.txt").write_text("".join(lines))
    train(str(folder / "labels.txt"), str(folder / "model.bin"))
    return str(folder / "model.bin")


_ROWS: list[tuple[str | None, ...]] = [
    (f"{_HERE}/1", "seen: a circle"),
    (f"{_HERE}/1?utm_id=1", "buy a very large red circle"),
    (f"{_HERE}/1?utm_id=1", "buy a very large red circle"),
    (f"{_HERE}/2", "buy a red circle"),
    (f"{_HERE}/3", "a circle, seen"),
    (f"{_HERE}/3", "a circle; seen"),
]


@pytest.mark.parametrize(
    ("which", "kept"),
    [
        ("longest", ["a circle, seen", "buy a red circle", "buy a very large red circle"]),
        ("best", ["a circle, seen", "buy a red circle", "seen: a circle"]),
    ],
)
def test_of_an_address_one_caption_stays(
    spark: SparkSession, tmp_path: Path, model: str, which: str, kept: list[str]
) -> None:
    path = _table(tmp_path, _ROWS)
    more = {"captions_per_url": which, "filter_model": model, "min_filter_score": 0.0}
    rows = ingest(spark, _settings(path, languages=[], **more))[0].collect()
    assert sorted(row.caption for row in rows if row.dropped_for is None) == kept
    others = [row.rows for row in rows if row.dropped_for == "another caption of the url"]
    assert sum(others) == (2 if which == "longest" else 3)
    assert sum(row.rows for row in rows) == len(_ROWS)


def test_every_caption_of_an_address_stays_unless_told_otherwise(
    spark: SparkSession, tmp_path: Path
) -> None:
    assert _told(spark, _settings(_table(tmp_path, _ROWS), languages=[])) == {None: 6}


def test_the_score_of_the_filter_is_kept_and_what_it_refuses_is_dropped(
    spark: SparkSession, tmp_path: Path, model: str
) -> None:
    path = _table(tmp_path, _ROWS)
    rows = ingest(spark, _settings(path, languages=[], filter_model=model))[0].collect()
    kept = [row for row in rows if row.dropped_for is None]
    assert all(row.filter_score >= 0.5 for row in kept)
    assert {row.dropped_for: row.rows for row in rows if row.dropped_for} == {"filter score": 3}


def test_a_blocklist_drops_in_the_job_what_it_names(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "domains.txt").write_text("a.example\n")
    path = _table(tmp_path, [("http://cdn.a.example/1", "a red circle"), *_ROWS[:1]])
    blocked = _settings(path, blocked_domains=[str(tmp_path / "*.txt")], languages=[])
    assert _told(spark, expanded(blocked)) == {"blocked domain": 2}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (IngestSettings(), "no source"),
        (IngestSettings(wats=["/nowhere.wat.gz"]), r"nowhere\.wat\.gz"),
        (IngestSettings(warcs=["/nowhere.warc.gz"]), r"nowhere\.warc\.gz"),
        (IngestSettings(tables=[TableSource(path="/nowhere.parquet")]), r"nowhere\.parquet"),
    ],
)
def test_a_missing_source_is_named(
    spark: SparkSession, settings: IngestSettings, told: str
) -> None:
    with pytest.raises(BadInput, match=f"ingest.*{told}"):
        ingest(spark, settings)


@pytest.mark.parametrize("setting", ["blocked_domains", "filter_model"])
def test_a_missing_list_or_model_is_named_before_the_job_begins(
    spark: SparkSession, tmp_path: Path, setting: str
) -> None:
    value = "/nowhere" if setting == "filter_model" else ["/nowhere"]
    with pytest.raises(BadInput, match=rf"ingest\.{setting}: /nowhere cannot be read"):
        ingest(spark, _settings(_table(tmp_path, _ROWS), **{setting: value}))


def test_the_best_caption_needs_a_model_that_says_which_it_is() -> None:
    with pytest.raises(ValueError, match="captions_per_url: `best` needs a filter_model"):
        IngestSettings(captions_per_url="best")
