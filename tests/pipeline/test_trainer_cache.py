"""The cache of fetched shards: each fetched once for all processes, and never too many kept."""

import errno
import hashlib
import multiprocessing
import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from loopback import Server
from store_cases import (
    BYTES,
    QUICK,
    SHARDS,
    SUMS,
    A,
    B,
    C,
    D,
    content,
    kept,
    read,
    remote,
    shards_in,
    unavailable,
    wanted,
)

from pipeline.errors import BadInput
from pipeline.settings.training import LoaderSettings
from pipeline.trainer.stores import open_store, opened

# Many processes


def _fetch(where, cache, name, out):
    loader = LoaderSettings(cache=str(cache), cache_bytes=100 * BYTES)
    with closing(open_store(where, loader, QUICK)) as store:
        out.put(hashlib.sha256(read(store, name)).hexdigest())


def test_eight_processes_fetch_a_shard_once(server, cache):
    spawn = multiprocessing.get_context("spawn")
    out = spawn.Queue()
    server.held[A] = threading.Event()
    processes = [
        spawn.Process(target=_fetch, args=(server.where, cache, A, out), daemon=True)
        for _ in range(8)
    ]
    for process in processes:
        process.start()
    server.await_request(A)
    server.held[A].set()
    assert [out.get(timeout=120) for _ in processes] == [SUMS[A]] * 8
    for process in processes:
        process.join(60)
    assert server.asked[A] == 1
    assert shards_in(cache) == [A]


def test_a_fetch_that_was_killed_leaves_nothing_that_is_taken_for_a_shard(server, cache):
    spawn = multiprocessing.get_context("spawn")
    server.held[A] = threading.Event()
    args = (server.where, cache, A, spawn.Queue())
    process = spawn.Process(target=_fetch, args=args, daemon=True)
    process.start()
    server.await_request(A)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert [name[0] for name in kept(cache)] == ["."]
    server.held[A].set()
    with remote(server, cache, shards=2) as store:
        read(store, B)
        assert shards_in(cache) == [B]  # making room removes the dead part
        assert read(store, A) == SHARDS[A]


def test_what_a_killed_fetch_left_is_written_anew(server, cache):
    with remote(server, cache) as store:
        (staged,) = (cache / "shards").iterdir()
        (staged / f".{SUMS[A][:16]}-{A}.part").write_bytes(b"x" * 5000)
        assert read(store, A) == SHARDS[A]
    assert list(kept(cache).values()) == [BYTES]


# Room


def test_the_least_recently_used_shard_goes_first(server, cache):
    with remote(server, cache, shards=3) as store:
        for name in (A, B, C, A, D):
            read(store, name)
    assert shards_in(cache) == [A, C, D]


def test_a_shard_that_is_open_stays_whole_when_it_is_evicted(server, cache):
    with remote(server, cache, shards=1) as store:
        descriptor = opened(store, wanted(A))
        read(store, B)
        assert content(descriptor) == SHARDS[A]
    assert shards_in(cache) == [B]


def test_the_cache_never_holds_more_than_it_may(server, cache):
    def work(seed):
        chance = random.Random(seed)
        with remote(server, cache, shards=3, fetches=2) as store:
            for _ in range(12):
                ahead = chance.sample(sorted(SHARDS), 3)
                store.ahead(map(wanted, ahead))
                if chance.random() < 0.7:
                    assert read(store, ahead[0]) == SHARDS[ahead[0]]
                held.append(sum(kept(cache).values()))

    held = []
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert 2 * BYTES <= max(held) <= 3 * BYTES
    assert not [name for name in kept(cache) if name.startswith(".")]


def test_what_is_in_the_making_keeps_its_room(server, cache):
    server.held = {A: threading.Event(), B: threading.Event()}
    with remote(server, cache, shards=2) as store, ThreadPoolExecutor(3) as pool:
        first = [pool.submit(read, store, name) for name in (A, B)]
        server.await_request(A)
        server.await_request(B)
        with remote(server, cache, shards=2) as other:
            other.ahead([wanted(C)])
        assert server.asked[C] == 0  # what is only wanted ahead gives up
        third = pool.submit(read, store, C)
        server.held[A].set()
        server.held[B].set()
        bodies = [each.result(30) for each in (*first, third)]
        assert bodies == [SHARDS[A], SHARDS[B], SHARDS[C]]
        assert sum(kept(cache).values()) <= 2 * BYTES


