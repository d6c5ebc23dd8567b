"""Sources that lie in a store: the same rows as from a disk, whatever the store answers."""

import json
import os
import random
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cluster_ingest
import pytest
from pyspark.sql import SparkSession
from source_files import KINDS

from jobs import sources as jobs_sources
from pipeline import copies, evalsets, storage
from pipeline.errors import BadInput
from pipeline.ingest import rows
from pipeline.ingest import sources as sources_of
from pipeline.ingest.rows import Layout, Part
from pipeline.settings import EvalSet, TableSource
from queries import pageviews, ranges
from tests.s3_server import BUCKET, S3Server


@pytest.fixture(scope="module", autouse=True)
def _small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    scratch = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_LOCAL_DIRS", str(scratch))
        patch.setattr("s3fs.S3FileSystem.retries", 2)  # they wait longer each time
        patch.setattr("pipeline.storage._BLOCK_BYTES", 1 << 14)
        patch.setattr("pipeline.ingest.sources._PART_BYTES", 20_000)
        yield


class _Stored(NamedTuple):
    """A source on a disk, how it is read, and the address of the same in a store."""

    read: Callable[[str], Any]
    here: str
    address: str


def _stored(tmp_path: Path, kind: str) -> _Stored:
    write, read = KINDS[kind]
    (folder := tmp_path / "of").mkdir()
    name = write(folder)
    return _Stored(read, str(folder / name), _upload(folder, name))


def _upload(folder: Path, name: str) -> str:
    """The address of a folder's files in the store, and of one of them."""
    there = storage.place(f"s3://{BUCKET}/{folder.parent.name}/{folder.name}")
    for file in storage.files(folder):
        storage.put(there / str(file)[len(str(folder)) + 1 :], storage.read(file))
    return f"{there}/{name}"


