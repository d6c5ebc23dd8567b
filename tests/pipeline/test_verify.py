"""pipeline.verify: every kind of damage is told, and told apart"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.card import card
from pipeline.compaction import IN_JSON, compact
from pipeline.verify.findings import Findings
from pipeline.verify.folder import look
from pipeline.verify.shards import Task, verify
from tests.pipeline import compaction_rows
from tests.pipeline import verify_shards as made
from tests.pipeline.verify_shards import kinds

NOISY = made.jpeg(7, 96)


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


def _card(change: Callable[[str], str]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "README.md").write_text(change((folder / "README.md").read_text()))

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
        (lambda f: (f / "README.md").unlink(), {"no card": 1}),
        (_card(lambda t: t.replace("dtype: int32", "dtype: string", 1)), {"another card": 1}),
        (_card(lambda t: t.replace("---\n", "---\nlicense: mit\n", 1) + "Our photos."), {}),
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


@settings(deadline=None, max_examples=100)
@given(at=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
@example(at=0.427111843123897, change=1)  # the footer: a column of no values
@example(at=0.03626, change=119)  # a page's header: words that its dictionary lacks
def test_no_byte_of_a_sidecar_can_be_changed_so_that_another_row_is_read_in_silence(
    tmp_path_factory: pytest.TempPathFactory, at: float, change: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    compact(compaction_rows.make(folder / "raw", 3), 0, folder / "raw", folder)
    made.write_index(folder)
    path = folder / "000000.parquet"
    whole, raw = pq.read_table(path), bytearray(path.read_bytes())
    raw[int(at * len(raw))] ^= change
    path.write_bytes(raw)
    try:
        is_same = pq.read_table(path).equals(whole)
    except (OSError, ValueError, pa.ArrowException):
        is_same = False
    of_sidecar = [kind for kind in kinds(folder, deep=False) if "sidecar" in kind]
    assert of_sidecar or is_same


def test_the_captions_of_many_copies_are_no_flaw_of_a_sample(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    rows = compaction_rows.make(tmp_path / "raw", 2)
    others = pa.array([["x" * 1000] * 2000, []], pa.list_(pa.string()))
    folder.mkdir()
    compact(rows.append_column("alternatives", others), 0, tmp_path / "raw", folder)
    made.write_index(folder)
    (folder / "README.md").write_text(card(IN_JSON, alternatives=True))
    assert kinds(folder, deep=False) == {}


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


def test_a_pipe_beside_the_shards_is_not_waited_for(folder: Path) -> None:
    for name in ("000001.places", "000001.parquet", "sizes.json"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
    assert kinds(folder) == {"no places": 1, "no sidecar": 1, "no sizes": 1}
