"""Where shards lie: whole or not at all, fetched once, in a cache that stays bounded."""

import os
import pickle
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import LoopbackFileSystem
from store_cases import (
    BYTES,
    QUICK,
    SHARDS,
    SUMS,
    A,
    B,
    C,
    D,
    kept,
    read,
    remote,
    unavailable,
    wanted,
)

from pipeline.errors import BadInput
from pipeline.settings.training import LoaderSettings
from pipeline.trainer.stores import Unavailable, is_plain, open_store


@contextmanager
def somebody_without_rights():
    """Root may write everywhere; others may not."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


# A folder of this machine


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    for name, body in SHARDS.items():
        (folder / name).write_bytes(body)
    return folder


@pytest.mark.parametrize("form", [Path, str, "file://{}".format])
def test_a_folder_is_named_by_path_or_by_address(folder, form):
    store = open_store(form(folder), LoaderSettings())
    assert store.tars() == sorted(SHARDS)
    assert store.local(A, BYTES, SUMS[A]) == folder / A


def test_a_folder_that_is_not_there_is_refused_at_once(tmp_path):
    with pytest.raises(BadInput, match="no folder of shards"):
        open_store(tmp_path / "nowhere", LoaderSettings())


def test_hidden_files_folders_and_other_files_are_no_shards(folder):
    (folder / ".000000.tar.staged").touch()
    (folder / ".hidden.tar").touch()
    (folder / "folder.tar").mkdir()
    (folder / "index.json").touch()
    assert open_store(folder, LoaderSettings()).tars() == sorted(SHARDS)


def test_a_shard_behind_a_link_is_a_shard(folder, tmp_path):
    (folder / A).rename(tmp_path / "elsewhere")
    (folder / A).symlink_to(tmp_path / "elsewhere")
    store = open_store(folder, LoaderSettings())
    assert store.local(A, BYTES).read_bytes() == SHARDS[A]
    assert A in store.tars()


def test_a_folder_tells_what_is_wrong_with_a_shard(folder):
    (folder / A).unlink()
    (folder / B).write_bytes(b"short")
    (folder / C).write_bytes(SHARDS[D])
    os.mkfifo(folder / "fifo.tar")
    store = open_store(folder, LoaderSettings(check_sums=True))
    reasons = {}
    for name, size, sha256 in (wanted(A), wanted(B), wanted(C), ("fifo.tar", None, None)):
        with pytest.raises(Unavailable) as caught:
            store.local(name, size, sha256)
        reasons[name] = caught.value.reason
    assert reasons == {
        A: "missing", B: "other length", C: "other checksum", "fifo.tar": "missing"
    }  # fmt: skip


def test_checksums_of_a_folder_are_compared_only_when_asked_for(folder):
    (folder / C).write_bytes(SHARDS[D])
    assert open_store(folder, LoaderSettings()).local(*wanted(C)) == folder / C


def test_notes_lie_beside_the_shards_where_these_can_be_written(folder):
    assert open_store(folder, LoaderSettings()).notes == folder
    assert {path.name for path in folder.iterdir()} == set(SHARDS)


def test_notes_of_a_folder_that_is_read_only_lie_in_the_cache(monkeypatch):
    with tempfile.TemporaryDirectory() as base:
        shards, other, home = (Path(base, name) for name in ("shards", "other", "home"))
        for path, mode in ((shards, 0o555), (other, 0o555), (home, 0o777), (Path(base), 0o755)):
            path.mkdir(exist_ok=True)
            path.chmod(mode)
        monkeypatch.setenv("XDG_CACHE_HOME", str(home))
        with somebody_without_rights():
            notes = open_store(shards, LoaderSettings()).notes
            (notes / "a file").touch()
            assert open_store(shards, LoaderSettings()).notes == notes
            assert open_store(other, LoaderSettings()).notes != notes
        assert home in notes.parents


# Names


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a.tar", "/a.tar", "a/b.tar", "a\\b.tar", ".a.tar", "a.tar\n", "a\0.tar",
     "a%2fb.tar", "a?.tar", "a" * 300, "é" * 150, "\udc80.tar"],
)  # fmt: skip
def test_a_name_that_may_lead_elsewhere_is_refused(name, folder, cache):
    stores = [open_store(folder, LoaderSettings())]
    stores.append(open_store("memory://shards", LoaderSettings(cache=str(cache))))
    for store in stores:
        store.ahead([(name, None, None)])
        for ask in (store.local, store.small, store.size):
            with pytest.raises(BadInput, match="is no name"):
                ask(name)
        store.close()


@given(st.text(st.sampled_from("aZ09_-./\\\n é~%"), max_size=8))
def test_a_plain_name_is_of_a_file_that_lies_directly_in_the_folder(name):
    if is_plain(name):
        assert Path("/shards", name).resolve(strict=False).parent == Path("/shards")


def test_a_shard_with_another_name_is_not_passed_over_in_silence(folder):
    (folder / "a b.tar").touch()
    with pytest.raises(BadInput, match=r"'a b\.tar'.*rename"):
        open_store(folder, LoaderSettings()).tars()


# Elsewhere


def test_a_store_elsewhere_reads_what_a_folder_reads(server, cache, folder):
    server.files["index.json"] = b"{}"
    (folder / "index.json").write_bytes(b"{}")
    here = open_store(folder, LoaderSettings())
    with remote(server, cache) as there:
        assert there.tars() == here.tars()
        for name in (A, "index.json", "nothing.json"):
            assert there.size(name) == here.size(name)
            assert there.small(name) == here.small(name)
        assert read(there, A) == read(here, A)


def test_whatever_fsspec_knows_can_be_read(cache):
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/some/shards/{A}", SHARDS[A])
    loader = LoaderSettings(cache=str(cache))
    with closing(open_store("memory://some/shards/", loader, QUICK)) as store:
        assert store.tars() == [A]
        assert store.local(A).read_bytes() == SHARDS[A]


def test_an_address_of_no_known_kind_is_refused():
    with pytest.raises(BadInput, match="cannot be opened"):
        open_store("nowhere://shards", LoaderSettings())


def test_a_shard_is_fetched_once_and_then_read_here(server, cache):
    for _ in range(3):
        with remote(server, cache) as store:
            assert read(store, A) == SHARDS[A]
    assert server.asked[A] == 1


def test_a_shard_that_was_made_anew_is_fetched_anew(server, cache):
    with remote(server, cache) as store:
        read(store, A)
        server.files[A] = SHARDS[B]
        assert store.local(A, BYTES, SUMS[B]).read_bytes() == SHARDS[B]


# Trouble


@pytest.mark.parametrize("whims", [[503, 503], [500, "cut"], ["cut", 429], [502]])
def test_what_heals_is_tried_again(server, cache, whims):
    server.whims[A] = list(whims)
    with remote(server, cache) as store:
        assert read(store, A) == SHARDS[A]
    assert server.asked[A] == len(whims) + 1


def test_when_one_process_fails_the_next_one_tries(server, cache):
    server.held[A] = threading.Event()
    server.whims[A] = ["cut"]
    hasty = QUICK._replace(total=0)
    with (
        remote(server, cache, patience=hasty) as first,
        remote(server, cache) as second,
        ThreadPoolExecutor(2) as pool,
    ):
        failed = pool.submit(unavailable, first, *wanted(A))
        server.await_request(A)
        made = pool.submit(read, second, A)
        server.held[A].set()
        assert failed.result(30) == "other length"
        assert made.result(30) == SHARDS[A]
    assert server.asked[A] == 2


def test_what_went_wrong_survives_the_way_between_processes():
    told = pickle.loads(pickle.dumps(Unavailable(A, "missing", "why")))  # noqa: S301 - our own
    assert (told.name, told.reason, told.detail) == (A, "missing", "why")


def test_a_busy_server_is_no_missing_file(server, cache):
    server.whims[A] = [503]
    with remote(server, cache) as store:
        assert store.size(A) == BYTES


@pytest.mark.parametrize(
    ("whims", "sha256", "size", "reason"),
    [
        ([404], SUMS[A], BYTES, "missing"),
        ([410], SUMS[A], BYTES, "missing"),
        (["cut"] * 9, SUMS[A], BYTES, "other length"),
        ([], SUMS[A], BYTES - 1, "other length"),
        ([], SUMS[A], BYTES + 1, "other length"),
        ([], SUMS[B], BYTES, "other checksum"),
        (["cut"] * 9, SUMS[A], None, "other checksum"),
        ([], "../../x", BYTES, "other checksum"),
        ([503] * 99, SUMS[A], BYTES, "cannot be fetched"),
        ([400], SUMS[A], BYTES, "cannot be fetched"),
    ],
)
def test_a_shard_that_cannot_be_had_says_why_and_leaves_nothing(
    server, cache, whims, sha256, size, reason
):
    server.whims[A] = whims
    with remote(server, cache) as store:
        assert unavailable(store, A, size, sha256) == reason
        assert kept(cache) == {}
        asked = server.asked[A]
        assert unavailable(store, A, size, sha256) == reason
        assert server.asked[A] == asked  # it is not tried again for every sample


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_read_is_told_so_without_the_password(server, cache, status):
    server.whims[A] = [status] * 2
    loader = LoaderSettings(cache=str(cache))
    where = server.where.replace("://", "://me:secret@")
    store = open_store(where, loader, QUICK)
    with closing(store), pytest.raises(BadInput, match="credentials") as caught:
        store.local(A)
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_a_server_that_cannot_answer_with_parts_is_read_from_end_to_end(server, cache, monkeypatch):
    monkeypatch.setattr(LoopbackFileSystem, "serves_parts", False)
    with remote(server, cache) as store:
        assert read(store, A) == SHARDS[A]


def test_a_small_file_that_is_denied_is_as_good_as_absent(server, cache):
    server.files["000000.places"] = b"places"
    server.whims["000000.places"] = [403]
    with remote(server, cache) as store:
        assert store.small("000000.places") is None


def test_a_folder_that_cannot_be_listed_is_refused(server, cache):
    server.whims[""] = [404]
    with remote(server, cache) as store, pytest.raises(BadInput, match="correct the address"):
        store.tars()


def test_a_server_that_falls_silent_is_not_waited_for(server, cache):
    server.held[A] = threading.Event()
    with remote(server, cache, patience=QUICK._replace(silence=0.2)) as store:
        assert unavailable(store, *wanted(A)) == "cannot be fetched"
        server.held[A].set()


def test_closing_a_store_ends_its_waits(server, cache):
    server.held[A] = threading.Event()
    with remote(server, cache) as store, ThreadPoolExecutor(1) as pool:
        reason = pool.submit(unavailable, store, *wanted(A))
        server.await_request(A)
        store.close()
        assert reason.result(30) == "cannot be fetched"
        server.held[A].set()
        assert unavailable(store, *wanted(B)) == "cannot be fetched"
