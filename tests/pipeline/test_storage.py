import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.errors import BadInput
from tests.s3_server import BUCKET, S3Server


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> storage.Place:
    if request.param == "disk":
        return tmp_path
    request.getfixturevalue("s3")
    return storage.place(f"s3://{BUCKET}/{tmp_path.name}")


def test_what_is_put_is_read_on_a_disk_and_in_a_store_alike(folder: storage.Place) -> None:
    storage.make_folder(folder / "a")
    storage.put(folder / "a" / "two.txt", "second")
    storage.put(folder / "one.bin", b"0123456789")

    assert storage.read(folder / "a" / "two.txt") == b"second"
    assert storage.read_at(folder / "one.bin", 2, 3) == b"234"
    assert storage.read_at(folder / "one.bin", 8, 30) == b"89"
    assert storage.read_at(folder / "one.bin", 4, 0) == b""
    assert storage.size(folder / "one.bin") == 10
    assert [place.name for place in storage.files(folder)] == ["two.txt", "one.bin"]
    assert [size for _, size in storage.sizes(folder)] == [6, 10]
    with storage.opened(folder / "one.bin") as file:
        file.seek(7)
        assert file.read() == b"789"
    with storage.local(folder / "one.bin") as file:
        assert file.read_bytes() == b"0123456789"
    assert abs(storage.modified(folder / "one.bin").timestamp() - time.time()) < 60


def test_what_is_not_there_is_told_alike(folder: storage.Place) -> None:
    nothing = folder / "none" / "at-all"

    assert storage.size(nothing) is None
    assert not storage.exists(nothing)
    assert storage.files(nothing) == []
    for ask in (storage.read, storage.modified, lambda place: storage.read_at(place, 0, 1)):
        with pytest.raises(FileNotFoundError):
            ask(nothing)
    storage.remove(nothing)
    storage.clear(nothing)


def test_what_is_removed_is_gone(folder: storage.Place) -> None:
    for name in ("kept", "one/a", "one/b"):
        storage.make_folder((folder / name).parent)
        storage.put(folder / name, name)
    storage.remove(folder / "one" / "a")
    assert [place.name for place in storage.files(folder)] == ["kept", "b"]

    storage.clear(folder / "one")

    assert [place.name for place in storage.files(folder)] == ["kept"]


def test_no_other_folder_goes_with_one_that_looks_like_a_pattern(folder: storage.Place) -> None:
    for name in ("o*/a", "one/a", "[ab]/a", "b/a", "o?e/a"):
        storage.make_folder((folder / name).parent)
        storage.put(folder / name, name)

    for name in ("o*", "[ab]", "o?e"):
        storage.clear(folder / name)

    assert [storage.below(folder, place) for place in storage.files(folder)] == ["b/a", "one/a"]


def test_what_a_store_does_not_remove_is_told(s3: S3Server, tmp_path: Path) -> None:
    folder = storage.place(f"s3://{BUCKET}/{tmp_path.name}")
    for name in ("one", "two", "three"):
        storage.put(folder / name, name)
    denied = s3.refuse(
        None, 403, "AccessDenied", lambda method, path: method == "DELETE" and "/two" in path
    )
    with pytest.raises(BadInput, match="access is denied"):
        storage.clear(folder)
    assert folder / "two" in storage.files(folder)

    denied.times = 0
    busy = s3.refuse(6, fits=lambda method, path: method == "DELETE")
    storage.clear(folder)

    assert storage.files(folder) == []
    assert busy.met == 6


def test_a_file_is_named_by_the_folder_however_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1_2.tar").touch()
    monkeypatch.chdir(tmp_path)

    for folder in map(
        storage.place, (".", "./", str(tmp_path), f"{tmp_path}/", "../" + tmp_path.name)
    ):
        (file,) = storage.files(folder)
        assert storage.below(folder, file) == "a/1_2.tar"
        assert not storage.is_hidden(folder, file)


