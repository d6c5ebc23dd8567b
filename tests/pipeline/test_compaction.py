"""pipeline.compaction and pipeline.placing"""

import json
import random
import subprocess
import sys
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import compaction_rows
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_tars import largest_file

from pipeline import places
from pipeline.compaction import compact
from pipeline.errors import BadInput
from pipeline.placing import Written, clear_others, clear_unfinished, write_index
from pipeline.schemas import SAMPLE_MEMBERS, SHARDED


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


@pytest.fixture
def final(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "09_shards"
    folder.mkdir(parents=True)
    return folder


def _files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def _told(tar: Path) -> list[dict[str, object]]:
    with tarfile.open(tar) as members:
        described = [member for member in members if member.name.endswith(".json")]
        return [json.loads(members.extractfile(m).read()) for m in described]  # type: ignore[union-attr]


def test_what_lies_beside_a_tar_leads_to_its_images_and_captions(raw: Path, final: Path) -> None:
    rows = compaction_rows.make(raw, 30)
    written = compact(rows, 3, raw, final)
    tar = (final / "000003.tar").read_bytes()
    assert (written.name, written.samples, written.bytes) == ("000003.tar", 30, len(tar))
    beside = pq.read_table(final / "000003.parquet")
    assert beside.schema.equals(SHARDED)
    lie = places.read(final / "000003.places", len(tar))
    assert lie.keys.to_pylist() == rows["pair_id"].to_pylist()
    for number, row in enumerate(beside.to_pylist()):
        image = b"\xff\xd8" + bytes([number]) * (3000 + number)
        assert tar[row["offset"] : row["offset"] + row["bytes"]] == image
        assert tar[lie.image[number] :][: lie.image_bytes[number]] == image
        caption = tar[lie.caption[number] :][: lie.caption_bytes[number]]
        assert caption.decode() == row["caption"] == f"número {number}"
    with tarfile.open(final / "000003.tar") as members:
        names = [f"{key}.{end}" for key in rows["pair_id"].to_pylist() for end in SAMPLE_MEMBERS]
        assert members.getnames() == names


def test_rows_in_other_batches_are_the_same_files(raw: Path, tmp_path: Path) -> None:
    rows = compaction_rows.make(raw, 30)
    made = []
    for sizes in ((30,), (1, 9, 20), (1,) * 30):
        folder = tmp_path / f"{len(sizes)}"
        folder.mkdir()
        begins = [sum(sizes[:nth]) for nth in range(len(sizes))]
        # Behind one another in memory of their own, as batches come from Spark.
        parts = [
            pa.Table.from_pylist(rows.slice(begin, size).to_pylist(), rows.schema)
            for begin, size in zip(begins, sizes, strict=True)
        ]
        compact(pa.concat_tables(parts), 0, raw, folder)
        made.append(_files(folder))
    assert made[0] == made[1] == made[2]


def test_what_may_be_null_changes_no_byte(raw: Path, tmp_path: Path) -> None:
    rows = compaction_rows.make(raw, 3)
    nullable = pa.schema([pa.field(field.name, field.type) for field in rows.schema])
    assert not nullable.equals(rows.schema)
    for name, given in (("as told", rows), ("nullable", rows.cast(nullable))):
        (tmp_path / name).mkdir()
        compact(given, 0, raw, tmp_path / name)
    assert _files(tmp_path / "as told") == _files(tmp_path / "nullable")


def test_other_captions_are_in_the_json_where_they_are_kept_and_nowhere_else(
    raw: Path, tmp_path: Path
) -> None:
    rows = compaction_rows.make(raw, 2)
    others = pa.array([["uno", "un"], []], pa.list_(pa.string()))
    for name, given in (("kept", rows.append_column("alternatives", others)), ("plain", rows)):
        (tmp_path / name).mkdir()
        compact(given, 0, raw, tmp_path / name)
    told = _told(tmp_path / "kept" / "000000.tar")
    assert [sample.pop("alternatives") for sample in told] == [["uno", "un"], []]
    assert told == _told(tmp_path / "plain" / "000000.tar")
    beside = [pq.read_table(tmp_path / name / "000000.parquet") for name in ("kept", "plain")]
    assert beside[0]["pair_id"].equals(beside[1]["pair_id"])
    assert beside[0].column_names == beside[1].column_names


def test_a_shard_that_is_whole_is_not_written_again(raw: Path, final: Path) -> None:
    rows = compaction_rows.make(raw, 5)
    written = compact(rows, 0, raw, final)
    for file in raw.iterdir():
        file.unlink()
    assert compact(rows, 0, raw, final) == written


@pytest.mark.parametrize(
    "damage", ["other rows", "no parquet", "no places", "no tar", "shorter tar", "no note"]
)
def test_a_shard_that_is_not_whole_is_written_again(damage: str, raw: Path, final: Path) -> None:
    rows = compaction_rows.make(raw, 5)
    compact(rows, 0, raw, final)
    whole = _files(final)
    if damage == "other rows":
        clear_others(final, 0)
        captions = pa.array(["another"] * 5, pa.string())
        compact(
            rows.set_column(rows.column_names.index("caption"), "caption", captions), 0, raw, final
        )
        assert _files(final)["000000.tar"] != whole["000000.tar"]
    elif damage == "shorter tar":
        (final / "000000.tar").write_bytes(whole["000000.tar"][:-1])
    elif damage == "no note":
        table = pq.read_table(final / "000000.parquet")
        pq.write_table(table.replace_schema_metadata(None), final / "000000.parquet")
    else:
        (final / f"000000.{damage.split()[1]}").unlink()
    compact(rows, 0, raw, final)
    assert _files(final) == whole


def test_attempts_at_one_shard_at_a_time_leave_one_that_is_whole(raw: Path, final: Path) -> None:
    rows = compaction_rows.make(raw, 50)
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: compact(rows, 0, raw, final), range(24)))
    assert len(made) == 1
    clear_others(final, 1)
    assert sorted(_files(final)) == ["000000.parquet", "000000.places", "000000.tar"]
    assert made == {compact(rows, 0, raw, final)}


