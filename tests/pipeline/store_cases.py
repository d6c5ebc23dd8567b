"""A dozen small shards, and stores of them that give up quickly."""

import fcntl
import hashlib
import os
import random
from contextlib import closing

import pytest

from pipeline.settings.training import LoaderSettings
from pipeline.trainer.stores import Patience, Unavailable, open_store, opened

QUICK = Patience(first=0.01, longest=0.02, total=0.5, silence=60)
BYTES = 1000
SHARDS = {f"{i:06d}.tar": random.Random(i).randbytes(BYTES) for i in range(12)}
SUMS = {name: hashlib.sha256(body).hexdigest() for name, body in SHARDS.items()}
A, B, C, D, *_ = SHARDS


def remote(server, cache, shards=100, patience=QUICK, **settings):
    """A store whose cache holds so many shards."""
    loader = LoaderSettings(cache=str(cache), cache_bytes=shards * BYTES, **settings)
    return closing(open_store(server.where, loader, patience))


def wanted(name):
    return name, BYTES, SUMS[name]


def read(store, name):
    return content(opened(store, wanted(name)))


def content(descriptor):
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def kept(cache):
    """The files of the cache, in a moment in which nobody makes room or finishes."""
    cache.mkdir(exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return {path.name: path.stat().st_size for path in (cache / "shards").glob("*/*")}


def shards_in(cache):
    return sorted(name.rpartition("-")[2] for name in kept(cache))


def unavailable(store, *wanted):
    with pytest.raises(Unavailable) as caught:
        store.local(*wanted)
    return caught.value.reason
