"""pipeline.ingest"""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pipeline.errors import BadInput
from pipeline.ingest import (
    Link,
    clean,
    clean_caption,
    clean_url,
    ingest,
    language_of,
    links_in,
    links_in_wat,
    pair_id,
)
from pipeline.settings import IngestSettings, TableSource

_PAGE = "http://a.example/dir/page.html"


def _payload(links: object, base: str | None = None) -> bytes:
    head = {} if base is None else {"Base": base}
    metadata = {"HTML-Metadata": {"Head": head, "Links": links}}
    envelope = {
        "WARC-Header-Metadata": {"WARC-Target-URI": _PAGE},
        "Payload-Metadata": {"HTTP-Response-Metadata": metadata},
    }
    return json.dumps({"Envelope": envelope}).encode()


def test_links_are_relative_to_the_page_or_to_its_base() -> None:
    links = [{"path": "IMG@/src", "url": "x.jpg", "alt": "a red circle"}]
    (from_page,) = links_in(_payload(links))
    (from_base,) = links_in(_payload(links, base="/other/"))
    assert from_page.url == "http://a.example/dir/x.jpg"
    assert from_base.url == "http://a.example/other/x.jpg"


def test_only_images_are_links_and_a_title_stands_in_for_alt() -> None:
    links = [{"path": "A@/href", "url": "p"}, {"path": "IMG@/src", "url": "i", "title": "t"}]
    assert [link.caption for link in links_in(_payload(links))] == ["t"]


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(_payload))
def test_no_payload_stops_the_parser(payload: bytes) -> None:
    list(links_in(payload))


def test_what_lies_behind_a_broken_gzip_member_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "broken.wat.gz"
    path.write_bytes(gzip.compress(b"WARC/1.0\r\nWARC-Type: metadata\r\n")[:-12])
    assert all(link.reason is not None for link in links_in_wat(str(path)))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (None, "no url"),
        (" ", "no url"),
        ("data:image/png;base64,AAAA", "not http"),
        ("file:///etc/passwd", "not http"),
        ("http://[::1", "not http"),
        ("http:///x.jpg", "not http"),
        ("http://a.example/" + "x" * 3000, "url too long"),
    ],
)
def test_an_address_that_cannot_be_fetched_is_dropped_with_its_reason(
    url: str | None, reason: str
) -> None:
    assert clean_url(url, 2000)[1] == reason


def test_an_address_is_the_same_whatever_its_host_case_and_fragment() -> None:
    assert clean_url("HTTP://A.Example/X#top", 100) == ("http://a.example/X", None)


def test_a_caption_loses_entities_and_control_characters() -> None:
    assert clean_caption("a &amp; b\x00\n\tc\u200b &eacute;") == "a & b c é"


@given(st.text(), st.text())
def test_a_pair_is_cleaned_or_has_a_reason(url: str, caption: str) -> None:
    pair = clean(Link(url, caption, None), IngestSettings())
    assert pair.reason is not None or pair_id(pair.url, pair.caption)


def test_languages_are_told_apart() -> None:
    assert language_of("Ein roter Kreis liegt auf der Wiese")[0] == "de"
    assert language_of("A red circle lies in the meadow")[0] == "en"


def test_equal_pairs_meet_once_and_every_row_is_accounted_for(
    spark: SparkSession, tmp_path: Path
) -> None:
    urls = ["http://a.example/1", "http://A.example/1#x", None, "http://a.example/2"]
    captions = ["a red circle", "a red circle", "a red circle", "Ein roter Kreis auf der Wiese"]
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"URL": urls, "TEXT": captions}), path)
    rows = ingest(spark, IngestSettings(tables=[TableSource(path=str(path))])).collect()
    told = {row.dropped_for: row.rows for row in rows}
    assert told == {None: 2, "no url": 1, "language": 1}


def test_a_table_without_a_caption_says_which_columns_it_has(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"url": ["http://a.example"], "words": ["x"]}), path)
    with pytest.raises(BadInput, match=r"has no column caption or .*\(it has url, words\)"):
        ingest(spark, IngestSettings(tables=[TableSource(path=str(path))]))


@pytest.mark.parametrize(
    "settings",
    [
        IngestSettings(),
        IngestSettings(wats=["/nowhere.wat.gz"]),
        IngestSettings(tables=[TableSource(path="/nowhere.parquet")]),
    ],
)
def test_a_missing_source_is_named(spark: SparkSession, settings: IngestSettings) -> None:
    with pytest.raises(BadInput, match="ingest"):
        ingest(spark, settings)