def _cut(tar: Path) -> None:
    tar.write_bytes(tar.read_bytes()[:5000])


def _overwrite(tar: Path) -> None:
    tar.write_bytes(b"<html>".ljust(tar.stat().st_size))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_cut, r"00001\.tar holds no JPEG of 3013 bytes at \d+ \(pair 0+b\).*`wit build --again`"),
        (_overwrite, r"00001\.tar holds no JPEG of 3012 bytes at 512 \(pair 0+a\)"),
        (Path.unlink, r"00001\.tar is missing \(pair 0+a\).*`wit build --again`"),
    ],
)
def test_a_raw_tar_that_was_changed_is_named_with_the_pair(
    damage: Callable[[Path], None], told: str, raw: Path, final: Path
) -> None:
    rows = compaction_rows.make(raw, 20)
    damage(raw / "00001.tar")
    with pytest.raises(BadInput, match=told):
        compact(rows, 0, raw, final)
    assert _files(final) == {}


@pytest.mark.parametrize("part", ["tar", "parquet"])
def test_a_full_disk_is_told_with_what_to_do_and_leaves_nothing(
    part: str, raw: Path, final: Path
) -> None:
    rows = compaction_rows.make(raw, {"tar": 40, "parquet": 1}[part], raw_tars=1)
    # A column that is in the parquet alone, and does not get smaller there.
    noise = pa.array([random.Random(0).randbytes(30_000).hex()] * len(rows), pa.string())
    rows = rows.set_column(rows.column_names.index("pixels_sha256"), "pixels_sha256", noise)
    told = rf"09_shards takes no more \(File too large\).*`wit shard --run {final.parent}`"
    with largest_file(10_240), pytest.raises(BadInput, match=told):
        compact(rows, 0, raw, final)
    assert _files(final) == {}
    assert compact(rows, 0, raw, final).samples == len(rows)