def test_of_many_that_create_one_thing_one_succeeds(folder: storage.Place) -> None:
    tries = [f"by {number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda text: storage.create(folder / "winner", text), tries))

    assert made.count(True) == 1
    assert storage.read(folder / "winner").decode() == tries[made.index(True)]


def test_a_place_goes_to_other_processes_as_text(s3: S3Server, tmp_path: Path) -> None:
    where = storage.place(f"s3a://{BUCKET}/{tmp_path.name}/x")
    storage.put(where, "hello")
    told = storage.absolute(where)

    code = f"from pipeline import storage; print(storage.read(storage.place({told!r})))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert ran.stdout == "b'hello'\n", ran.stderr
    assert told.startswith("s3://")
    assert storage.absolute(Path("x")) == str(Path.cwd() / "x")


def test_busy_answers_are_ridden_out(s3: S3Server, tmp_path: Path) -> None:
    folder = storage.place(f"s3://{BUCKET}/{tmp_path.name}")
    faults = [
        s3.refuse(6, fits=lambda method, path: method == "PUT"),
        s3.refuse(3, fits=lambda method, path: method == "GET"),
        s3.refuse(2, 500, "InternalError", lambda method, path: method == "HEAD"),
    ]
    storage.put(folder / "one", b"x" * 1000)

    assert storage.read(folder / "one") == b"x" * 1000
    assert storage.size(folder / "one") == 1000
    assert [fault.met for fault in faults] == [6, 3, 2]


def test_a_reader_in_the_middle_of_a_file_rides_them_out(s3: S3Server, tmp_path: Path) -> None:
    where = storage.place(f"s3://{BUCKET}/{tmp_path.name}/long")
    data = os.urandom(3 << 23)
    storage.put(where, data)
    with storage.opened(where) as file:
        first = file.read(1000)
        fault = s3.refuse(6, fits=lambda method, path: method == "GET")
        rest = file.read()

    assert first + rest == data
    assert fault.met == 6


def test_slow_answers_are_waited_for(s3: S3Server, tmp_path: Path) -> None:
    s3.seconds = 0.4
    where = storage.place(f"s3://{BUCKET}/{tmp_path.name}/slow")
    storage.put(where, b"late")

    assert storage.read(where) == b"late"


def test_a_store_that_stays_busy_is_named_with_this_machine(s3: S3Server, tmp_path: Path) -> None:
    where = storage.place(f"s3://{BUCKET}/{tmp_path.name}/never")
    s3.refuse(None)

    told = f"{socket.gethostname()}: {where}: no answer in 5 tries"
    with pytest.raises(BadInput, match=f"^{re.escape(told)}"):
        storage.put(where, b"x")


def test_a_large_file_goes_in_parts_and_is_seen_whole(s3: S3Server, tmp_path: Path) -> None:
    file, where = tmp_path / "large", storage.place(f"s3://{BUCKET}/{tmp_path.name}/large")
    data = os.urandom(storage.PART_BYTES * 2 + 12345)
    file.write_bytes(data)
    fault = s3.refuse(4, fits=lambda method, path: "partNumber=2" in path)

    storage.put_file(file, where)

    assert storage.read(where) == data
    assert fault.met == 4


def test_half_an_upload_is_never_seen(s3: S3Server, tmp_path: Path) -> None:
    file, where = tmp_path / "large", storage.place(f"s3://{BUCKET}/{tmp_path.name}/large")
    file.write_bytes(os.urandom(storage.PART_BYTES * 2 + 12345))
    s3.refuse(None, 403, "AccessDenied", lambda method, path: "partNumber=2" in path)

    with pytest.raises(BadInput, match="access is denied"):
        storage.put_file(file, where)

    assert any("partNumber=1" in path for _, path in s3.asked)
    assert storage.size(where) is None
    assert storage.files(where.parent) == []


def test_an_upload_that_was_killed_is_never_seen(s3: S3Server, tmp_path: Path) -> None:
    file, where = tmp_path / "large", storage.place(f"s3://{BUCKET}/{tmp_path.name}/large")
    file.write_bytes(os.urandom(storage.PART_BYTES * 2 + 12345))
    last_part_is_waited_for = threading.Event()

    def hold(method: str, path: str) -> bool:
        if method == "PUT" and "partNumber=2" in path:
            last_part_is_waited_for.set()
            time.sleep(2)
        return False

    s3.refuse(None, fits=hold)
    code = (
        "from pathlib import Path; from pipeline import storage;"
        f"storage.put_file(Path({str(file)!r}), storage.place({str(where)!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        assert last_part_is_waited_for.wait(60)
        process.kill()
    s3.faults.clear()

    assert storage.size(where) is None
    storage.put_file(file, where)
    assert storage.size(where) == file.stat().st_size


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (403, "AccessDenied", "access is denied"),
        (403, "InvalidAccessKeyId", "does not know the access key"),
        (403, "SignatureDoesNotMatch", "secret key"),
        (400, "ExpiredToken", "credentials have expired"),
        (403, "RequestTimeTooSkewed", "clock"),
        (404, "NoSuchBucket", "no such bucket"),
        (400, "EntityTooLarge", "the store refuses"),
    ],
)
def test_a_refusal_is_told_with_machine_place_and_next_step(
    s3: S3Server, tmp_path: Path, status: int, code: str, word: str
) -> None:
    where = storage.place(f"s3://{BUCKET}/{tmp_path.name}/x")
    s3.refuse(None, status, code)
    for ask in (lambda: storage.put(where, b"x"), lambda: storage.read(where)):
        with pytest.raises(BadInput) as told:
            ask()
        assert str(told.value).startswith(f"{socket.gethostname()}: {where}: ")
        assert word in str(told.value)
        assert "\n" not in str(told.value)


def test_a_machine_without_credentials_is_told_so(s3: S3Server, tmp_path: Path) -> None:
    environment = {
        name: value for name, value in {**os.environ, **s3.environment}.items() if "KEY" not in name
    }
    environment["HOME"] = str(tmp_path)
    code = (
        "from pipeline import storage, errors\n"
        f"try: storage.read(storage.place('s3://{BUCKET}/x'))\n"
        "except errors.BadInput as error: print(error)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )

    assert "no credentials for s3: give this machine credentials" in ran.stdout, ran.stderr


@pytest.mark.parametrize(
    ("address", "word"),
    [("nonsense://a/b", "an address that fsspec knows"), ("gs://a/b", "install gcsfs")],
)
def test_a_store_that_nobody_reads_is_told(address: str, word: str) -> None:
    with pytest.raises(BadInput, match=word):
        storage.place(address)
