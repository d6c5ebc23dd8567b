"""pipeline.verify: images, keys over all shards, findings, and the processes"""

import multiprocessing.spawn
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decoding import decoded
from pipeline.verify import images, workers
from pipeline.verify.findings import Findings, shown
from pipeline.verify.folder import look
from pipeline.verify.keys import Keys, digest
from pipeline.verify.shards import Task
from tests.pipeline import verify_shards as made

NOISY = made.jpeg(7, 96)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made.write_ours(tmp_path / "shards", made.pairs(7))


def _flip(folder: Path) -> None:
    path = folder / "000001.tar"
    raw = bytearray(path.read_bytes())
    raw[512 + 300] ^= 0xFF
    path.write_bytes(raw)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, len(NOISY) - 1), st.integers(1, 255), st.booleans())
def test_what_is_found_flawless_can_be_decoded(at: int, change: int, is_cut: bool) -> None:
    raw = bytearray(NOISY)
    raw[at] ^= change
    data = bytes(raw[:at] if is_cut else raw)
    if images.flaw(data) is None:
        assert decoded(data).size
    if is_cut:
        assert images.flaw(data) is not None


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sets(st.integers(0, 12)), max_size=6), st.integers(1, 9))
def test_keys_in_several_shards_are_found_in_whatever_room(
    tmp_path_factory: pytest.TempPathFactory, shards: list[set[int]], room: int
) -> None:
    keys = Keys(tmp_path_factory.mktemp("keys"), room)
    homes: dict[bytes, list[int]] = {}
    for shard, numbers in enumerate(shards):
        digests = [digest(f"{n:032x}" if n % 2 else f"name {n}") for n in sorted(numbers)]
        for one in digests:
            homes.setdefault(one, []).append(shard)
        keys.add(shard, b"".join(digests))
    wanted = sorted((shard, home[0], one) for one, home in homes.items() for shard in home[1:])
    assert keys.twice(5) == (len(wanted), wanted[:5])


def test_keys_with_one_half_in_common_are_two(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.add(0, bytes.fromhex("00" * 8 + "01" * 8 + "02" * 16))
    keys.add(1, bytes.fromhex("00" * 8 + "02" * 8 + "01" * 8 + "02" * 8))
    assert keys.twice(5) == (0, [])


def test_findings_are_all_counted_though_few_are_kept() -> None:
    found, more = Findings(3), Findings(3)
    for n in range(5):
        found.add("odd", f"{n}.tar")
        more.add("odd", f"1{n}.tar")
    found.merge(more)
    assert found.counts == {"odd": 10}
    assert [finding.file for finding in found] == ["0.tar", "1.tar", "2.tar"]


def test_what_would_move_the_cursor_is_spelt_out() -> None:
    assert shown("a\x1b[2Jü\ud800") == "a\\x1b[2Jü\\ud800"


def test_findings_are_the_same_for_any_number_of_workers(folder: Path) -> None:
    _flip(folder)
    looked = look(folder, Findings())
    tasks = [Task(str(folder), name, looked.promises[name], False) for name in looked.names]
    told = [
        [(s.samples, s.keys, list(s.found)) for s in workers.verified(tasks, n)] for n in (1, 2)
    ]
    assert told[0] == told[1]
    assert [samples for samples, _, _ in told[0]] == [4, 3]


def test_a_worker_that_dies_costs_one_shard_and_no_other(tmp_path: Path) -> None:
    folder = made.write_ours(tmp_path / "shards", made.pairs(11))
    looked = look(folder, Findings())
    tasks = [Task(str(folder), name, looked.promises[name], False) for name in looked.names]
    seen = []
    for one in workers.verified(tasks, 1):
        seen.append(one)
        if len(seen) == 1:
            # At its second shard, or done with it and about to have its third.
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid or 0, signal.SIGKILL)
    lost = [one for one in seen if one.found]
    assert [one.found.counts for one in lost] == [{"a shard that could not be verified": 1}]
    assert "signal 9" in str(next(iter(lost[0].found)))
    assert sorted(one.samples for one in seen) in ([0, 3, 4], [0, 4, 4])


def test_a_worker_that_cannot_begin_ends_the_run_with_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/bin/false")
    task = Task(str(folder), "000000.tar", None, False)
    with pytest.raises(workers.NoWorker, match="exit code 1"):
        list(workers.verified([task], 1))


def test_noise_is_no_key(tmp_path: Path) -> None:
    keys = Keys(tmp_path, 64)
    chance = np.random.default_rng(0)
    for shard in range(5):
        keys.add(shard, chance.bytes(16 * 50))
    assert keys.twice(3) == (0, [])
