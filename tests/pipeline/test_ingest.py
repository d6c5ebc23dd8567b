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
from pipeline.ingest import ingest
from pipeline.ingest.clean import clean, clean_caption, clean_url, language_of, pair_id
from pipeline.ingest.links import Link, links_in, links_in_wat
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


def _record(payload: bytes) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: metadata\r\nContent-Length: {len(payload)}\r\n\r\n"
    return head.encode() + payload + b"\r\n\r\n"


def _captions(path: Path, data: bytes) -> list[str | None]:
    path.write_bytes(data)
    return [link.reason or link.caption for link in links_in_wat(str(path))]


_RECORDS = [
    _record(_payload([{"path": "IMG@/src", "url": "x.jpg", "alt": alt}])) for alt in ("a", "b")
]


def test_a_wat_is_read_plain_or_as_gzip_members(tmp_path: Path) -> None:
    assert _captions(tmp_path / "x.wat", b"".join(_RECORDS)) == ["a", "b"]
    members = b"".join(gzip.compress(record) for record in _RECORDS)
    assert _captions(tmp_path / "x.wat.gz", members) == ["a", "b"]


@pytest.mark.parametrize("name", ["x.wat", "x.wat.gz"])
def test_a_wat_that_breaks_off_anywhere_is_told_after_what_came_before(
    tmp_path: Path, name: str
) -> None:
    parts = [gzip.compress(r) if name.endswith("gz") else r for r in _RECORDS]
    whole = b"".join(parts)
    for end in [0, *range(len(parts[0]) + 1, len(whole), 7)]:
        told = _captions(tmp_path / name, whole[:end])
        assert told[-1] == "unreadable file", end
        assert end == 0 or told[0] == "a", end


def test_half_a_surrogate_pair_in_a_caption_is_replaced(tmp_path: Path) -> None:
    record = _record(_payload([{"path": "IMG@/src", "url": "\ud83d.jpg", "alt": "cut \ud83d"}]))
    path = tmp_path / "x.wat"
    path.write_bytes(record)
    (link,) = links_in_wat(str(path))
    assert (link.caption or "").encode() == "cut \ufffd".encode()


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


def test_bytes_that_are_no_text_are_replaced_and_lose_no_row(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.parquet"
    captions = pa.array([b"caf\xe9 with a red circle", b"\x00\xff"], pa.binary())
    pq.write_table(pa.table({"url": ["http://a.example/1"] * 2, "caption": captions}), path)
    rows = ingest(spark, IngestSettings(tables=[TableSource(path=str(path))])).collect()
    assert sum(row.rows for row in rows) == 2
    assert "caf\ufffd with a red circle" in [row.caption for row in rows]


def test_files_of_one_table_with_other_columns_are_named(
    spark: SparkSession, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"url": ["u"], "caption": ["c"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"URL": ["u"], "TEXT": ["c"]}), tmp_path / "b.parquet")
    with pytest.raises(BadInput, match=r"b\.parquet has the columns URL and TEXT"):
        ingest(spark, IngestSettings(tables=[TableSource(path=str(tmp_path))]))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(BadInput, match=r"b\.parquet is not a whole parquet file"):
        ingest(spark, IngestSettings(tables=[TableSource(path=str(tmp_path))]))


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