def test_a_shard_that_others_evict_as_soon_as_it_is_whole_is_fetched_again(
    server, cache, monkeypatch
):
    really, evicted = Path.replace, []

    def replace(path, target):
        really(path, target)
        if not evicted:
            evicted.append(target)
            target.unlink()

    monkeypatch.setattr(Path, "replace", replace)
    with remote(server, cache) as store:
        assert read(store, A) == SHARDS[A]
    assert server.asked[A] == 2


def test_all_stores_of_a_cache_are_bounded_together(server, cache):
    with remote(server, cache, shards=2) as first, Server(SHARDS) as other:
        read(first, A)
        with remote(other, cache, shards=2) as second:
            read(second, B)
            read(second, C)
    assert shards_in(cache) == [B, C]


def test_files_of_others_in_the_cache_are_neither_counted_nor_removed(server, cache):
    (cache / "shards" / "mine").mkdir(parents=True)
    precious = cache / "shards" / "mine" / "precious"
    precious.write_bytes(b"x" * 9 * BYTES)
    with remote(server, cache, shards=1) as store:
        read(store, A)
        read(store, B)
    assert precious.exists()


def test_a_shard_larger_than_the_cache_says_what_to_raise(server, cache):
    loader = LoaderSettings(cache=str(cache), cache_bytes=BYTES - 1)
    for size in (BYTES, None):
        with (
            closing(open_store(server.where, loader, QUICK)) as store,
            pytest.raises(BadInput, match=r"loader\.cache_bytes"),
        ):
            store.local(A, size)
    assert kept(cache) == {}


def test_on_a_full_disk_older_shards_make_room_for_the_next(server, cache, monkeypatch):
    really = os.pwrite

    def pwrite(descriptor, block, offset):
        if len(list((cache / "shards").glob("*/[!.]*"))) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(descriptor, block, offset)

    with remote(server, cache) as store:
        read(store, A)
        read(store, B)
        monkeypatch.setattr(os, "pwrite", pwrite)
        assert read(store, C) == SHARDS[C]
        assert shards_in(cache) == [B, C]


def test_a_disk_that_stays_full_is_told(server, cache, monkeypatch):
    def pwrite(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", pwrite)
    with remote(server, cache) as store, pytest.raises(BadInput, match="No space left"):
        store.local(*wanted(A))
    assert kept(cache) == {}


def test_a_cache_that_cannot_be_written_is_told(server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(BadInput, match=r"loader\.cache"):
        open_store(server.where, LoaderSettings(cache=str(tmp_path / "cache")))


# Ahead


def test_what_is_asked_for_ahead_is_there_when_it_is_needed(server, cache):
    with remote(server, cache) as store:
        store.ahead([wanted(A), wanted(B)])
        server.await_request(B)
        assert [read(store, A), read(store, B)] == [SHARDS[A], SHARDS[B]]
    assert server.asked == {A: 1, B: 1}


def test_no_more_than_half_of_the_cache_is_asked_for_ahead(server, cache):
    with remote(server, cache, shards=6) as store:
        store.ahead(map(wanted, sorted(SHARDS)))
        for name in (A, B, C):
            server.await_request(name)
            read(store, name)
    assert server.asked == {A: 1, B: 1, C: 1}


def test_what_was_asked_for_ahead_and_not_begun_is_forgotten(server, cache):
    server.held[A] = threading.Event()
    with remote(server, cache, fetches=1) as store:
        store.ahead([wanted(A), wanted(B)])
        server.await_request(A)
        store.ahead([wanted(C)])
        server.held[A].set()
        server.await_request(C)
    assert server.asked == {A: 1, C: 1}


def test_what_goes_wrong_ahead_is_met_when_it_is_needed(server, cache):
    server.whims[A] = [404]
    with remote(server, cache) as store:
        store.ahead([wanted(A), wanted(B)])
        server.await_request(B)
        assert unavailable(store, *wanted(A)) == "missing"
        assert read(store, B) == SHARDS[B]
    assert server.asked == {A: 1, B: 1}


def test_a_shard_that_is_needed_now_does_not_wait_for_those_ahead(server, cache):
    server.held[A] = threading.Event()
    with remote(server, cache, fetches=1) as store:
        store.ahead([wanted(A)])
        server.await_request(A)
        assert read(store, B) == SHARDS[B]
        server.held[A].set()
        assert read(store, A) == SHARDS[A]