def _is_object(method: str, path: str) -> bool:
    return method == "GET" and "list-type" not in path


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_gives_the_same_from_an_address_as_from_a_disk(
    s3: S3Server, tmp_path: Path, kind: str
) -> None:
    source = _stored(tmp_path, kind)
    expected = source.read(source.here)
    s3.asked.clear()

    assert source.read(source.address) == expected
    assert any(_is_object(*asked) for asked in s3.asked)
    assert not list(tmp_path.glob("**/s3:*"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_that_refuses_and_cuts_off_loses_no_row(
    s3: S3Server, tmp_path: Path, kind: str
) -> None:
    source = _stored(tmp_path, kind)
    expected = source.read(source.here)
    chance = random.Random(3)
    busy = s3.refuse(None, fits=lambda method, path: chance.random() < 0.1)
    cuts = [
        s3.cut(None, how, lambda *asked: _is_object(*asked) and chance.random() < 0.1)
        for how in ("off", "short")
    ]
    s3.cut(1, "off", _is_object)

    assert source.read(source.address) == expected
    assert sum(fault.met for fault in (busy, *cuts, s3.faults[-1])) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_is_not_there_or_denied_is_told_with_its_address(
    s3: S3Server, tmp_path: Path, kind: str
) -> None:
    source = _stored(tmp_path, kind)
    fault = s3.refuse(None, 403, "AccessDenied")
    with pytest.raises(BadInput) as told:
        source.read(source.address)
    begin = f"{socket.gethostname()}: s3://{BUCKET}/{tmp_path.name}/of/"
    assert str(told.value).startswith(begin), told.value
    assert "access is denied" in str(told.value)

    fault.times = 0
    storage.clear(storage.place(source.address).parent)
    if kind != "index of a dump":  # a dump needs none
        with pytest.raises(BadInput, match=re.escape(source.address)) as told:
            source.read(source.address)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("how", ["off", "short"])
@pytest.mark.parametrize("kind", ["wat", "packed dump", "packed pageviews", "csv.gz", "parquet"])
def test_what_is_cut_off_each_time_is_an_error_and_no_end(
    s3: S3Server, tmp_path: Path, kind: str, how: str
) -> None:
    source = _stored(tmp_path, kind)
    s3.cut(None, how, lambda *asked: _is_object(*asked) and ".parquet?" not in asked[1])
    if kind == "parquet":  # its columns, and not its footer
        (parts,) = [sources_of.table_parts(None, TableSource(path=source.address))]  # type: ignore[arg-type]
        s3.cut(None, how, _is_object)
        with pytest.raises(BadInput, match="no answer in 5 tries"):
            list(rows.batches_in(parts[0]))
        return

    with pytest.raises(BadInput, match="no answer in 5 tries"):
        source.read(source.address)


def test_an_object_that_changes_or_goes_while_it_is_read_ends_the_reading(
    s3: S3Server, tmp_path: Path
) -> None:
    where = storage.place(f"s3://{BUCKET}/{tmp_path.name}/x")
    storage.put(where, b"one line\n" * 9000)
    with storage.opened(where) as file:
        assert file.readline() == b"one line\n"
        storage.put(where, b"another \n" * 9000)
        with pytest.raises(BadInput, match="changed while it was read"):
            file.read()
    with storage.opened(where) as file:
        assert file.readline() == b"another \n"
        storage.remove(where)
        with pytest.raises(BadInput, match="was removed while it was read"):
            file.read()


def test_lines_and_seeks_are_those_of_a_file(s3: S3Server, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(100_000)
    where = storage.place(f"s3://{BUCKET}/{tmp_path.name}/x")
    storage.put(where, data)
    (tmp_path / "x").write_bytes(data)
    for block in (None, 0):
        with storage.opened(where, block) as there, (tmp_path / "x").open("rb") as here:
            chance = random.Random(2)
            for _ in range(60):
                at, size = chance.randrange(110_000), chance.choice([1, 70, 5000, 40_000])
                whence = chance.choice([0, 2])
                assert there.seek(-at if whence else at, whence) == here.seek(
                    max(-at, -len(data)) if whence else at, whence
                )
                assert there.read(size) == here.read(size)
                assert there.tell() == here.tell()
            if block is None:
                assert there.seek(0) == here.seek(0) == 0
                assert list(there) == list(here)


# -- patterns ------------------------------------------------------------------------------


def test_a_pattern_names_the_files_of_a_store_as_of_a_folder(s3: S3Server, tmp_path: Path) -> None:
    (folder := tmp_path / "of").mkdir()
    names = ["b/1.wat.gz", "a/2.wat.gz", "a/1.wat.gz", "a/1.warc.gz", "c/d/3.wat.gz"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    there = _upload(folder, "")
    for pattern in ("*/*.wat.gz", "a/*", "**/*.wat.gz", "a/1*.gz", "b/1.wat.gz"):
        here = [
            path.removeprefix(f"{folder}/") for path in jobs_sources.expand([f"{folder}/{pattern}"])
        ]
        found = jobs_sources.expand([there + pattern])
        assert [path.removeprefix(there) for path in found] == here
    assert jobs_sources.expand([there + "none/*.gz"]) == [there + "none/*.gz"]


def test_a_new_object_fits_a_pattern_that_was_asked_before(s3: S3Server, tmp_path: Path) -> None:
    there = f"s3://{BUCKET}/{tmp_path.name}"
    storage.put(storage.place(f"{there}/a.gz"), b"x")
    assert jobs_sources.expand([f"{there}/*.gz"]) == [f"{there}/a.gz"]
    environment = {**os.environ, **s3.environment}
    code = f"from pipeline import storage; storage.put(storage.place('{there}/b.gz'), b'y')"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    assert jobs_sources.expand([f"{there}/*.gz"]) == [f"{there}/a.gz", f"{there}/b.gz"]


# -- what a worker does not see ------------------------------------------------------------


def test_a_path_that_only_the_driver_sees_is_told_with_machine_and_next_step(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine" / "x.gz"
    (tmp_path / "set").mkdir()
    for n in range(3):
        (tmp_path / "set" / f"{n}.png").write_bytes(b"x")
    (part,) = evalsets.parts(EvalSet(name="things", path=str(tmp_path / "set")))
    for n in range(3):
        (tmp_path / "set" / f"{n}.png").unlink()

    reads = [
        lambda: list(ranges.pages_in(ranges.Range(str(path), 0, 10))),
        lambda: list(pageviews._counted(str(path), frozenset(), None)),  # type: ignore[arg-type]
        lambda: list(rows.batches_in(Part(str(path), Layout("wat"), 0, -1))),
        lambda: list(rows.batches_in(Part(str(path), Layout("parquet"), 0, 1))),
        lambda: list(evalsets.read(part)),
    ]
    for read in reads:
        with pytest.raises(BadInput) as told:
            read()
        words = str(told.value)
        assert words.startswith(f"{socket.gethostname()}: {tmp_path}/")
        assert "the driver has seen it" in words
        assert "mount its folder on every worker, or give an address" in words
        assert "does not exist" not in words


# -- copies --------------------------------------------------------------------------------


def _gets(s3: S3Server, name: str) -> int:
    return sum(_is_object(*asked) and name in asked[1] for asked in s3.asked)


def test_a_copy_is_fetched_once_by_all_processes_of_a_machine(s3: S3Server, tmp_path: Path) -> None:
    address = f"s3://{BUCKET}/{tmp_path.name}/list.txt"
    storage.put(storage.place(address), b"a.example\n")
    code = (
        "from pipeline import copies\n"
        f"for _ in range(3): print(copies.local({address!r}), flush=True)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = {line for process in processes for line in process.communicate(timeout=60)[0].split()}

    (file,) = map(Path, told)
    assert file.name == "list.txt"
    assert file.read_bytes() == b"a.example\n"
    assert _gets(s3, "list.txt") == 1
    assert copies.local(address) == file
    assert _gets(s3, "list.txt") == 1


def test_an_object_that_was_changed_is_another_copy(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_AGAIN_SECONDS", 0.0)
    address = f"s3://{BUCKET}/{tmp_path.name}/list.txt"
    storage.put(storage.place(address), b"first")
    first = copies.local(address)
    storage.put(storage.place(address), b"other")

    assert copies.local(address).read_bytes() == b"other"
    assert first.read_bytes() == b"first"
    os.utime(first.parent, (0, 0))
    storage.put(storage.place(address), b"third")
    assert copies.local(address).read_bytes() == b"third"
    assert not first.exists()


def test_a_copy_that_broke_off_is_not_there(s3: S3Server, tmp_path: Path) -> None:
    address = f"s3://{BUCKET}/{tmp_path.name}/long.bin"
    data = random.Random(4).randbytes(100_000)
    storage.put(storage.place(address), data)
    fault = s3.cut(None, "off", lambda *a: _is_object(*a) and _gets(s3, "long.bin") > 2)
    with pytest.raises(BadInput, match="no answer in 5 tries"):
        copies.local(address)
    assert not list(copies.folder().rglob("long.bin"))
    assert not list(copies.folder().glob(".*"))
    fault.times = 0
    assert copies.local(address).read_bytes() == data


@pytest.mark.parametrize("planted", ["link", "link to nothing", "file", "open to all"])
def test_copies_are_kept_in_no_folder_that_another_may_have_planted(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    address = f"s3://{BUCKET}/{tmp_path.name}/list.txt"
    storage.put(storage.place(address), b"x")
    (home := tmp_path / "home").mkdir()
    (precious := home / "precious").touch()
    os.utime(precious, (0, 0))
    place = tmp_path / f"wit-copies-{os.getuid()}"
    if planted.startswith("link"):
        place.symlink_to(tmp_path / "nothing" if "nothing" in planted else home)
    elif planted == "file":
        place.touch()
    else:
        place.mkdir()
        place.chmod(0o777)
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path))

    told = f"{socket.gethostname()}: {place} is no folder of this user alone: remove it"
    with pytest.raises(BadInput, match=re.escape(told)):
        copies.local(address)
    assert precious.exists()


def test_an_object_that_goes_before_it_is_fetched_is_told(s3: S3Server, tmp_path: Path) -> None:
    address = f"s3://{BUCKET}/{tmp_path.name}/list.txt"
    with pytest.raises(BadInput) as told:
        copies.local(address)
    machine = f"{socket.gethostname()}: {address}"
    assert str(told.value) == f"{machine} does not exist: correct the address in the settings"

    storage.put(storage.place(address), b"x")
    s3.asked.clear()

    def is_second(method: str, path: str) -> bool:
        return method == "HEAD" and [asked for asked, _ in s3.asked].count("HEAD") > 1

    s3.refuse(None, 404, "NoSuchKey", is_second)
    with pytest.raises(BadInput) as told:
        copies.local(address)
    assert str(told.value) == f"{machine} was removed while it was fetched: put it back"


def test_a_name_that_no_disk_takes_is_no_full_disk(s3: S3Server, tmp_path: Path) -> None:
    address = f"s3://{BUCKET}/{tmp_path.name}/{'x' * 300}"
    storage.put(storage.place(address), b"x")
    with pytest.raises(OSError, match="File name too long"):
        copies.local(address)


def test_a_full_scratch_disk_is_told_with_machine_folder_and_next_step(
    s3: S3Server, tmp_path: Path
) -> None:
    address = f"s3://{BUCKET}/{tmp_path.name}/long.bin"
    storage.put(storage.place(address), bytes(100_000))
    code = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "from pipeline import copies, errors\n"
        f"try: copies.local({address!r})\n"
        "except errors.BadInput as error: print(error)"
    )
    environment = {**os.environ, "SPARK_LOCAL_DIRS": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.startswith(f"{socket.gethostname()}: {tmp_path}/wit-copies-"), ran.stderr
    assert "make room there, or name a larger disk with SPARK_LOCAL_DIRS" in ran.stdout
    assert not list(tmp_path.rglob("long.bin"))


# -- a cluster -----------------------------------------------------------------------------


def test_workers_of_a_cluster_find_what_the_driver_and_a_store_have(
    spark: SparkSession, s3: S3Server, tmp_path: Path
) -> None:
    (folder := tmp_path / "of").mkdir()
    table, pictures = (KINDS[kind].write(folder) for kind in ("csv", "tar of pictures"))
    there = _upload(folder, "")
    (blocklist := tmp_path / "blocked.txt").write_text("b.example\n")
    expected = cluster_ingest.found(spark, str(folder / table), str(folder / pictures), blocklist)
    root = Path(__file__).parent.parent
    # Two executors of a Spark cluster, processes of their own.
    ran = subprocess.run(
        [sys.executable, cluster_ingest.__file__, there + table, there + pictures, str(blocklist)],
        env={**os.environ, "PYTHONPATH": str(root), "SPARK_LOCAL_IP": "127.0.0.1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert json.loads(ran.stdout.splitlines()[-1]) == expected
    assert not blocklist.exists()
    candidates, hashes = expected
    assert sum("caption='" in row for row in candidates) > 150
    assert any("blocked domain" in row for row in candidates)
    assert len(hashes) >= 40
