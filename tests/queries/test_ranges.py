"""queries.ranges, with queries.bzip2 below it, and queries.multistream"""

import bz2
import os
import random
import re
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import BadInput
from queries.multistream import index_of, pages_listed
from queries.ranges import REASONS, Problem, Range, pages_in, ranges

CUT_OFF, TOO_LONG, UNREADABLE = (Problem(reason) for reason in REASONS)
BLOCK_MAGIC, END_MAGIC = 0x314159265359, 0x177245385090


def read(path: Path, split_bytes: int, max_page_bytes: int = 1 << 20) -> list[bytes | Problem]:
    parts = ranges([str(path)], split_bytes)
    return [found for part in parts for found in pages_in(part, max_page_bytes)]


def expected(*texts: bytes) -> list[bytes | Problem]:
    """What is to be found in the text, or in the texts on the two sides of unreadable blocks."""
    found: list[bytes | Problem] = []
    for text in texts:
        for page in re.finditer(rb"<page>(?:(?!</?page>).)*(</page>)?", text, re.DOTALL):
            found.append(page[0] if page[1] else CUT_OFF)
        found.append(UNREADABLE)
    return found[:-1]


def dump(count: int, words: int = 40, newline: bytes = b"\n", seed: int = 0) -> bytes:
    """Pages of very different lengths, between a head and an end as a dump has them."""
    chance = random.Random(seed)
    pages = []
    for number in range(count):
        length = int(words * chance.expovariate(1))
        text = b" ".join(b"%x" % chance.getrandbits(24) for _ in range(length))
        pages.append(b"<page>%d %s</page>" % (number, text) + newline)
    return b"<mediawiki>" + newline + b"".join(pages) + b"</mediawiki>" + newline


def streams(text: bytes, size: int) -> list[bytes]:
    return [bz2.compress(text[at : at + size], 1) for at in range(0, len(text), size)]


def repetitive(count: int) -> bytes:
    """Pages of 50 kB that pack to almost nothing: many blocks in a small file."""
    return b"".join(b"<page>%d%s</page>\n" % (i, b"abcdefg " * 6000) for i in range(count))


def with_damage(stored: bytes, at: int) -> bytes:
    return stored[:at] + bytes([stored[at] ^ 0x55]) + stored[at + 1 :]


SMALL, LARGE = dump(60), dump(900, words=300, seed=1)
STORED = {
    "plain": (SMALL, SMALL, 1),
    "windows newlines": (dump(60, newline=b"\r\n"),) * 2 + (1,),
    "no newlines": (dump(60, newline=b""),) * 2 + (1,),
    "one block": (SMALL, bz2.compress(SMALL), 1),
    "level 1": (LARGE, bz2.compress(LARGE, 1), 50_000),
    "level 9": (LARGE, bz2.compress(LARGE, 9), 150_000),
    "small blocks": (repetitive(12), bz2.compress(repetitive(12), 1), 1),
    "many streams": (SMALL, b"".join(streams(SMALL, 700)), 1),
    "streams that cut every tag": (SMALL, b"".join(streams(SMALL, 5)), 100),
    "an empty stream between": (SMALL + SMALL, bz2.compress(b"").join(streams(SMALL * 2, 9000)), 1),
    "empty": (b"", b"", 1),
    "no text": (b"", bz2.compress(b""), 1),
    "no page": (b"<mediawiki></mediawiki>", bz2.compress(b"<mediawiki></mediawiki>"), 1),
}