def test_a_full_disk_leaves_no_half_an_index(final: Path) -> None:
    with largest_file(10), pytest.raises(BadInput, match="takes no more"):
        write_index(final, [Written("000000.tar", 1, 1, "0")], 1)
    assert _files(final) == {}


_KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import pyarrow.parquet as pq
from pipeline.compaction import compact

raw, root = Path(sys.argv[1]), Path(sys.argv[2])
rows = pq.read_table(root / "rows.parquet")
operations = -1

def count(event, arguments):
    # Files that are opened, renamed and removed, but not those of modules being imported.
    global operations
    if operations >= 0 and event in ("open", "os.rename", "os.remove"):
        operations -= 1
        if operations < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
(root / "first").mkdir()
began = time.monotonic()
compact(rows, 0, raw, root / "first")
seconds = time.monotonic() - began

def child(name, prepare):
    process = os.fork()
    if not process:
        folder = root / name
        folder.mkdir()
        prepare()
        compact(rows, 0, raw, folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

def after(number):
    def prepare():
        global operations
        operations = number
    return prepare

def within(delay):
    # The default action of this signal ends the process without a further step of its own.
    return lambda: signal.setitimer(signal.ITIMER_REAL, delay)

number = 0
while child(f"operation-{number}", after(number)):
    number += 1
chance = random.Random(0)
for nth in range(20):
    child(f"moment-{nth}", within(chance.uniform(0.0001, seconds)))
"""


def test_a_process_killed_at_any_moment_leaves_what_a_second_one_completes(
    raw: Path, tmp_path: Path
) -> None:
    rows = compaction_rows.make(raw, 200)
    root = tmp_path / "killed"
    root.mkdir()
    pq.write_table(rows, root / "rows.parquet")
    subprocess.run([sys.executable, "-c", _KILLED, str(raw), str(root)], check=True)
    whole = _files(root / "first")
    killed = sorted(path for path in root.glob("*-*") if _files(path) != whole)
    assert len([path for path in killed if path.name.startswith("operation")]) > 10
    for folder in killed:
        files = _files(folder)
        if "000000.tar" in files:
            assert whole.items() <= files.items()
        clear_unfinished(folder)
        compact(rows, 0, raw, folder)
        assert _files(folder) == whole, folder.name


def test_only_shards_of_the_plan_are_left_and_nothing_that_was_staged(
    raw: Path, final: Path
) -> None:
    rows = compaction_rows.make(raw, 4)
    for number in range(3):
        compact(rows, number, raw, final)
    kept = {name: data for name, data in _files(final).items() if name[:6] in ("000000", "000001")}
    for name in (".000001.0a.tar", "..000001.0a.places.0b", ".index.json.0c", "index.json"):
        (final / name).write_bytes(b"half")
    (final / "_begun.json").write_bytes(b"{}")
    clear_unfinished(final)
    clear_others(final, 2)
    assert _files(final) == {**kept, "_begun.json": b"{}"}


def test_what_a_second_attempt_at_a_task_left_is_gone_in_the_end(raw: Path, final: Path) -> None:
    compact(compaction_rows.make(raw, 4), 0, raw, final)
    write_index(final, [], 4)
    whole = _files(final)
    for name in (".000000.0a.tar", "..000000.0a.places.0b"):
        (final / name).write_bytes(b"half")
    clear_others(final, 1)
    assert _files(final).items() == whole.items() - {("_placing.lock", b"")}


def test_the_index_tells_of_every_shard_in_order(final: Path) -> None:
    shards = [Written("000001.tar", 3, 7, "b"), Written("000000.tar", 10, 9, "a")]
    index = write_index(final, shards, 10)
    assert json.loads((final / "index.json").read_text()) == index
    assert [shard["name"] for shard in index["shards"]] == ["000000.tar", "000001.tar"]
    assert (index["samples"], index["samples_per_shard"]) == (13, 10)
    assert json.loads((final / "sizes.json").read_text()) == {"000000.tar": 10, "000001.tar": 3}
