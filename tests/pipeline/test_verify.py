"""pipeline.verify: every kind of damage is told, and told apart"""

import io
import json
import multiprocessing.spawn
import os
import signal
import struct
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.decoding import decoded
from pipeline.errors import BadInput
from pipeline.verify import images, workers
from pipeline.verify.findings import Findings, shown
from pipeline.verify.folder import look
from pipeline.verify.keys import Keys, digest
from pipeline.verify.shards import Task, verify
from tests.pipeline import verify_shards as made

NOISY = made.jpeg(7, 96)


def kinds(folder: Path, *, deep: bool = True) -> Counter[str]:
    """What is told of a folder, by kind; keys in several shards apart."""
    found = Findings()
    looked = look(folder, found)
    for name in looked.names:
        found.merge(verify(Task(str(folder), name, looked.promises.get(name), deep)).found)
    return found.counts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made.write_ours(tmp_path / "shards", made.pairs(7))


def test_shards_as_wit_writes_them_are_whole(folder: Path) -> None:
    assert kinds(folder) == {}
    assert verify(Task(str(folder), "000000.tar", None, True)).samples == 4


def _rewrite(folder: Path, change: Callable[[list[list[made.Member]]], object]) -> None:
    """Other members in the second shard, with an index that fits them."""
    part = made.pairs(3, 4)
    samples = [made.members(pair) for pair in part]
    change(samples)
    made.write_tar(folder / "000001.tar", samples)
    made.write_index(folder)


def _flip(folder: Path) -> None:
    path = folder / "000001.tar"
    raw = bytearray(path.read_bytes())
    raw[512 + 300] ^= 0xFF
    path.write_bytes(raw)


def _cut(folder: Path) -> None:
    path = folder / "000001.tar"
    path.write_bytes(path.read_bytes()[:6000])


def _edit(name: str, change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        told = json.loads((folder / name).read_text())
        change(told)
        (folder / name).write_text(json.dumps(told))

    return damage


def _sidecar(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        table = pq.read_table(folder / "000001.parquet")
        pq.write_table(change(table), folder / "000001.parquet")

    return damage


def _set(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(name), pa.array(values, table.schema[at].type))


def _other_places(folder: Path) -> None:
    part = made.pairs(3, 4)
    rows = made.write_tar(folder / "000001.tar", [made.members(pair) for pair in part])
    rows[1] = (rows[1][0] + 1, *rows[1][1:])
    made.write_places(folder / "000001.tar", [key for key, _, _ in part], rows)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: (f / "000001.tar").unlink(), {"no such shard": 1}),
        (lambda f: (f / "000001.parquet").unlink(), {"no sidecar": 1}),
        (
            lambda f: (f / "000001.parquet").write_bytes(b"PAR1"),
            {"a sidecar that cannot be read": 1},
        ),
        (lambda f: (f / "000001.places").unlink(), {"no places": 1}),
        (lambda f: (f / "000001.places").write_bytes(b"x"), {"places that cannot be read": 1}),
        (_other_places, {"places that mislead": 1}),
        (lambda f: (f / "sizes.json").unlink(), {"no sizes": 1}),
        (_edit("sizes.json", lambda t: t.update({"000000.tar": 9})), {"other sizes": 1}),
        (lambda f: (f / ".000001.abc.tar").touch(), {"left of an interrupted run": 1}),
        (lambda f: (f / "000002.tar").touch(), {"a tar that the index does not name": 1}),
        (lambda f: (f / "notes.txt").touch(), {"a file that is no part of the shards": 1}),
        (_edit("index.json", lambda t: t.update(samples=8)), {"an index that does not add up": 1}),
        (
            _edit("index.json", lambda t: t.update(samples_per_shard=5)),
            {"a shard of another size": 1},
        ),
        (
            lambda f: (f / "_manifest.json").write_text('{"rows": 8}'),
            {"a manifest of other rows": 1},
        ),
        (_sidecar(lambda t: t.drop_columns(["pdq"])), {"a sidecar with other columns": 1}),
        (_sidecar(lambda t: t.slice(0, 2)), {"a sidecar with other samples": 1}),
        (_sidecar(lambda t: t.take([1, 0, 2])), {"a sidecar with other samples": 2}),
        (
            _sidecar(lambda t: _set(t, "offset", [0, 1, 2])),
            {"a sidecar that misplaces the image": 3},
        ),
        (
            _sidecar(lambda t: _set(t, "caption", [*t["caption"].to_pylist()[:2], "another"])),
            {"a sidecar with another caption": 1},
        ),
        (
            _sidecar(lambda t: _set(t, "sample", [0, 1, 1])),
            {"a sidecar that numbers otherwise": 1},
        ),
    ],
)
def test_what_lies_beside_the_tars_is_held_against_them(
    folder: Path, damage: Callable[[Path], None], told: dict[str, int]
) -> None:
    damage(folder)
    assert kinds(folder) == told


