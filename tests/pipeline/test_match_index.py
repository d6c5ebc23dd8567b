"""pipeline.match.index: the list that it is built of, and the file that it is kept in"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import BadInput
from pipeline.match import QueryIndex, Semantics


@pytest.mark.parametrize(
    "queries", [[], ["a", "b", "a"], ["A"], ["a  b"], [" a"], [""], [None], [1], [b"a"], ["\ud800"]]
)
def test_a_list_that_could_not_match_is_refused(queries: list[Any]) -> None:
    with pytest.raises(BadInput, match="wit derive"):
        QueryIndex.build(queries)


@pytest.mark.parametrize("queries", [[], ["a b", "a b"], ["", ""], [None], ["\ud800"]])
def test_metaclip_s_list_is_of_distinct_texts(queries: list[Any]) -> None:
    with pytest.raises(BadInput, match="wit derive"):
        QueryIndex.build(queries, "metaclip")


def test_a_rule_that_is_not_known_is_refused() -> None:
    with pytest.raises(BadInput, match=r"match\.semantics: 'words'"):
        QueryIndex.build(["a"], "words")  # type: ignore[arg-type]


_LISTED = ["a", "é b", "a b c", "circle"]


@pytest.mark.parametrize("semantics", ["tokens", "metaclip"])
def test_a_saved_index_finds_the_same(tmp_path: Path, semantics: Semantics) -> None:
    index = QueryIndex.build(_LISTED, semantics)
    index.save(tmp_path / "index")
    loaded = QueryIndex.load(str(tmp_path / "index"))
    captions = pa.array(["a é b", "A É B", "a b c", None])
    assert loaded.match(captions).equals(index.match(captions))
    assert (loaded.size, loaded.semantics) == (4, semantics)
    assert (loaded.size_bytes, loaded.sha256) == (index.size_bytes, index.sha256)
    assert list(tmp_path.iterdir()) == [tmp_path / "index"]


def test_equal_lists_make_equal_files_and_others_another_name(tmp_path: Path) -> None:
    for name in ("first", "second"):
        QueryIndex.build(_LISTED).save(tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    kinds = [QueryIndex.build(_LISTED), QueryIndex.build(_LISTED, "metaclip")]
    assert len({index.sha256 for index in [*kinds, QueryIndex.build(_LISTED[::-1])]}) == 3


def test_a_loaded_index_lies_in_the_file_s_own_pages(tmp_path: Path) -> None:
    QueryIndex.build([f"w{n}" for n in range(100_000)]).save(tmp_path / "index")
    index = QueryIndex.load(tmp_path / "index")
    assert index.queries_in("w7 w99999") == [7, 99_999]
    maps = Path("/proc/self/smaps")
    if not maps.exists():
        pytest.skip("this system does not tell what its pages hold")
    (told,) = [
        part for part in maps.read_text().split("VmFlags")[:-1] if f"{tmp_path}/index" in part
    ]
    sizes = {line.split(":")[0]: line.split()[1] for line in told.splitlines() if " kB" in line}
    assert int(sizes["Size"]) * 1024 >= index.size_bytes
    # None was written to and so became this process's own.
    assert sizes["Anonymous"] == "0"


def _same_or_refused(path: Path, raw: bytes, index: QueryIndex) -> bool:
    """Whether a damaged file is refused; another one must find what `index` finds."""
    path.write_bytes(raw)
    try:
        found = QueryIndex.load(path)
    except BadInput:
        return True
    captions = pa.array(["a é b", "a b c circle"])
    assert found.match(captions).equals(index.match(captions))
    assert (found.size, found.semantics) == (index.size, index.semantics)
    return False


def test_no_byte_of_the_file_s_head_can_change_what_is_found(tmp_path: Path) -> None:
    index = QueryIndex.build(_LISTED)
    index.save(tmp_path / "index")
    raw = (tmp_path / "index").read_bytes()
    head = raw.index(b"\n", raw.index(b"\n") + 1) + 1
    refused = 0
    for place in range(head):
        for byte in (raw[place] ^ 1, 0, ord("9"), ord("-")):
            changed = raw[:place] + bytes([byte]) + raw[place + 1 :]
            if changed != raw:
                refused += _same_or_refused(tmp_path / "changed", changed, index)
    assert refused > head


def test_a_changed_byte_in_any_array_is_noticed(tmp_path: Path) -> None:
    index = QueryIndex.build(_LISTED)
    index.save(tmp_path / "index")
    raw = (tmp_path / "index").read_bytes()
    head = raw.index(b"\n", raw.index(b"\n") + 1) + 1
    stride = max(1, (len(raw) - head) // 200)
    changed = [
        _same_or_refused(
            tmp_path / "changed", raw[:place] + bytes([raw[place] ^ 64]) + raw[place + 1 :], index
        )
        for place in range(head, len(raw), stride)
    ]
    # What lies between two arrays says nothing.
    assert sum(changed) > 0.9 * len(changed)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: b"",
        lambda raw: b"\n",
        lambda raw: raw[:-1],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:40],
        lambda raw: raw + b"\0",
        lambda raw: raw.replace(b"index 3\n", b"index 2\n", 1),
        lambda raw: b"PAR1" + raw,
        lambda raw: raw[: raw.index(b"\n") + 1] + b"[" * 60_000 + b"\n",
        lambda raw: raw[: raw.index(b"\n") + 1] + b"[1]\n",
        lambda raw: raw[: raw.index(b"\n") + 1] + b"\xff\xfe\n",
        lambda raw: hashlib.sha256(raw).digest() * 1000,
    ],
)
def test_a_file_that_is_no_whole_index_is_refused(tmp_path: Path, spoil: Any) -> None:
    QueryIndex.build(_LISTED).save(tmp_path / "index")
    (tmp_path / "other").write_bytes(spoil((tmp_path / "index").read_bytes()))
    with pytest.raises(BadInput, match=r"other is no query index .*QueryIndex\.save"):
        QueryIndex.load(tmp_path / "other")


def _told(change: Any) -> Any:
    """Another head, of the same length as far as it can be."""

    def spoil(raw: bytes) -> bytes:
        begin = raw.index(b"\n") + 1
        end = raw.index(b"\n", begin) + 1
        told = json.loads(raw[begin:end])
        change(told)
        line = json.dumps(told).encode()
        return raw[:begin] + line + b" " * (-(begin + len(line) + 1) % 64) + b"\n" + raw[end:]

    return spoil


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(queries=float("inf")),
        lambda told: told.update(queries=10**30),
        lambda told: told.update(queries=4.5),
        lambda told: told.update(queries="4"),
        lambda told: told.update(bytes=float("nan")),
        lambda told: told.update(semantics=["tokens"]),
        lambda told: told.update(arrays=[]),
        lambda told: told["arrays"].update(heads=[0, 10**30]),
        lambda told: told["arrays"].update(heads=[10**30, 1]),
        lambda told: told["arrays"].update(heads=[-64, 32]),
        lambda told: told["arrays"]["passes"].__setitem__(1, -1),
        lambda told: told["arrays"].pop("ends"),
    ],
)
def test_numbers_of_a_head_that_there_cannot_be_are_refused(tmp_path: Path, change: Any) -> None:
    QueryIndex.build(_LISTED).save(tmp_path / "index")
    (tmp_path / "other").write_bytes(_told(change)((tmp_path / "index").read_bytes()))
    with pytest.raises(BadInput, match="other is no query index"):
        QueryIndex.load(tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("queries", lambda _: -1),
        ("queries", lambda _: 1 << 60),
        ("queries", lambda queries: queries - 1),
        ("semantics", lambda _: "words"),
        ("heads", lambda heads: heads[:6]),
        ("heads", lambda heads: heads[:0]),
        ("heads", lambda heads: np.where(heads == 0, heads[3::4].max(), heads)),
        ("heads", lambda heads: np.where(heads == heads[3::4].max(), heads + 7, heads)),
        ("ends", lambda ends: ends + 1),
        ("ends", lambda ends: ends[::-1]),
        ("ends", lambda ends: ends * 1000),
        ("ends", lambda ends: ends[:0]),
        ("letters", lambda letters: letters[:3]),
        ("table", lambda table: table[:-1]),
        ("table", lambda table: np.where(table == 0, 1, table)),
        ("table", lambda table: table | 1 << 60),
        ("passes", lambda passes: passes[:1]),
    ],
)
def test_arrays_that_search_would_read_beyond_are_refused_even_with_their_own_digest(
    tmp_path: Path, name: str, change: Any
) -> None:
    index = QueryIndex.build(_LISTED)
    told = {**index._arrays._asdict(), "queries": index.size, "semantics": index.semantics}
    told[name] = change(told[name])
    if isinstance(told[name], np.ndarray):
        told[name] = np.ascontiguousarray(told[name], index._arrays._asdict()[name].dtype)
    semantics, queries = told.pop("semantics"), told.pop("queries")
    QueryIndex(type(index._arrays)(**told), queries, semantics).save(tmp_path / "other")
    with pytest.raises(BadInput, match=r"other is no query index .*do not fit each other"):
        QueryIndex.load(tmp_path / "other")


def test_a_path_that_is_no_file_is_no_index(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BadInput, match=f"{path} is no query index"):
            QueryIndex.load(path)
