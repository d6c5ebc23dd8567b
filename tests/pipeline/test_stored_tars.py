"""Raw and final shards in an object store: whole or not there, whatever goes wrong in between."""

import io
import itertools
import json
import random
import re
import socket
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import compaction_rows
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from download_site import Site, body, drawn, files, in_turn, picture, pictures, serving
from test_tars import largest_file

from jobs.subject import batches, some
from pipeline import places, storage
from pipeline.compaction import compact
from pipeline.download import attempts, clear_others, raw_shards_in, totals
from pipeline.download.task import download_shard
from pipeline.errors import BadInput
from pipeline.fingerprint import read_image
from pipeline.placing import clear_others as clear_other_shards
from pipeline.placing import clear_unfinished, write_index
from pipeline.raw_shards import RawTars, raw_tar, read_all, stats_of_whole
from pipeline.storage import Place
from pipeline.uploads import written_in
from tests.s3_server import BUCKET, S3Server

_CHANGES = ("PUT", "POST", "DELETE")


@pytest.fixture
def store(s3: S3Server, tmp_path: Path) -> Place:
    return storage.place(f"s3://{BUCKET}/{tmp_path.name}")


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


def _told(folder: Place) -> dict[str, bytes]:
    return {storage.below(folder, file): storage.read(file) for file in storage.files(folder)}


def _raw(folder: Place, raw_shard: int = 0) -> tuple[bytes, bytes]:
    """The tar and the parquet that count."""
    return (
        storage.read(raw_tar(folder, raw_shard)),
        storage.read(folder / f"{raw_shard:05d}.parquet"),
    )