_NOT_THREE = "a sample that is not jpg, txt, json"
_ELSEWHERE = {"a sidecar that misplaces the image", "places that mislead"}
_OTHERS = {"a sidecar with other samples", "places of other samples"}
_SHORT = "places that cannot be read"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s[1].pop(1), {_NOT_THREE}),
        (lambda s: s[1].pop(0), {_NOT_THREE}),
        (lambda s: s[1].insert(0, s[1].pop(1)), {_NOT_THREE}),
        (lambda s: s.__setitem__(2, s[0]), {"a key twice in a shard"} | _OTHERS),
        (lambda s: s.insert(2, [s[0].pop(2)]), {"a sample whose members lie apart", _NOT_THREE}),
        (lambda s: s[1].insert(1, s[1][0]), {"a member twice", "webdataset reads other samples"}),
        (lambda s: s.reverse(), _OTHERS),
        (lambda s: s.clear(), {"an empty shard"}),
        (
            lambda s: s[1].__setitem__(0, (s[1][0][0], NOISY[: len(NOISY) // 2])),
            {"an image that is truncated"},
        ),
        (
            lambda s: s[1].__setitem__(0, (s[1][0][0], b"\xff\xd8 no picture \xff\xd9")),
            {"an image that is undecodable"},
        ),
        (
            lambda s: s[1].__setitem__(0, (s[1][0][0], NOISY[:700] + b"\xff\xd9")),
            {"an image that is warned of"},
        ),
        (lambda s: s[1].__setitem__(0, (s[1][0][0], b"")), {"an image that is empty"}),
        (lambda s: s[1].__setitem__(1, (s[1][1][0], b"\xff\xfe")), {"a caption that is not UTF-8"}),
        (lambda s: s[1].__setitem__(2, (s[1][2][0], b"{")), {"JSON that cannot be parsed"}),
        (lambda s: s[1].__setitem__(2, (s[1][2][0], s[0][2][1])), {"JSON of another pair"}),
        (
            lambda s: s[1].__setitem__(0, ("../" + s[1][0][0], s[1][0][1])),
            {"a name that leads outside"},
        ),
    ],
)
def test_members_that_are_wrong_are_told_though_the_checksum_fits(
    folder: Path, change: Callable[[list[list[made.Member]]], object], told: set[str]
) -> None:
    _rewrite(folder, change)
    found = kinds(folder)
    assert told <= found.keys()
    # The places are those of the former tar, and of another length as a rule.
    beside = {_SHORT, "another number of samples", "a sidecar with another caption"}
    follows = {"JSON with another caption", "a sample without a caption", _NOT_THREE}
    assert found.keys() <= told | _ELSEWHERE | _OTHERS | beside | follows


def test_a_flipped_byte_is_a_checksum_and_nothing_else_when_nothing_is_decoded(
    folder: Path,
) -> None:
    _flip(folder)
    assert kinds(folder, deep=False) == {"another checksum": 1}


def test_a_tar_that_breaks_off_is_told_with_its_length_its_end_and_its_samples(
    folder: Path,
) -> None:
    _cut(folder)
    assert {
        "another length",
        "a damaged archive",
        "another number of samples",
        "webdataset reads other samples",
    } <= kinds(folder).keys()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_byte_of_a_folder_can_be_changed_so_that_it_is_not_finished(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = made.write_ours(tmp_path_factory.mktemp("any") / "shards", made.pairs(3), 2)
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw[:at] if data.draw(st.booleans()) else raw)
    found = kinds(folder, deep=False)
    assert found or path.suffix != ".tar"


def test_an_index_leads_to_no_other_folder(folder: Path) -> None:
    (folder.parent / "000009.tar").write_bytes((folder / "000001.tar").read_bytes())
    _edit("index.json", lambda t: t["shards"][1].update(name="../000009.tar"))(folder)  # type: ignore[index]
    looked = look(folder, found := Findings())
    assert looked.names == ["000000.tar"]
    assert found.counts["an index that names no shard"] == 1


@pytest.mark.parametrize("index", ["", "[]", '{"shards": 3}', '{"shards": [7, {}]}', "[" * 9999])
def test_an_index_that_is_none_is_told_and_the_folder_still_ours(folder: Path, index: str) -> None:
    (folder / "index.json").write_text(index)
    looked = look(folder, found := Findings(), ours=True)
    assert looked.ours
    assert found.counts["an index without shards"] == 1
    assert found.counts["a tar that the index does not name"] == 2


# -- shards that others made ---------------------------------------------------------------


def _foreign(folder: Path, samples: list[list[made.Member]], form: int) -> Path:
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "0.tar", "w", format=form) as tar:
        for name, data in [member for sample in samples for member in sample]:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5 if form == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(data))
    return folder


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_webdataset_of_others_is_whole_in_every_form_of_tar(tmp_path: Path, form: int) -> None:
    png = io.BytesIO()
    Image.new("RGB", (9, 9)).save(png, "PNG")
    long = "x" * (40 if form == tarfile.USTAR_FORMAT else 140)
    samples = [
        [("a/0.png", png.getvalue()), ("a/0.txt", b"one")],
        [(f"{long}.JPG", NOISY), (f"{long}.cls", b"3"), (f"{long}.json", b'{"caption": "two"}')],
    ]
    assert kinds(_foreign(tmp_path / "theirs", samples, form)) == {}


