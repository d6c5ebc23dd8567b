"""pipeline.ingest.blocklists"""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import BadInput
from pipeline.ingest import blocklists
from pipeline.settings import IngestSettings

_WORDS = st.sampled_from(["ab", "b", "ba", "c", "é"])
_PHRASES = st.lists(_WORDS, min_size=1, max_size=4).map(" ".join)


def _file(folder: Path, text: str) -> list[str]:
    path = folder / "list.txt"
    path.write_text(text)
    return [str(path)]


@pytest.mark.parametrize(
    ("url", "is_blocked"),
    [
        ("http://bad.example/x", True),
        ("https://www.cdn.bad.example:8080/x", True),
        ("http://bad.example./x", True),
        ("http://notbad.example/", False),
        ("http://bad.example.org/", False),
        ("http://example/", False),
        ("http://good.example/bad.example", False),
        ("http://xn--bcher-kva.example/", True),
        ("http://[::1]:80/", True),
        ("http://[::2]/", False),
    ],
)
def test_a_domain_blocks_itself_and_what_is_under_it(
    tmp_path: Path, url: str, is_blocked: bool
) -> None:
    listed = "# ours\n\n*.Bad.example\nBücher.example\r\n[::1]\n"
    lists = blocklists.load(IngestSettings(blocked_domains=_file(tmp_path, listed)))
    urls = pa.array(["http://other.example/", url])
    assert lists.blocks_domain(urls).tolist() == [False, is_blocked]
    assert lists.blocks_domain(urls.slice(1)).tolist() == [is_blocked]


def test_an_address_is_blocked_however_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "urls.gz"
    path.write_bytes(gzip.compress(b"HTTP://A.example:80/x y.jpg?utm_source=1#top\n"))
    lists = blocklists.load(IngestSettings(blocked_urls=[str(path)]))
    urls = ["http://a.example/x%20y.jpg", "http://a.example/x%20y.jpg?v=2"]
    assert lists.blocks_url(pa.array(urls)).tolist() == [True, False]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(_PHRASES, max_size=4), st.lists(_PHRASES | st.just(""), max_size=4))
def test_a_phrase_blocks_captions_that_hold_its_tokens(
    tmp_path: Path, phrases: list[str], captions: list[str]
) -> None:
    listed = _file(tmp_path, "".join(f"{phrase.upper()}!\n" for phrase in phrases))
    blocklists._read.cache_clear()  # written twice within one tick of the clock
    lists = blocklists.load(IngestSettings(blocked_captions=listed))
    expected = [any(f" {p} " in f" {caption} " for p in phrases) for caption in captions]
    assert lists.blocks_caption(pa.array(captions, pa.string())).tolist() == expected


def test_a_list_that_was_changed_is_read_again(tmp_path: Path) -> None:
    urls = pa.array(["http://a.example/", "http://b.example/"])
    for line, expected in (("a.example", [True, False]), ("# none\nb.example", [False, True])):
        blocked = IngestSettings(blocked_domains=_file(tmp_path, line))
        assert blocklists.load(blocked).blocks_domain(urls).tolist() == expected


@pytest.mark.parametrize(
    ("setting", "content", "told"),
    [
        ("blocked_domains", b"good.example\nhttp://a.example/\n", "line 2 .*not a domain"),
        ("blocked_urls", b"a.example/x.jpg\n", "line 1 .*not an address"),
        ("blocked_captions", b"...\n", "line 1 .*not a phrase"),
        ("blocked_captions", b"word " * 33, "line 1 .*not a phrase"),
        ("blocked_captions", b"x" * 70_000, "line 1 is too long"),
        ("blocked_captions", b"caf\xe9\n", "in UTF-8"),
    ],
)
def test_a_line_that_says_nothing_is_named(
    tmp_path: Path, setting: str, content: bytes, told: str
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=rf"ingest\.{setting}: .*list\.txt.*{told}"):
        blocklists.load(IngestSettings.model_validate({setting: [str(path)]}))


def test_a_list_that_is_missing_or_broken_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.gz"
    with pytest.raises(BadInput, match=r"list\.gz cannot be read \(No such file"):
        blocklists.load(IngestSettings(blocked_domains=[str(path)]))
    path.write_bytes(gzip.compress(b"a.example\n" * 1000)[:-9])
    with pytest.raises(BadInput, match=r"list\.gz cannot be read \(Compressed file ended"):
        blocklists.load(IngestSettings(blocked_domains=[str(path)]))