def _belong_together(tar: bytes, parquet: bytes) -> bool:
    """Whether each image lies in the tar where the parquet says."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as file:
        members = {m.name: (m.offset_data, m.size) for m in file.getmembers()}
    rows = pq.read_table(io.BytesIO(parquet)).to_pylist()
    return {f"{row['pair_id']}.jpg": (row["offset"], row["bytes"]) for row in rows} == {
        name: place for name, place in members.items() if name.endswith(".jpg")
    }


def _staged(folder: Path, stats: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    return folder, {key: value for key, value in stats.items() if key != "pace"} | {"pace": {}}


def _refuse_after(s3: S3Server, changes: int) -> None:
    """What the store holds after a process was killed that had made so many changes."""
    seen = [0]

    def fits(method: str, path: str) -> bool:
        if method in _CHANGES:
            seen[0] += 1
        return seen[0] > changes

    s3.refuse(None, 403, "AccessDenied", fits)


def test_a_raw_shard_in_a_store_has_the_bytes_of_one_on_a_disk(
    site: Site, store: Place, tmp_path: Path
) -> None:
    table = drawn([*pictures(site, 5), "file:///x.jpg"])
    stats = download_shard(table, store, site.settings())
    download_shard(table, tmp_path, site.settings())

    whole = files(tmp_path)
    assert _raw(store) == (whole["00000.tar"], whole["00000.parquet"])
    assert (stats["rows"], stats["successes"]) == (6, 5)
    assert download_shard(table, store, site.settings()) == stats
    assert site.asked["/0.jpg"] == 2
    clear_others(store, [0])
    names = [name for name in _told(store) if not name.startswith("_attempts/")]
    assert [re.sub(r"\.\w{16}\.", ".X.", name) for name in names] == [
        "00000.X.tar",
        "00000.parquet",
        "00000_stats.json",
    ]
    assert download_shard(table, store, site.settings()) == stats
    assert raw_shards_in(store) == {0}


def test_images_are_read_from_the_tar_that_counts(site: Site, store: Place, tmp_path: Path) -> None:
    for folder in (store, tmp_path):
        download_shard(drawn(pictures(site, 3)), folder, site.settings())
    for row in pq.read_table(tmp_path / "00000.parquet").to_pylist():
        image = read_image(str(tmp_path), row)
        assert image.startswith(b"\xff\xd8")
        assert read_image(str(store), row) == image
        path = f"{store}/00000.tar"
        assert RawTars().read(path, row["offset"], row["bytes"]) == image
    assert RawTars().find(str(tmp_path / "00007.tar")) == tmp_path / "00007.tar"
    with pytest.raises(FileNotFoundError):
        RawTars().read(f"{store}/00007.tar", 0, 10)


def test_of_attempts_that_end_together_one_counts_whole(
    site: Site, store: Place, tmp_path: Path
) -> None:
    assert storage.is_remote(store)
    answers = [body(picture(seed=n, size=(60 + n, 50))) for n in range(4)]
    url = site.at("/other.jpg", in_turn(*answers))
    made = []
    for nth in range(4):
        folder = tmp_path / str(nth)
        folder.mkdir()
        made.append((folder, download_shard(drawn([url]), folder, site.settings())))
    assert len({(folder / "00000.tar").read_bytes() for folder, _ in made}) == 4

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda m: attempts.settle(m[0], store, "00000", m[1]), made))

    assert all(stats == told[0] for stats in told)
    tar, parquet = _raw(store)
    assert _belong_together(tar, parquet)
    assert (tar, parquet) in [
        ((folder / "00000.tar").read_bytes(), (folder / "00000.parquet").read_bytes())
        for folder, _ in made
    ]
    names = sorted(_told(store))
    assert len([name for name in names if name.endswith(".tar")]) == 1
    clear_others(store, [0])
    assert [name for name in sorted(_told(store)) if name.endswith(".parquet")] == ["00000.parquet"]


def test_an_attempt_that_outlived_its_driver_changes_nothing(
    site: Site, store: Place, tmp_path: Path
) -> None:
    assert storage.is_remote(store)
    answers = [body(picture(seed=n, size=(60 + n, 50))) for n in range(2)]
    url = site.at("/other.jpg", in_turn(*answers))
    stats = download_shard(drawn([url]), tmp_path, site.settings())
    whole = download_shard(drawn([url]), store, site.settings())
    clear_others(store, [0])
    before = _told(store)

    assert attempts.settle(tmp_path, store, "00000", stats) == whole

    assert _told(store) == before


def test_an_attempt_killed_at_any_moment_is_not_seen_and_the_next_one_counts(
    site: Site, s3: S3Server, store: Place, tmp_path: Path
) -> None:
    assert storage.is_remote(store)
    stats = download_shard(drawn(pictures(site, 2)), tmp_path, site.settings())
    whole = ((tmp_path / "00000.tar").read_bytes(), (tmp_path / "00000.parquet").read_bytes())
    killed = 0
    for changes in range(20):
        folder = store / str(changes)
        _refuse_after(s3, changes)
        try:
            attempts.settle(tmp_path, folder, "00000", stats)
            done = True
        except BadInput:
            done = False
        s3.faults.clear()
        seen = stats_of_whole(folder, "00000")
        assert (seen is not None) == done, changes
        attempts.settle(tmp_path, folder, "00000", stats)
        assert _raw(folder) == whole
        assert totals(folder, [0]).successes == 2
        clear_others(folder, [0])
        assert len(_told(folder)) == 4  # the tar, its parquet, the statistics and the note
        if done:
            break
        killed += 1
    assert killed >= 5


def test_a_shard_of_which_something_was_taken_away_is_downloaded_again(
    site: Site, store: Place
) -> None:
    table = drawn(pictures(site, 2))
    for nth, gone in enumerate(("00000_stats.json", "00000.parquet", "tar"), 1):
        download_shard(table, store, site.settings())
        clear_others(store, [0])
        whole = _raw(store)
        storage.remove(raw_tar(store, 0) if gone == "tar" else store / gone)
        download_shard(table, store, site.settings())
        assert _raw(store) == whole
        assert site.asked["/0.jpg"] == nth + 1


def test_a_shard_of_other_pairs_takes_the_place(site: Site, store: Place) -> None:
    urls = pictures(site, 3)
    download_shard(drawn(urls), store, site.settings())
    download_shard(drawn(urls).slice(1), store, site.settings())
    clear_others(store, [0])
    tar, parquet = _raw(store)
    assert pq.read_table(io.BytesIO(parquet))["position"].to_pylist() == [1, 2]
    assert _belong_together(tar, parquet)
    assert len(_told(store)) == 4


def test_only_shards_that_are_asked_for_are_left(site: Site, store: Place) -> None:
    for raw_shard in range(3):
        download_shard(drawn(pictures(site, 1), raw_shard), store, site.settings())
    storage.put(store / "_begun.json", "{}")
    storage.put(store / "00001.0123456789abcdef.tar", b"of an attempt that was killed")
    assert raw_shards_in(store) == {0, 1, 2}
    clear_others(store, [0, 1])
    names = {name for name in _told(store) if not name.startswith("_")}
    assert {name[:5] for name in names} == {"00000", "00001"}
    assert len(names) == 6
    assert storage.exists(store / "_begun.json")
    assert totals(store, [0, 1]).rows == 2
    with pytest.raises(FileNotFoundError, match="00002"):
        totals(store, [0, 1, 2])


def _final(rows: pa.Table, raw: Place, folder: Place) -> dict[str, bytes]:
    clear_unfinished(folder)
    written = [compact(rows, number, raw, folder) for number in range(2)]
    clear_other_shards(folder, 2)
    write_index(folder, written, len(rows))
    return _told(folder)


def _stored_raw(raw: Path, store: Place) -> Place:
    """Raw tars as they lie in a store."""
    for tar in raw.glob("*.tar"):
        named = f"{tar.stem}.attempt.tar"
        storage.put(store / "raw" / named, tar.read_bytes())
        stats = {"files": {named: tar.stat().st_size}}
        storage.put(store / "raw" / f"{tar.stem}_stats.json", json.dumps(stats))
    return store / "raw"


@pytest.fixture
def rows(tmp_path: Path) -> pa.Table:
    return compaction_rows.make(tmp_path / "raw", 40)


def test_final_shards_in_a_store_have_the_bytes_of_those_on_a_disk(
    rows: pa.Table, s3: S3Server, store: Place, tmp_path: Path
) -> None:
    (tmp_path / "final").mkdir()
    on_disk = _final(rows, tmp_path / "raw", tmp_path / "final")
    raw = _stored_raw(tmp_path / "raw", store)
    s3.asked.clear()
    in_store = _final(rows, raw, store / "final")
    assert in_store == on_disk
    ranges = [path for method, path in s3.asked if method == "GET" and ".attempt.tar" in path]
    assert len(ranges) == 4  # each raw tar in one stretch, for each of two shards
    assert not [path for _, path in s3.asked if "copy" in path.lower()]
    # What is whole is not written again.
    s3.asked.clear()
    assert compact(rows, 0, raw, store / "final").name == "000000.tar"
    assert not [path for method, path in s3.asked if method in _CHANGES]
    tar = raw_tar(raw, 0)
    assert list(read_all(tar, [(600, 4), (512, 2), (0, 0)])) == [
        storage.read(tar)[600:604],
        b"\xff\xd8",
        b"",
    ]


def test_a_final_shard_that_was_broken_off_at_any_moment_is_completed(
    rows: pa.Table, s3: S3Server, store: Place, tmp_path: Path
) -> None:
    """Other rows lay there, of a shard as long as this one."""
    captions = [caption[::-1] for caption in rows["caption"].to_pylist()]
    column = rows.column_names.index("caption")
    other = rows.set_column(column, "caption", pa.array(captions, pa.string()))
    raw = tmp_path / "raw"
    compact(rows, 0, raw, store / "whole")
    whole = _told(store / "whole")
    for changes in range(8):
        folder = store / str(changes)
        for now in (other, rows):
            compact(now, 0, raw, folder)
        assert _told(folder) == whole
        compact(other, 0, raw, folder)
        _refuse_after(s3, changes)
        try:
            compact(rows, 0, raw, folder)
            done = True
        except BadInput:
            done = False
        s3.faults.clear()
        again = compact(rows, 0, raw, folder)
        assert again.samples == 40
        assert _told(folder) == whole
        if done:
            break
    assert changes == 4  # the old parquet goes; tar, places and parquet come


def test_busy_answers_change_no_byte(
    rows: pa.Table, site: Site, s3: S3Server, store: Place, tmp_path: Path
) -> None:
    (tmp_path / "final").mkdir()
    (tmp_path / "images").mkdir()
    on_disk = _final(rows, tmp_path / "raw", tmp_path / "final")
    download_shard(drawn(pictures(site, 4)), tmp_path / "images", site.settings())
    chance, every = random.Random(0), 20
    refused = {nth * every + chance.randrange(every) for nth in range(1000)}
    asked = itertools.count()
    fault = s3.refuse(None, fits=lambda method, path: next(asked) in refused)
    assert _final(rows, _stored_raw(tmp_path / "raw", store), store / "final") == on_disk
    download_shard(drawn(pictures(site, 4)), store / "images", site.settings())
    whole = files(tmp_path / "images")
    assert _raw(store / "images") == (whole["00000.tar"], whole["00000.parquet"])
    clear_others(store / "images", [0])
    assert len(_told(store / "images")) == 4
    assert fault.met > 2


def test_a_bucket_that_denies_writes_is_told_in_one_line(
    rows: pa.Table, site: Site, s3: S3Server, store: Place, tmp_path: Path
) -> None:
    s3.refuse(None, 403, "AccessDenied", lambda method, path: method in _CHANGES)
    told = rf"^{socket.gethostname()}: {store}/\S+: access is denied: allow [^\n]+$"
    with pytest.raises(BadInput, match=told):
        download_shard(drawn(pictures(site, 2)), store, site.settings())
    with pytest.raises(BadInput, match=told):
        compact(rows, 0, tmp_path / "raw", store)


def test_a_full_scratch_disk_is_told_with_its_machine(
    rows: pa.Table, site: Site, store: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(scratch))
    told = rf"^{socket.gethostname()}: {scratch} takes no more \(File too large\): make room and "
    with largest_file(10_240), pytest.raises(BadInput, match=f"{told}run `wit shard --run"):
        compact(rows, 0, tmp_path / "raw", store)
    with largest_file(10_240), pytest.raises(BadInput, match=f"{told}run `wit build` again"):
        download_shard(drawn(pictures(site, 9)), store, site.settings())
    assert list(scratch.iterdir()) == []
    assert _told(store) == {}


def test_a_raw_tar_that_is_gone_from_a_store_is_named(
    rows: pa.Table, store: Place, tmp_path: Path
) -> None:
    raw = _stored_raw(tmp_path / "raw", store)
    storage.remove(raw_tar(raw, 1))
    with pytest.raises(BadInput, match=r"raw/00001\.tar is missing \(pair 0+14\).*--again"):
        compact(rows, 0, raw, store / "final")


def test_places_in_a_store_lead_to_the_images(rows: pa.Table, store: Place, tmp_path: Path) -> None:
    written = compact(rows, 0, tmp_path / "raw", store)
    with storage.local(store / "000000.places") as file:
        lie = places.read(file, written.bytes)
    for begin, size in zip(lie.image[:3], lie.image_bytes[:3], strict=True):
        image = storage.read_at(store / "000000.tar", int(begin), int(size))
        assert image.startswith(b"\xff\xd8")


def test_a_folder_is_put_when_it_is_whole_and_its_last_file_last(
    s3: S3Server, store: Place, tmp_path: Path
) -> None:
    for place in (tmp_path / "out", store):
        storage.make_folder(place)
        with written_in(place, last=["summary.json"]) as folder:
            (folder / "sets").mkdir()
            (folder / "sets" / "one.txt").write_text("1")
            (folder / "summary.json").write_text("{}")
            (folder / "zz.csv").write_text("a")
    assert _told(store) == _told(tmp_path / "out")
    puts = [path for method, path in s3.asked if method == "PUT"]
    assert len(puts) == 3
    assert "summary.json" in puts[-1]
    with pytest.raises(RuntimeError), written_in(store / "two") as folder:
        _fail(folder / "half")
    assert storage.files(store / "two") == []


def _fail(file: Path) -> None:
    file.write_text("")
    raise RuntimeError


def test_rows_are_read_from_a_store_as_from_a_disk(
    rows: pa.Table, store: Place, tmp_path: Path
) -> None:
    import pyarrow.compute as pc

    for folder in (tmp_path, store):
        sink = io.BytesIO()
        pq.write_table(rows, sink)
        storage.put(folder / "a.parquet", sink.getvalue())
    files = [[folder / "a.parquet"] for folder in (tmp_path, store)]
    read = [pa.Table.from_batches(batches(each, rows.schema)) for each in files]
    assert read[0].equals(read[1])
    which = pc.field("bytes") > 3020
    found = [pa.Table.from_batches(some(each, ["pair_id"], which)) for each in files]
    assert found[0].num_rows == 21
    assert found[0].equals(found[1])