def test_samples_of_others_need_an_image_and_a_caption(tmp_path: Path) -> None:
    samples: list[list[made.Member]] = [
        [("0.jpg", NOISY)],
        [("1.txt", b"no image")],
        [("2.jpg", b"none"), ("2.txt", b"\xff")],
        [("__note__", b"")],
    ]
    assert kinds(_foreign(tmp_path / "theirs", samples, tarfile.USTAR_FORMAT)) == {
        "a sample without a caption": 1,
        "a sample without an image": 1,
        "an image that is undecodable": 1,
        "a caption that is not UTF-8": 1,
        "a member of no sample": 1,
    }


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_told_and_followed_nowhere(tmp_path: Path, kind: bytes) -> None:
    folder = _foreign(tmp_path / "theirs", [[("0.jpg", NOISY), ("0.txt", b"x")]], 0)
    with tarfile.open(folder / "0.tar", "a") as tar:
        info = tarfile.TarInfo("1.txt")
        info.type, info.linkname = kind, "/etc/hostname"
        tar.addfile(info)
    told = "device" if kind == tarfile.CHRTYPE else "link"
    assert kinds(folder) == {f"a member that is no file: {told}": 1}


def test_an_archive_in_gzip_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    with tarfile.open(tmp_path / "theirs" / "0.tar", "w:gz") as tar:
        info = tarfile.TarInfo("0.txt")
        info.size = 1 << 20
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    found = kinds(tmp_path / "theirs")
    assert found["packed in gzip"] == 1
    assert found["a sample without an image"] == 0


def test_what_a_sparse_member_claims_is_never_unfolded(tmp_path: Path) -> None:
    folder = _foreign(tmp_path / "theirs", [[("0.jpg", NOISY), ("0.txt", b"x")]], 0)
    claimed = 1 << 40
    records = [("GNU.sparse.map", "0,0"), ("GNU.sparse.size", str(claimed))]
    body = b"".join(_record(*record) for record in records)
    info = tarfile.TarInfo("global")
    info.size, info.type = len(body), tarfile.XGLTYPE
    header = info.tobuf(tarfile.USTAR_FORMAT)
    path = folder / "0.tar"
    path.write_bytes(header + body.ljust(512, b"\0") + path.read_bytes())
    with tarfile.open(path) as tar:
        assert max(member.size for member in tar) == claimed
    assert kinds(folder) == {"webdataset reads other samples": 1}


def _record(name: str, value: str) -> bytes:
    rest = f" {name}={value}\n".encode()
    return f"{len(rest) + 2}".encode() + rest


def test_a_size_beyond_the_archive_costs_that_member_alone(tmp_path: Path) -> None:
    samples = [[(f"{n}.jpg", NOISY), (f"{n}.txt", b"x")] for n in range(3)]
    folder = _foreign(tmp_path / "theirs", samples, tarfile.USTAR_FORMAT)
    _claim(folder / "0.tar", b"0")
    found = kinds(folder)
    assert found["a damaged archive"] == 1
    assert found["a sample without an image"] == 1
    assert verify(Task(str(folder), "0.tar", None, False)).samples == 3


def test_a_header_longer_than_memory_is_told_and_not_read(tmp_path: Path) -> None:
    samples = [[(f"{n}.jpg", NOISY), (f"{n}.txt", b"x")] for n in range(3)]
    folder = _foreign(tmp_path / "theirs", samples, tarfile.USTAR_FORMAT)
    _claim(folder / "0.tar", b"x")
    found = kinds(folder)
    assert found["a damaged archive"] >= 1
    assert found["webdataset reads other samples"] == 1


def _claim(path: Path, kind: bytes) -> None:
    """Let the first member be of a `kind`, and have a size that no file has."""
    raw = bytearray(path.read_bytes())
    raw[124:136], raw[156:157] = b"\x80" + struct.pack(">3xq", 1 << 50), kind
    block = bytes(raw[:148]) + b" " * 8 + bytes(raw[156:512])
    raw[148:156] = b"%06o\0 " % sum(block)
    path.write_bytes(raw)


def test_names_are_no_commands_and_no_patterns(tmp_path: Path) -> None:
    folder = _foreign(tmp_path / "theirs", [[("0.jpg", NOISY), ("0.txt", b"x")]], 0)
    (folder / "0.tar").rename(folder / "pipe:touch {a,b}::$HOME.tar")
    assert kinds(folder) == {}


def test_a_pipe_among_the_shards_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0.tar")
    assert kinds(tmp_path) == {"no such shard": 1}


def test_a_pipe_beside_the_shards_is_not_waited_for(folder: Path) -> None:
    for name in ("000001.places", "000001.parquet", "sizes.json"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
    assert kinds(folder) == {"no places": 1, "no sidecar": 1, "no sizes": 1}


def test_a_folder_without_tars_is_a_mistake_of_use(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no tar"):
        look(tmp_path, Findings())


# -- images, keys, findings, workers -------------------------------------------------------


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
