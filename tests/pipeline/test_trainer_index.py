"""pipeline.trainer.index, with what it finds shards by"""

import gzip
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from test_tars import largest_file
from trainer_shards import members, tar_of

from pipeline.errors import BadInput
from pipeline.places import beside, read, write
from pipeline.schemas import PLACES
from pipeline.settings import LoaderSettings
from pipeline.trainer.index import Index, open_index
from pipeline.trainer.stores import Unavailable, open_store

_SKIP, _REFUSE = LoaderSettings(damaged="skip"), LoaderSettings(damaged="refuse")


class _Folder:
    """A store, and which tars of it were asked for."""

    def __init__(self, where: Path | str, cache: Path | None = None) -> None:
        loader = LoaderSettings(cache=None if cache is None else str(cache))
        self._store = open_store(where, loader)
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def local(self, name: str, size: int | None = None, sha256: str | None = None) -> Path:
        self.asked.append(name)
        return self._store.local(name, size, sha256)


def _corpus(folder: Path, sizes: Sequence[int], *, index: bool) -> Path:
    """Tars of so many pairs, with or without an index.json."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for number, size in enumerate(sizes):
        raw = tar_of(members([f"{number}-{place}" for place in range(size)]))
        path = folder / f"{number}.tar"
        path.write_bytes(raw)
        digest = hashlib.sha256(raw).hexdigest()
        told = {"name": path.name, "samples": size, "bytes": len(raw), "sha256": digest}
        shards.append(told)
    if index:
        (folder / "index.json").write_text(json.dumps({"samples": sum(sizes), "shards": shards}))
    return folder


def _images(index: Index, folder: Path) -> list[bytes]:
    """The image of every sample, by number."""
    found = []
    for sample in range(len(index)):
        shard, place = index.find(sample)
        places = index.places(shard)
        begin, size = int(places.image[place]), int(places.image_bytes[place])
        found.append((folder / index.shards[shard].name).read_bytes()[begin : begin + size])
    return found


@pytest.mark.parametrize("index", [True, False])
def test_every_sample_has_a_number_by_which_its_image_is_found(tmp_path: Path, index: bool) -> None:
    folder = _corpus(tmp_path, [3, 0, 1, 5], index=index)
    opened = open_index(_Folder(folder), _SKIP)
    names = [(0, 0), (0, 1), (0, 2), (2, 0), *[(3, place) for place in range(5)]]
    assert _images(opened, folder) == [f"jpg of {a}-{b}".encode() for a, b in names]
    assert [opened.find(sample) for sample in range(9)] == names
    shards, places = opened.find_many(np.arange(9))
    assert list(zip(shards.tolist(), places.tolist(), strict=True)) == names
    for beyond in (-1, 9):
        with pytest.raises(IndexError):
            opened.find(beyond)


def test_with_an_index_no_shard_is_looked_at_before_it_is_needed(tmp_path: Path) -> None:
    store = _Folder(_corpus(tmp_path, [3, 2], index=True))
    index = open_index(store, _SKIP)
    assert (len(index), store.asked) == (5, [])
    index.places(1)
    index.places(1)
    assert store.asked == ["1.tar"]
    again = _Folder(tmp_path)
    open_index(again, _SKIP).places(1)
    assert again.asked == []


def test_who_only_reads_samples_waits_for_no_compiler() -> None:
    told = "import sys, pipeline.trainer.index; print('numba' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", told]) == b"False\n"


def test_a_shard_that_is_gone_or_longer_keeps_its_numbers_and_is_told_when_read(
    tmp_path: Path,
) -> None:
    store = _Folder(_corpus(tmp_path, [3, 2, 4], index=True))
    before = open_index(store, _SKIP)
    (tmp_path / "0.tar").unlink()
    with (tmp_path / "1.tar").open("ab") as tar:
        tar.write(b"\0" * 512)
    after = open_index(store, _SKIP)
    assert (after.digest, after.begins.tolist()) == (before.digest, before.begins.tolist())
    for shard, reason in ((0, "missing"), (1, "other length")):
        with pytest.raises(Unavailable) as told:
            after.places(shard)
        assert told.value.reason == reason
    assert len(after.places(2)) == 4


def test_behind_damage_the_samples_are_found_and_the_numbers_stay(tmp_path: Path) -> None:
    folder = _corpus(tmp_path, [4], index=True)
    raw = bytearray((folder / "0.tar").read_bytes())
    raw[2048:2060] = b"\xff" * 12
    (folder / "0.tar").write_bytes(raw)
    told: list[str] = []
    index = open_index(_Folder(folder), _SKIP, told.append)
    places = index.places(0)
    assert places.keys.to_pylist() == ["0-0", "0-2", "0-3"]
    assert len(index) == 4
    assert index.lost == {
        "a damaged place in the archive": 1,
        "a sample without an image": 1,
        "a sample that index.json promises and its shard lacks": 1,
    }
    assert "0.tar, byte 2,048: no tar header" in told
    with pytest.raises(BadInput, match=r"0\.tar is damaged at byte 2,048: no tar header"):
        open_index(_Folder(folder), _REFUSE).places(0)


def test_a_shard_that_is_cut_off_keeps_what_stands_before(tmp_path: Path) -> None:
    folder = _corpus(tmp_path, [4, 2], index=False)
    raw = (folder / "0.tar").read_bytes()
    (folder / "0.tar").write_bytes(raw[:3590])
    index = open_index(_Folder(folder), _SKIP)
    assert [shard.samples for shard in index.shards] == [1, 2]
    assert index.lost["a damaged place in the archive"] == 1
    with pytest.raises(
        BadInput, match=r"0\.tar is damaged at byte 3,584: the archive ends in the middle"
    ):
        open_index(_Folder(folder), _REFUSE)


def test_a_promise_that_a_whole_shard_does_not_keep_is_refused(tmp_path: Path) -> None:
    folder = _corpus(tmp_path, [4], index=True)
    told = json.loads((folder / "index.json").read_text())
    told["shards"][0]["samples"] = 5
    (folder / "index.json").write_text(json.dumps(told))
    with pytest.raises(BadInput, match=r"holds 4 samples .* promises 5"):
        open_index(_Folder(folder), _REFUSE).places(0)
    told["shards"][0]["samples"] = 3
    (folder / "index.json").write_text(json.dumps(told))
    index = open_index(_Folder(folder), _SKIP)
    index.places(0)
    assert index.lost == {"a sample beyond those that index.json promises": 1}


def test_packed_shards_are_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(gzip.compress(tar_of(members("ab"))))
    with pytest.raises(BadInput, match="gunzip"):
        open_index(_Folder(tmp_path), _SKIP)


@pytest.mark.parametrize("raw", [b"", b"\0" * 10240, b"<html>" * 999])
def test_a_folder_in_which_no_sample_is_found_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "0.tar").write_bytes(raw)
    with pytest.raises(BadInput, match="no sample with an image and a caption"):
        open_index(_Folder(tmp_path), _SKIP)


def test_a_folder_without_tars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no tar"):
        open_index(_Folder(tmp_path), _SKIP)


def test_shards_of_others_are_walked_once_and_again_only_where_they_changed(
    tmp_path: Path,
) -> None:
    folder = _corpus(tmp_path, [3, 2, 4], index=False)
    first = _Folder(folder)
    before = open_index(first, _SKIP)
    assert sorted(first.asked) == ["0.tar", "1.tar", "2.tar"]
    again = _Folder(folder)
    assert open_index(again, _SKIP).digest == before.digest
    assert again.asked == []
    (folder / "0.tar").unlink()
    (folder / "1.tar").write_bytes(tar_of(members(range(50))))
    (folder / "3.tar").write_bytes(tar_of(members("ab")))
    changed = _Folder(folder)
    after = open_index(changed, _SKIP)
    assert sorted(changed.asked) == ["1.tar", "3.tar"]
    assert [shard.samples for shard in after.shards] == [50, 4, 2]
    assert after.digest != before.digest


def test_the_same_is_lost_whether_a_shard_is_walked_or_known(tmp_path: Path) -> None:
    folder = _corpus(tmp_path, [3], index=False)
    (folder / "1.tar").write_bytes(tar_of([("0.jpg", b"alone")]))
    first = open_index(_Folder(folder), _SKIP)
    again = open_index(_Folder(folder), _SKIP)
    again.places(1)
    assert first.lost == again.lost
    assert again.lost == {"a sample without a caption": 1, "a shard without samples": 1}


def test_notes_that_are_damaged_or_lie_are_made_anew(tmp_path: Path) -> None:
    folder = _corpus(tmp_path, [3, 2], index=False)
    whole = open_index(_Folder(folder), _SKIP)
    images = _images(whole, folder)
    for summary in (b"", b"[" * 100_000, b'{"version": 1, "shards": [{"name": 1}]}', b"\xff"):
        (folder / "_index.json").write_bytes(summary)
        (folder / beside("0.tar")).write_bytes(b"ARROW1" + summary)
        index = open_index(_Folder(folder), _SKIP)
        assert index.digest == whole.digest
        assert _images(index, folder) == images


def test_many_may_look_through_the_same_shards_at_once(tmp_path: Path) -> None:
    folder = _corpus(tmp_path, [3, 2, 4, 1], index=False)
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(lambda _: open_index(_Folder(folder), _SKIP).digest, range(6)))
    assert len(set(opened)) == 1
    notes = {"_index.json", *(f"{number}.places" for number in range(4))}
    assert {path.name for path in folder.iterdir()} - notes == {f"{n}.tar" for n in range(4)}


def test_a_disk_that_is_full_is_told_with_the_way_out(tmp_path: Path) -> None:
    folder = _corpus(tmp_path, [3], index=False)
    told = r"cannot keep where samples lie .*make room"
    with largest_file(600), pytest.raises(BadInput, match=told):
        open_index(_Folder(folder), _SKIP)
    assert {path.name for path in folder.iterdir()} == {"0.tar"}
    assert len(open_index(_Folder(folder), _SKIP)) == 3


def test_a_shard_of_others_that_cannot_be_fetched_is_left_out_or_refused(tmp_path: Path) -> None:
    folder = _corpus(tmp_path, [3, 2], index=False)

    class _Holed(_Folder):
        def local(self, name: str, size: int | None = None, sha256: str | None = None) -> Path:
            if name == "0.tar":
                raise Unavailable(name, "cannot be fetched")
            return super().local(name, size, sha256)

    with pytest.raises(BadInput, match=r"0\.tar cannot be had \(cannot be fetched\)"):
        open_index(_Holed(folder), _REFUSE)
    index = open_index(_Holed(folder), _SKIP)
    assert [shard.name for shard in index.shards] == ["1.tar"]
    assert index.lost == {"shard: cannot be fetched": 1}
    assert len(open_index(_Folder(folder), _SKIP)) == 5


def test_places_of_more_samples_than_a_shard_has_room_for_are_not_believed(
    tmp_path: Path,
) -> None:
    folder = _corpus(tmp_path, [3], index=True)
    tar_bytes = (folder / "0.tar").stat().st_size
    row = {"image": 512, "image_bytes": 0, "caption": 512, "caption_bytes": 0, "in_json": False}
    rows = [{"key": str(number), **row} for number in range(1000)]
    write(folder / "0.places", pa.Table.from_pylist(rows, PLACES), tar_bytes, {})
    assert len(open_index(_Folder(folder), _SKIP).places(0)) == 3


def test_places_beside_a_shard_elsewhere_spare_its_walk(tmp_path: Path) -> None:
    folder = _corpus(tmp_path / "there", [3, 2], index=False)
    images = _images(open_index(_Folder(folder), _SKIP), folder)
    (folder / "_index.json").unlink()
    (folder / beside("1.tar")).write_bytes(b"no places")
    elsewhere = fsspec.filesystem("memory")
    elsewhere.put(str(folder), "/spared", recursive=True)
    store = _Folder("memory://spared", tmp_path / "cache")
    try:
        assert _images(open_index(store, _SKIP), folder) == images
        assert store.asked == ["1.tar"]
        assert {path.name for path in store.notes.iterdir()} >= {"_index.json", "1.places"}
        assert len(read(store.notes / "1.places", (folder / "1.tar").stat().st_size)) == 2
    finally:
        store.close()
        elsewhere.rm("/spared", recursive=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../0.tar"),
        ("name", "/etc/0.tar"),
        ("name", "0.tar.gz"),
        ("name", 7),
        ("samples", -1),
        ("samples", 10**30),
        ("samples", 10**9),
        ("samples", "many"),
        ("bytes", -1),
        ("bytes", 1 << 62),
        ("sha256", "short"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path: Path, field: str, value: object) -> None:
    folder = _corpus(tmp_path, [3], index=True)
    told = json.loads((folder / "index.json").read_text())
    told["shards"][0][field] = value
    (folder / "index.json").write_text(json.dumps(told))
    with pytest.raises(BadInput, match=r"index\.json is not an index of shards"):
        open_index(_Folder(folder), _SKIP)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"shards": []}', b'{"shards": 7}', b"\xff\xfe", b"[" * 100_000]
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: bytes) -> None:
    folder = _corpus(tmp_path, [3], index=False)
    (folder / "index.json").write_bytes(text)
    with pytest.raises(BadInput, match=r"index\.json is not an index of shards"):
        open_index(_Folder(folder), _SKIP)


def test_a_shard_named_twice_is_refused(tmp_path: Path) -> None:
    folder = _corpus(tmp_path, [3], index=True)
    told = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({"shards": told["shards"] * 2}))
    with pytest.raises(BadInput, match=r"0\.tar twice"):
        open_index(_Folder(folder), _SKIP)


def test_an_index_of_another_tool_is_told_and_the_shards_are_looked_through(
    tmp_path: Path,
) -> None:
    folder = _corpus(tmp_path, [3], index=False)
    (folder / "index.json").write_text('{"__kind__": "wids-shard-index-v1", "shardlist": []}')
    told: list[str] = []
    assert len(open_index(_Folder(folder), _SKIP, told.append)) == 3
    assert "tells of no shards" in told[0]


@pytest.mark.parametrize("field", ["name", "samples", "bytes", "sha256"])
def test_the_digest_changes_with_all_that_an_index_tells(tmp_path: Path, field: str) -> None:
    folder = _corpus(tmp_path, [3, 2], index=True)
    before = open_index(_Folder(folder), _SKIP).digest
    told = json.loads((folder / "index.json").read_text())
    other = {"name": "z.tar", "samples": 2, "bytes": 10_000, "sha256": "0" * 64}[field]
    told["shards"][0][field] = other
    (folder / "index.json").write_text(json.dumps(told))
    assert open_index(_Folder(folder), _SKIP).digest != before
