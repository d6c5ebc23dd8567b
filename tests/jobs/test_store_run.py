"""A run in a store and on a disk, with busy and refusing answers.

The text stages always; as far as the audit it takes minutes, and is run with the chaos.
"""

import json
import os
import random
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from jobs import walk
from jobs.world import make_world, serve
from jobs.world.demo import MIN_PAIRS
from jobs.world.folder import ROUTES
from tests.chaos.cluster import answer_always_alike
from tests.s3_server import BUCKET, served

_VERBS = tuple(stage.verb for stage in walk.STAGES)
_PORT = 18599
_OF_IMAGES = ("images", "fingerprints", "shards", "audit")
"""Tables that are no rows alone, or tell when they were made."""
_BUSY_SHARE, _SLOW_SHARE = 0.05, 0.02

# Spark's workers have the environment that Spark was started with: hence a process of its own.
_DRIVER = f"""
import hashlib, json, sys
from pathlib import Path
from jobs import verify, walk
from jobs.__main__ import _told_by_worker
from jobs.run import Run
from pipeline import storage
from pipeline.errors import WitError

last, config, flags, *roots = sys.argv[1:]
verbs = [stage.verb for stage in walk.STAGES]
stages = walk.STAGES[: verbs.index(last) + 1]
names = [name for stage in stages for name in stage.writes if name not in {_OF_IMAGES}]
sets = ["spark.master=local[2]", "spark.partitions=3", "spark.driver_memory=1g"]

def digest_of(run, table):
    rows = sorted(map(str, run.read_arrow(table).to_pylist()))
    content = hashlib.sha256("".join(rows).encode()).hexdigest()
    return [run.manifest(table)["digest"], content]

def tables(run):
    return {{table: digest_of(run, table) for table in names}}

def shards(run):
    files = [file for file in storage.files(run.path("shards")) if file.name[0] != "_"]
    return {{file.name: hashlib.sha256(storage.read(file)).hexdigest() for file in files}}

def walked(run, **options):
    said = []
    run.progress.say = said.append
    for stage in stages:
        walk.one(run, stage.verb, **options)
    return said

def refused(run, flag):
    Path(flags, flag).touch()
    try:
        walk.one(run, "match", again=True)
    except WitError as error:
        return str(error)
    except Exception as error:
        return _told_by_worker(error)
    finally:
        Path(flags, flag).unlink()

told = {{}}
for root in roots:
    run = Run.open(root, Path(config), sets)
    walked(run)
    told[root] = [tables(run), shards(run)]
told["again"] = walked(Run.open(root, None, []))
told["whole"] = last == "draw" or verify.main(None, run.root, None, None, quick=False)

# The driver was killed before the manifest, and a worker of it came late.
run = Run.open(root, None, [])
storage.remove(run.path("candidates") / "_manifest.json")
storage.put(run.path("candidates") / "part-000099.parquet", b"half")
walked(run)
told["made again"] = [tables(run), shards(run)]

# A worker that was frozen wakes when the tables are whole.
for table in {{"candidates", "balanced"}}.intersection(names):
    storage.put(run.path(table) / "part-000000.parquet", b"late")
told["late"] = [tables(run), shards(run)]

told["denied"] = refused(run, "denied")
told["expired"] = refused(run, "expired")
walked(run)
told["in the end"] = [tables(run), shards(run)]
told["files"] = [str(file) for file in storage.files(run.root)]
print(json.dumps(told))
"""


@pytest.fixture(scope="module", params=["draw", pytest.param("audit", marks=pytest.mark.chaos)])
def told(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the driver tells, and the requests that the server saw."""
    folder = tmp_path_factory.mktemp("store")
    world = make_world(folder / "web", MIN_PAIRS, port=_PORT)
    answer_always_alike(world.folder / ROUTES)
    chance = random.Random(7)

    def is_busy(method: str, path: str) -> bool:
        if chance.random() < _SLOW_SHARE:
            time.sleep(0.2)
        return chance.random() < _BUSY_SHARE

    def is_part(method: str, path: str) -> bool:
        return "/03_matched/part-" in path or "/02_candidates/part-" in path

    with served() as server, serve(world.folder, world.port):
        server.refuse(
            None,
            403,
            "AccessDenied",
            lambda method, path: (
                method == "PUT" and is_part(method, path) and (folder / "denied").exists()
            ),
        )
        server.refuse(
            None,
            400,
            "ExpiredToken",
            lambda method, path: (
                method == "PUT" and is_part(method, path) and (folder / "expired").exists()
            ),
        )
        busy = server.refuse(None, fits=is_busy)
        roots = [str(folder / "disk"), f"s3://{BUCKET}/runs/one"]
        words = [request.param, str(world.settings), str(folder), *roots]
        command = [sys.executable, "-c", _DRIVER, *words]
        done = subprocess.run(
            command, env=dict(os.environ), capture_output=True, text=True, timeout=550
        )
        assert done.returncode == 0, done.stderr[-5000:]
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        verbs = list(_VERBS[: _VERBS.index(request.param) + 1])
        asked = list(server.asked)
        return {**found, "verbs": verbs, "roots": roots, "busy": busy.met, "asked": asked}


def test_a_run_in_a_store_has_the_tables_of_one_on_a_disk(told: dict[str, Any]) -> None:
    disk, store = told["roots"]
    assert told[store] == told[disk]
    assert told["busy"] > 10


def test_a_run_in_a_store_is_up_to_date_when_it_is_made(told: dict[str, Any]) -> None:
    fresh = [line for line in told["again"] if "up to date" in line]
    assert [line.split(":")[0] for line in fresh] == told["verbs"]
    assert told["whole"]


def test_a_table_without_a_manifest_is_made_again_without_what_was_left(
    told: dict[str, Any],
) -> None:
    assert told["made again"] == told[told["roots"][1]]
    assert not any("part-000099" in name for name in told["files"])


def test_what_comes_when_a_table_is_whole_is_no_part_of_it(told: dict[str, Any]) -> None:
    assert told["late"] == told[told["roots"][1]]


def test_nothing_is_renamed_and_nothing_is_left_in_a_store(told: dict[str, Any]) -> None:
    assert "COPY" not in [method for method, _ in told["asked"]]
    names = [name.removeprefix(told["roots"][1] + "/") for name in told["files"]]
    for_good = ("/_manifest.json", "/_attempts/")
    hidden = [name for name in names if "/_" in name or "/." in name]
    assert [name for name in hidden if not any(word in name for word in for_good)] == []
    beside = [name for name in names if "/" not in name]
    assert beside == ["report.html", "run.toml", "walk.jsonl"]


@pytest.mark.parametrize(
    ("flag", "word"), [("denied", "access is denied"), ("expired", "credentials have expired")]
)
def test_what_a_store_refuses_a_worker_is_one_line_with_machine_place_and_next_step(
    told: dict[str, Any], flag: str, word: str
) -> None:
    line = told[flag]
    assert line.startswith(f"{socket.gethostname()}: {told['roots'][1]}/03_matched/part-")
    assert word in line
    assert "\n" not in line
    assert told["in the end"] == told[told["roots"][1]]
