"""pipeline.scan"""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import tars
from pipeline.captions import of_sample, parted
from pipeline.hashes import of_image
from pipeline.scan import Shard, Told, read_told, rows_in, write
from pipeline.schemas import SCANNED


def _picture(seed: int, form: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((160, 120)).save(stream, form)
    return stream.getvalue()


def _shard(folder: Path, files: list[tuple[str, bytes]]) -> Shard:
    path = folder / "7.tar"
    with path.open("wb") as tar:
        for name, data in files:
            tars.append(tar, name, data)
        tars.close(tar)
    return Shard("7.tar", str(path), str(folder / "7.parquet"))


def _rows(folder: Path, files: list[tuple[str, bytes]]) -> tuple[dict[str, dict], Told]:
    told = Told()
    rows = list(rows_in(_shard(folder, files), told))
    by_name = {row["pair_id"]: row for row in rows}
    assert len(by_name) == len(rows)
    return by_name, told


def test_an_image_has_its_hashes_its_caption_and_its_place(tmp_path: Path) -> None:
    data = _picture(1)
    rows, told = _rows(tmp_path, [("a/0.jpg", data), ("a/0.txt", b" two dogs \n")])
    (row,) = rows.values()
    assert row["pair_id"] == "7.tar/a/0"
    assert row["caption"] == "two dogs"
    assert row["phash"] == of_image(Image.open(io.BytesIO(data)).convert("RGB")).phash
    assert row["side"] == 120
    assert tars.read(Path(row["path"]), row["offset"], row["bytes"]) == data
    assert (told.images, told.oddities, told.damages) == (1, {}, [])


def test_every_image_of_a_sample_is_read_and_named_by_its_extension(tmp_path: Path) -> None:
    files = [("0.jpg", _picture(1)), ("0.right.PNG", _picture(2, "PNG")), ("0.txt", b"both")]
    rows, _ = _rows(tmp_path, files)
    assert {name: row["caption"] for name, row in rows.items()} == {
        "7.tar/0.jpg": "both",
        "7.tar/0.right.png": "both",
    }


def test_keys_and_members_that_come_twice_are_all_read_under_names_of_their_own(
    tmp_path: Path,
) -> None:
    files = [("0.jpg", b""), ("0.jpg", b""), ("1.jpg", b""), ("0.jpg", b""), ("1.jpg", b"")]
    rows, told = _rows(tmp_path, files)
    assert list(rows) == ["7.tar/0.jpg", "7.tar/0.jpg#2", "7.tar/1", "7.tar/0", "7.tar/1#2"]
    assert told.oddities["a member twice"] == 1
    assert told.oddities["a key twice"] == 2
    assert told.undecodable == {"empty": 5}


def test_a_name_that_leads_outside_is_only_a_name(tmp_path: Path) -> None:
    rows, told = _rows(tmp_path, [("../../etc/x.jpg", _picture(3)), ("/abs.jpg", _picture(4))])
    assert list(rows) == ["7.tar/../../etc/x", "7.tar//abs"]
    assert told.oddities == {"a name that leads outside": 2, "an image without a text": 2}


def test_what_is_missing_or_cannot_be_decoded_is_counted_by_its_reason(tmp_path: Path) -> None:
    whole = _picture(5)
    files = [
        ("text.txt", b"alone"),
        ("noise.jpg", b"<html>no</html>"),
        ("half.jpg", whole[: len(whole) // 2]),
        ("none.jpg", b""),
        ("readme", b"no key"),
    ]
    rows, told = _rows(tmp_path, files)
    assert {row["dropped_for"] for row in rows.values()} == {"undecodable", "truncated", "empty"}
    assert told.images == 0
    assert told.undecodable == {"undecodable": 1, "truncated": 1, "empty": 1}
    assert told.oddities["a sample without an image"] == 1
    assert told.oddities["a member without a key"] == 1


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a/b.jpg", ("a/b", "jpg")),
        ("a.b/c.d.JPG", ("a.b/c", "d.jpg")),
        ("a/b", None),
        ("a/.hidden", None),
        ("é.txt", ("é", "txt")),
    ],
)
def test_keys_end_at_the_first_dot_of_the_base_name(
    name: str, found: tuple[str, str] | None
) -> None:
    assert parted(name) == found


@pytest.mark.parametrize(
    ("text", "described", "caption"),
    [
        (b"a dog", b'{"caption": "a cat"}', "a dog"),
        (None, b'{"caption": "a cat"}', "a cat"),
        (None, b'{"text": "a cat"}', "a cat"),
        (None, b'{"caption": ["a cat", "", 7, "a dog"]}', "a cat\na dog"),
        (None, b'{"caption": 7}', None),
        (None, b'["caption"]', None),
        (None, b'{"caption": "a', None),
        (None, b"[" * 100_000, None),
        (b"\xff\xfe", None, "\ufffd\ufffd"),
        (b"  ", None, None),
        (None, None, None),
    ],
)
def test_a_caption_comes_from_the_text_or_else_from_the_json(
    text: bytes | None, described: bytes | None, caption: str | None
) -> None:
    assert of_sample(text, described) == caption


def test_what_is_written_tells_its_counts_again(tmp_path: Path) -> None:
    shard = _shard(tmp_path, [("0.jpg", _picture(1)), ("1.jpg", b"no"), ("1.txt", b"t")])
    raw = Path(shard.path).read_bytes()
    Path(shard.path).write_bytes(raw.rstrip(b"\0"))
    told = write(shard)
    assert told.damages
    assert read_told(shard) == told
    table = pq.read_table(shard.file)
    assert table.schema.equals(SCANNED)
    assert table.num_rows == 2
    assert json.loads(json.dumps(told.as_json()))["images"] == 1
    assert {file.name for file in tmp_path.iterdir()} == {"7.tar", "7.parquet"}


def test_a_damaged_shard_keeps_its_whole_samples(tmp_path: Path) -> None:
    shard = _shard(tmp_path, [(f"{n}.jpg", _picture(n)) for n in range(4)])
    with tarfile.open(shard.path) as tar:
        last = tar.getmembers()[-1]
    raw = Path(shard.path).read_bytes()
    Path(shard.path).write_bytes(raw[: last.offset_data + 100])
    told = Told()
    assert [row["pair_id"] for row in rows_in(shard, told)] == ["7.tar/0", "7.tar/1", "7.tar/2"]
    what = "the archive ends in the middle of 3.jpg"
    assert told.damages == [("7.tar", last.offset_data, what)]