@pytest.mark.parametrize("name", STORED)
def test_every_page_comes_once_however_the_file_is_split(name: str, tmp_path: Path) -> None:
    text, stored, smallest = STORED[name]
    path = tmp_path / "dump"
    path.write_bytes(stored)
    pages = expected(text)
    assert CUT_OFF not in pages
    for split in {smallest, 3 * smallest + 1, len(stored) // 3 + 1, len(stored) + 1}:
        assert read(path, split) == pages


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(1, 3000),
    split=st.integers(10, 4000),
    seed=st.integers(0, 99),
    damaged=st.lists(st.floats(0, 0.999), max_size=3),
)
def test_ranges_agree_about_pages_and_problems(
    size: int, split: int, seed: int, damaged: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = dump(12, words=20, seed=seed)
    stored = streams(text, size)
    lost = sorted({int(share * len(stored)) for share in damaged})
    for stream in lost:
        stored[stream] = with_damage(stored[stream], 11)  # in the block's own checksum
    path = tmp_path_factory.mktemp("dumps") / "dump"
    path.write_bytes(b"".join(stored))
    bounds = [-1, *lost, len(stored)]
    texts = [text[(a + 1) * size : b * size] for a, b in pairwise(bounds)]
    assert read(path, split) == expected(*texts)


@pytest.mark.parametrize("share", [0.1, 0.35, 0.5, 0.77, 0.95])
def test_a_damaged_block_of_one_stream_costs_its_own_pages_only(
    share: float, tmp_path: Path
) -> None:
    text, stored, _ = STORED["level 1"]
    path = tmp_path / "dump"
    path.write_bytes(with_damage(stored, int(share * len(stored))))
    found = read(path, len(stored))
    assert found.count(UNREADABLE) == 1
    before, after = found[: found.index(UNREADABLE) - 1], found[found.index(UNREADABLE) + 1 :]
    whole = expected(text)
    assert found[len(before)] == CUT_OFF
    assert before == whole[: len(before)]
    assert after == whole[len(whole) - len(after) :]
    lost = whole[len(before) : len(whole) - len(after)]
    assert sum(len(page) for page in lost if isinstance(page, bytes)) < 110_000
    for split in (30_000, 77_777, len(stored) // 2):
        assert read(path, split) == found


@pytest.mark.parametrize(("lost", "begin"), [(0, 3), (1, 3), (5, 3), (1, 0), (4, 0)])
def test_a_stream_without_its_first_magic_is_counted_once(
    lost: int, begin: int, tmp_path: Path
) -> None:
    text, stored = SMALL[:9000], streams(SMALL[:9000], 1500)
    stored[lost] = stored[lost][:begin] + stored[lost][10:]
    path = tmp_path / "dump"
    path.write_bytes(b"".join(stored))
    found = expected(text[: 1500 * lost], text[1500 * (lost + 1) :])
    for split in (1, 10, 501, 99_999):
        assert read(path, split) == found


@pytest.mark.parametrize("name", ["many streams", "small blocks"])
def test_a_file_that_is_cut_off_loses_nothing_but_its_last_block(name: str, tmp_path: Path) -> None:
    text, stored, _ = STORED[name]
    path = tmp_path / "dump"
    whole = [page for page in expected(text) if isinstance(page, bytes)]
    for size in range(0, len(stored), len(stored) // 150):
        path.write_bytes(stored[:size])
        found = read(path, len(stored) // 2)
        pages = [page for page in found if isinstance(page, bytes)]
        assert pages == whole[: len(pages)]
        assert found.count(UNREADABLE) <= 1
        # The magic that ends a block, and what stands between streams, is at most 14 bytes.
        assert len(pages) >= len(expected(readable(stored[: max(0, size - 14)]))) - 1


def readable(stored: bytes) -> bytes:
    """The text of every whole block, as bz2 gives it before it finds that the file is cut off."""
    text = b""
    while stored:
        decompressor = bz2.BZ2Decompressor()
        text += decompressor.decompress(stored)
        stored = decompressor.unused_data
    return text


def test_what_follows_the_last_stream_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(bz2.compress(SMALL) + random.Random(0).randbytes(5000))
    for split in (100, 99_999):
        assert read(path, split) == expected(SMALL)


def has_magic(stored: bytes, magic: int) -> int:
    """How often the magic's bits occur, at any bit."""
    return f"{int.from_bytes(stored):b}".count(f"{magic:048b}")


@pytest.mark.parametrize("magic", [BLOCK_MAGIC, END_MAGIC])
def test_a_magic_inside_of_a_block_loses_and_doubles_nothing(magic: int, tmp_path: Path) -> None:
    # A block lists the bytes that occur in it as a bitmap of 16 bits for every 16 of them: so the
    # bytes 0x80 to 0xaf of a text can spell any 48 bits.
    letters = bytes(0x80 + i for i in range(48) if magic >> (47 - i) & 1)
    chance = random.Random(0)
    pages = [bytes(chance.choices(letters, k=chance.randrange(3000))) for _ in range(60)]
    text = b"".join(b"<page>%s</page>" % page for page in pages)
    text = re.sub(rb"(.)\1{3,}", rb"\1", text)  # their count would be one more byte of the block
    one_stream = bz2.compress(text[:20_000])
    assert has_magic(one_stream, magic) == 2
    path = tmp_path / "dump"
    path.write_bytes(one_stream)
    assert read(path, 1) == expected(text[:20_000])
    path.write_bytes(one_stream + bz2.compress(text[20_000:]))
    assert read(path, 3) == expected(text)
    path.write_bytes(with_damage(one_stream, 9000) + bz2.compress(text[20_000:]))
    found = read(path, 99_999)
    assert [page for page in found if page != UNREADABLE] == expected(text[20_000:])
    assert read(path, 3) == found


def test_a_page_that_never_closes_costs_no_other_page(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    text = b"</page><page>a</page><page>b<page>c</page></page>d<page>e<page></page><page>f"
    pages = [b"<page>a</page>", CUT_OFF, b"<page>c</page>", CUT_OFF, b"<page></page>", CUT_OFF]
    for stored in (text, bz2.compress(text), b"".join(streams(text, 2))):
        path.write_bytes(stored)
        assert [read(path, split) for split in (1, 10, 999)] == [pages] * 3


def test_a_page_is_too_long_from_one_byte_too_many(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    a, b = b"<page>87654321</page>", b"<page>987654321</page>"
    endless = b"<page>" + b"c" * 50
    text = b + a + b + endless + a + endless
    for stored in (text, bz2.compress(text), b"".join(streams(text, 3))):
        path.write_bytes(stored)
        for split in (1, 10, 999):
            assert read(path, split, len(a)) == [TOO_LONG, a, TOO_LONG, TOO_LONG, a, TOO_LONG]


def test_a_page_too_long_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(b"<page>" + bytes(40_000_000) + b"</page><page></page>")
    tracemalloc.start()
    found = read(path, 1 << 30, max_page_bytes=1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [TOO_LONG, b"<page></page>"]
    assert peak < 10_000_000


def test_ranges_hold_every_byte_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"1234")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    parts = [Range(a, 0, 2), Range(a, 2, 4), Range(a, 4, 5), Range(b, 0, 2), Range(b, 2, 4)]
    assert ranges([a, b], 2) == parts


def test_a_dump_that_vanished_or_shrank_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    with pytest.raises(BadInput, match="dump cannot be read"):
        ranges([str(path)], 10)
    with pytest.raises(BadInput, match="dump is not on this machine"):
        list(pages_in(Range(str(path), 0, 10)))
    path.write_bytes(SMALL)
    (part,) = ranges([str(path)], 1 << 20)
    os.truncate(path, 100)
    with pytest.raises(BadInput, match="became shorter"):
        list(pages_in(part))


@pytest.mark.parametrize(
    ("dump_name", "index_name"),
    [
        ("enwiki-20240101-pages-articles-multistream.xml.bz2", "-index.txt.bz2"),
        ("enwiki-20240101-pages-articles-multistream.xml.bz2", "-index.txt"),
        (
            "enwiki-20240101-pages-articles-multistream1.xml-p1p41242.bz2",
            "-index1.txt-p1p41242.bz2",
        ),
        ("enwiki-20240101-pages-articles-multistream27.xml-p5p6", "-index27.txt-p5p6"),
    ],
)
def test_an_index_is_found_by_its_dumps_name(
    dump_name: str, index_name: str, tmp_path: Path
) -> None:
    dump_path = str(tmp_path / dump_name)
    assert index_of(dump_path) is None
    index = tmp_path / f"enwiki-20240101-pages-articles-multistream{index_name}"
    index.touch()
    assert index_of(dump_path) == str(index)


def test_a_dump_of_one_stream_has_no_index(tmp_path: Path) -> None:
    (tmp_path / "enwiki-20240101-pages-articles-index.txt.bz2").touch()
    assert index_of(str(tmp_path / "enwiki-20240101-pages-articles.xml.bz2")) is None


@pytest.mark.parametrize("pack", [bytes, bz2.compress])
def test_every_line_of_an_index_is_a_page(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.write_bytes(
        pack("616:10:AccessibleComputing\n616:12:Wikipedia: a: b\n9:9:é\u2028".encode())
    )
    assert pages_listed(str(path)) == 3


@pytest.mark.parametrize(
    "stored",
    [
        SMALL,
        b"616:10:Good\n616:Bad\n",
        bz2.compress(b"616:10:Good\n" * 9)[:-12],
        with_damage(bz2.compress(b"616:10:Good\n" * 9), 20),
        b"1:1:" + b"x" * 100_000,
        bytes(100_000),
    ],
)
def test_a_file_that_is_no_whole_index_is_refused(stored: bytes, tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.write_bytes(stored)
    with pytest.raises(BadInput, match="index"):
        pages_listed(str(path))
