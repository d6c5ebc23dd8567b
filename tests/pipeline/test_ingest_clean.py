"""pipeline.ingest.clean"""

import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ingest import quality
from pipeline.ingest.clean import CLEAN, Candidate, clean, clean_links, pair_id
from pipeline.ingest.links import Link
from pipeline.ingest.training import train
from pipeline.ingest.urls import without_tracking
from pipeline.settings import IngestSettings

_URLS = st.sampled_from(
    [
        None,
        "",
        "data:,x",
        "http://a.example/1",
        "HTTP://A.example/1?utm_id=2#x",
        "http://b.a.example",
    ]
) | st.text().map("http://c.example/{}".format)
_ODD = [None, "🎉", "x", "e\u0301" * 30, "שלום עולם \u202e", "a\x00b\x00c\x00d\x00"]
_PLAIN = ["A red circle &amp; a star", "Ein roter Kreis auf der Wiese", "Buy a red circle now"]
_CAPTIONS = st.sampled_from([*_ODD, *_PLAIN]) | st.text(max_size=30)
_LINKS = st.builds(
    Link, _URLS, _CAPTIONS, st.none() | st.just("http://p.example/"), st.none()
) | st.just(Link(None, None, None, "unreadable record"))


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> IngestSettings:
    """Every knob of cleaning turned."""
    folder = tmp_path_factory.mktemp("lists")
    (folder / "domains").write_text("b.a.example\n")
    (folder / "urls").write_text("http://c.example/\n")
    (folder / "phrases").write_text("red star\nwiese\n")
    lines = "".join(
        f"__label__good a thing seen {n}\n__label__bad buy a thing {n}\n" for n in range(99)
    )
    (folder / "labels").write_text(lines)
    train(str(folder / "labels"), str(folder / "model.bin"))
    return IngestSettings(
        blocked_domains=[str(folder / "domains")],
        blocked_urls=[str(folder / "urls")],
        blocked_captions=[str(folder / "phrases")],
        filter_model=str(folder / "model.bin"),
        min_filter_score=0.3,
        languages=["en", "he", "fr"],
        min_language_score=0.2,
        tracking_parameters=["session"],
    )


def _batch(links: list[Link]) -> pa.RecordBatch:
    columns = zip(*links, strict=True) if links else [[]] * 4
    rows = [[_readable(text) for text in column] for column in columns]
    return pa.RecordBatch.from_arrays([pa.array(r, pa.string()) for r in rows], Link._fields)


def _readable(text: str | None) -> str | None:
    return text if text is None else text.encode(errors="replace").decode()


def _agree(links: list[Link], wanted: IngestSettings) -> None:
    """What `clean` says of each link is what `clean_links` says of them all."""
    pairs, reasons = clean_links(_batch(links), wanted)
    assert pairs.schema == CLEAN
    readable = [Link(*map(_readable, link)) for link in links]
    expected = [clean(link, wanted) for link in readable]
    assert reasons == [candidate.reason for candidate in expected]
    kept = iter(pairs.to_pylist())
    for link, candidate in zip(readable, expected, strict=True):
        if candidate.reason is None:
            row = next(kept)
            address = without_tracking(candidate.url, wanted.tracking_parameters)
            found = Candidate(*(row[name] for name in Candidate._fields[:-1]))
            assert (found, row["page_url"], row["address"]) == (candidate, link.page_url, address)
            assert row["pair_id"] == pair_id(address, candidate.caption)
    assert next(kept, None) is None


@settings(deadline=None)  # the first call compiles its expressions
@given(st.lists(_LINKS))
def test_a_batch_is_cleaned_as_each_link(links: list[Link]) -> None:
    _agree(links, IngestSettings())


@settings(deadline=None, max_examples=40)
@given(st.lists(_LINKS))
def test_a_batch_is_filtered_as_each_link(filtered: IngestSettings, links: list[Link]) -> None:
    _agree(links, filtered)


def test_real_captions_are_cleaned_as_each_of_them() -> None:
    folder = Path(os.environ.get("WIT_DATA", "")) / "captions"
    path = folder / "laion400m_sample_filtered.parquet"
    if not path.is_file():
        pytest.skip("no captions: set WIT_DATA to a folder with captions/ in it")
    rows = pq.read_table(path, columns=["url", "text"]).to_pylist()
    _agree([Link(row["url"], row["text"], None) for row in rows], IngestSettings())


@pytest.mark.parametrize(
    ("url", "caption", "reason"),
    [
        ("http://b.a.example/x", "a thing seen", "blocked domain"),
        ("http://c.example/?session=1", "a thing seen", "blocked url"),
        ("http://a.example/x", "Seen: a RED-star", "blocked caption"),
        ("http://a.example/x", "redstar seen", None),
        ("http://a.example/x", "Ein roter Kreis liegt auf dem Rasen", "language"),
        ("http://a.example/x", "buy a thing", "filter score"),
        ("http://a.example/x", "a thing seen", None),
    ],
)
def test_what_is_not_wanted_is_dropped_with_its_reason(
    filtered: IngestSettings, url: str, caption: str, reason: str | None
) -> None:
    assert clean(Link(url, caption, None), filtered).reason == reason


def test_captions_that_no_language_is_asked_of_still_have_one() -> None:
    pair = clean(Link("http://a.example", "Ein roter Kreis", None), IngestSettings(languages=[]))
    assert (pair.reason, pair.language) == (None, "de")


def test_a_label_that_the_model_lacks_is_named(filtered: IngestSettings) -> None:
    wrong = filtered.model_copy(update={"filter_label": "hq"})
    with pytest.raises(Exception, match=r"ingest\.filter_label: .* no label 'hq' \(it has .*good"):
        quality.model_of(wrong)


def test_bytes_that_are_no_text_are_replaced() -> None:
    raw = pa.array([b"caf\xe9 with a red circle"], pa.binary())
    broken = pa.StringArray.from_buffers(1, *raw.buffers()[1:])
    given_ = [pa.array(["http://a.example/"]), broken, *[pa.nulls(1, pa.string())] * 2]
    pairs, reasons = clean_links(
        pa.RecordBatch.from_arrays(given_, Link._fields), IngestSettings(languages=[])
    )
    assert reasons == [None]
    assert pairs.column("caption").to_pylist() == ["caf\ufffd with a red circle"]


def test_a_page_without_a_usable_address_is_not_known() -> None:
    links = [Link("http://a.example", f"a red circle {n}", "p" * n) for n in (2000, 2001)]
    pairs, _ = clean_links(_batch(links), IngestSettings(languages=[]))
    assert pairs.column("page_url").to_pylist() == ["p" * 2000, None]


def test_a_pair_is_named_by_the_hash_of_address_and_caption() -> None:
    expected = hashlib.sha256(b"http://a.example/\na red circle").hexdigest()[:32]
    assert pair_id("http://a.example/", "a red circle") == expected
