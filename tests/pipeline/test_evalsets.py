"""pipeline.evalsets: every form of a set, in parts"""

import gzip
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import evalsets
from pipeline.errors import BadInput
from pipeline.evalsets import arrays
from pipeline.settings import EvalSet
from tests.pipeline import eval_files as files
from tests.pipeline.eval_files import evalset, pixels_of

_PICTURES = [
    (f"{split}/{label}/{n}.png", files.png(100 * n + k))
    for k, (split, label) in enumerate([("test", "cat"), ("test", "red_dog"), ("train", "cat")])
    for n in range(3)
]
_TESTS = [(name, data) for name, data in sorted(_PICTURES) if name.startswith("test")]


def _taken_apart(asked: EvalSet, split: str | None) -> list[evalsets.EvalImage]:
    """The images, after a look whether parts and names give the same ones."""
    whole = list(evalsets.images(asked, split))
    parts = pickle.loads(pickle.dumps(evalsets.parts(asked, split)))  # noqa: S301
    assert [image for part in parts for image in evalsets.read(part)] == whole
    assert [image for part in parts[::-1] for image in evalsets.read(part)][-1] in whole
    assert evalsets.count(parts) == len(whole)
    few = [image.name for image in whole[::2]]
    assert len({image.name for image in whole}) == len(whole)
    assert list(evalsets.find(asked, few)) == whole[::2]
    return whole


@pytest.mark.parametrize("form", ["folder", "tar", "gz", "xz", "bz2"])
def test_split_class_image_is_read_from_folders_and_tars(tmp_path: Path, form: str) -> None:
    if form == "folder":
        path = files.folder(tmp_path / "set", _PICTURES)
    else:
        named = [("./" + name, data) for name, data in _PICTURES]
        path = files.tar(tmp_path / f"set.{form}.tar", named, "w" if form == "tar" else f"w:{form}")
    found = _taken_apart(evalset(path), "test")
    assert [(image.name, image.data) for image in found] == _TESTS
    assert [(image.split, image.label) for image in found][2:4] == [
        ("test", "cat"),
        ("test", "red_dog"),
    ]
    assert len(_taken_apart(evalset(path), None)) == 9


@pytest.mark.parametrize("form", ["folder", "tar"])
@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["cat/a.png", "dog/b.png"], [(None, "cat"), (None, "dog")]),
        (["a.png", "b.PNG"], [(None, None), (None, None)]),
        (["test/a.png", "train/b.png"], [("test", None)]),
        (["train2017/a.png", "val2017/b.png"], [(None, None), (None, None)]),
        (["images/test/a.png", "images/train/b.png"], [("test", None)]),
        (["x/test/cat/a.png"], [("test", "cat")]),
    ],
)
def test_where_an_image_lies_tells_its_split_and_class(
    tmp_path: Path, form: str, names: list[str], told: list[tuple[str | None, str | None]]
) -> None:
    members = [(name, files.png(n)) for n, name in enumerate(names)]
    make = files.folder if form == "folder" else files.tar
    path = make(tmp_path / ("set" if form == "folder" else "set.tar"), members)
    found = _taken_apart(evalset(path), "test")
    assert [(image.split, image.label) for image in found] == told


def test_a_synonym_of_a_split_will_do_where_its_name_is_not_there(tmp_path: Path) -> None:
    path = files.folder(tmp_path / "a", [("validation/cat/a.png", files.png(1))])
    assert len(_taken_apart(evalset(path, split="val"), "val")) == 1
    files.folder(path, [("val/cat/a.png", files.png(2))])
    assert [image.split for image in evalsets.images(evalset(path, split="val"), "val")] == ["val"]


def test_linked_folders_and_files_are_read_and_circles_end(tmp_path: Path) -> None:
    files.folder(tmp_path / "elsewhere", [("a.png", files.png(1))])
    path = tmp_path / "set" / "test"
    path.mkdir(parents=True)
    (path / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "set")
    assert [image.name for image in _taken_apart(evalset(tmp_path / "set"), "test")] == [
        "test/cat/a.png"
    ]


@pytest.mark.parametrize("has_classes", [True, False])
def test_webdataset_brings_the_class_beside_the_image(tmp_path: Path, has_classes: bool) -> None:
    labels = [".cls", ".json", ".cls"]
    for shard, suffix in enumerate(labels):
        label = b'{"label": 1}' if suffix == ".json" else b"1\n"
        members = [(f"s{shard:07d}.png", files.png(shard)), (f"s{shard:07d}{suffix}", label)]
        files.tar(tmp_path / "test" / f"{shard}.tar", members[:: 1 if shard else -1])
    files.folder(tmp_path, [("test/nshards.txt", b"3")])
    if has_classes:
        (tmp_path / "classnames.txt").write_text("tench\ngreat white shark\n")
    found = _taken_apart(evalset(tmp_path), "test")
    assert evalsets.format_of(evalset(tmp_path)) == "webdataset"
    assert [image.name for image in found] == [f"test/{n}.tar/s{n:07d}.png" for n in range(3)]
    assert {image.label for image in found} == {"great white shark" if has_classes else "1"}
    assert {image.split for image in found} == {"test"}
    (tmp_path / "test" / "1.tar").unlink()
    with pytest.raises(BadInput, match="tells of 3 shards, and 2 are there"):
        evalsets.parts(evalset(tmp_path), "test")


def test_a_table_of_hugging_face_brings_the_names_of_its_classes(tmp_path: Path) -> None:
    for part in range(2):
        images = [(files.png(10 * part + n), n % 3 - 1) for n in range(7)]
        name = f"data/test-{part:05d}-of-00002.parquet"
        files.hugging_face(tmp_path / name, images, ["cat", "dog"])
    files.hugging_face(tmp_path / "data/train-00000-of-00001.parquet", [(b"x", 0)], ["cat"])
    found = _taken_apart(evalset(tmp_path), "test")
    assert [image.label for image in found] == [None, "cat", "dog", None, "cat", "dog", None] * 2
    assert found[9].name == "data/test-00001-of-00002.parquet#2"
    assert found[9].data == files.png(12)
    (tmp_path / "data/test-00000-of-00002.parquet").unlink()
    with pytest.raises(BadInput, match="of 2 files data/test-\\*-of-00002 1 are there"):
        evalsets.parts(evalset(tmp_path), "test")


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_column_of_bytes_will_do_and_another_of_splits(tmp_path: Path, suffix: str) -> None:
    table = pa.table(
        {
            "id": list(range(40)),
            "jpg": [files.png(n) for n in range(40)],
            "class": pa.array(["a/b" if n % 2 else None for n in range(40)]),
            "split": ["test" if n % 4 else "train" for n in range(40)],
        }
    )
    path = tmp_path / f"things.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path, row_group_size=7)
    else:
        with pa.ipc.new_stream(path, table.schema) as out:
            out.write_table(table, max_chunksize=7)
    found = _taken_apart(evalset(path), "test")
    assert [image.data for image in found] == [files.png(n) for n in range(40) if n % 4]
    assert [image.label for image in found][:3] == ["a/b", None, "a/b"]
    named = evalset(path, label_column="id", image_column="jpg")
    assert next(evalsets.images(named, "train")).label == "0"


def test_columns_that_could_be_meant_are_asked_for(tmp_path: Path) -> None:
    picture = [files.png(1)]
    pq.write_table(pa.table({"left": picture, "right": picture}), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match=r"left, right.*image_column"):
        evalsets.parts(evalset(tmp_path), "test")
    assert _taken_apart(evalset(tmp_path, image_column="right"), "test")
    with pytest.raises(BadInput, match=r"`up` of .* holds no images; left, right could"):
        evalsets.parts(evalset(tmp_path, image_column="up"), "test")


def test_a_table_of_paths_alone_says_so(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": None, "path": "/etc/passwd"}}]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.Table.from_pylist(rows, schema=pa.schema([("image", kind)]))
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(BadInput, match="holds no bytes"):
        list(evalsets.images(evalset(tmp_path), "test"))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_cifars_pickles_give_the_pixels_that_went_in(tmp_path: Path, protocol: int) -> None:
    pixels = files.noise(protocol, 5, 32, 32, 3)
    path = files.cifar(tmp_path / "cifar-10-batches-py", pixels, [0, 1, 1, 0, 7], protocol)
    found = _taken_apart(evalset(path), "test")
    assert all((pixels_of(i.data) == p).all() for i, p in zip(found, pixels, strict=True))
    assert [image.label for image in found] == ["cat", "dog", "dog", "cat", "7"]
    packed = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(packed, "w:gz") as out:
        out.add(path, "cifar-10-batches-py")
    assert _taken_apart(evalset(packed), "test") == found
    assert _taken_apart(evalset(tmp_path / "cifar-10-batches-py"), "test") == found


@pytest.mark.parametrize("coarse", [0, 1])
def test_cifars_binary_version_gives_the_same(tmp_path: Path, coarse: int) -> None:
    pixels = files.noise(1, 3, 3, 32, 32)
    data = b"".join(b"\x09" * coarse + bytes([n]) + p.tobytes() for n, p in enumerate(pixels))
    classes = ("fine_label_names.txt" if coarse else "batches.meta.txt", b"cat\ndog\nfrog\n")
    folder = "cifar-100-binary" if coarse else "cifar-10-batches-bin"
    batch = "test.bin" if coarse else "test_batch.bin"
    path = files.folder(tmp_path / folder, [(batch, data), classes])
    found = _taken_apart(evalset(path), "test")
    assert (pixels_of(found[2].data) == pixels[2].transpose(1, 2, 0)).all()
    assert [image.label for image in found] == ["cat", "dog", "frog"]


def test_stl10_is_turned_upright(tmp_path: Path) -> None:
    pixels = files.noise(2, 2, 96, 96, 3)
    data = b"".join(image.transpose(2, 1, 0).tobytes() for image in pixels)
    members = [("test_X.bin", data), ("test_y.bin", b"\x02\x01"), ("class_names.txt", b"a\nb\n")]
    found = _taken_apart(evalset(files.folder(tmp_path, members)), "test")
    assert [image.label for image in found] == ["b", "a"]
    assert all((pixels_of(i.data) == p).all() for i, p in zip(found, pixels, strict=True))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("sides", [(28, 20), (8, 6, 3)])
def test_idx_gives_the_pixels_that_went_in(
    tmp_path: Path, packed: bool, sides: tuple[int, ...]
) -> None:
    pixels = files.noise(3, 4, *sides)
    dimensions = pixels.ndim
    members = [
        (f"t10k-images-idx{dimensions}-ubyte", files.idx(pixels)),
        ("t10k-labels-idx1-ubyte", files.idx(np.arange(4, dtype=np.uint8))),
        (f"train-images.idx{dimensions}-ubyte", files.idx(pixels[:1])),
    ]
    if packed:
        members = [(name + ".gz", gzip.compress(data)) for name, data in members]
    path = files.folder(tmp_path, members)
    found = _taken_apart(evalset(path), "test")
    assert all((pixels_of(i.data) == p).all() for i, p in zip(found, pixels, strict=True))
    assert [image.label for image in found] == ["0", "1", "2", "3"]
    assert [image.label for image in evalsets.images(evalset(path), "train")] == [None]


def test_a_large_set_is_cut_and_no_part_holds_it_all(tmp_path: Path) -> None:
    members = [(f"test/cat/{n:04d}.png", files.png(n)) for n in range(700)]
    parts = evalsets.parts(evalset(files.tar(tmp_path / "set.tar", members)), "test")
    assert [len(part) for part in parts] == [256, 256, 188]
    images = [{"image": data} for _, data in members] * 8
    pq.write_table(pa.Table.from_pylist(images), tmp_path / "one_group.parquet")
    table = evalset(tmp_path / "one_group.parquet")
    assert max(len(part) for part in evalsets.parts(table)) < 2048
    assert len(_taken_apart(table, "test")) == 5600


def test_a_png_is_what_pillow_reads_back() -> None:
    for sides in ((1, 1, 1), (3, 200, 3), (300, 2, 1)):
        pixels = files.noise(4, *sides)
        assert (pixels_of(arrays.png(pixels)).reshape(sides) == pixels).all()


def test_hashes_of_pictures_that_one_may_not_hold(tmp_path: Path) -> None:
    pdq, sha, phash = "0f" * 32, "AB" * 32, "80" + "0" * 14
    lines = (
        f"name,phash,pdq,quality,sha256\na,{phash},{pdq},93,{sha}\na,,{pdq},,\n,,,,\n,,,,{sha}\n"
    )
    (tmp_path / "list.csv").write_text(lines)
    asked = evalset(tmp_path / "list.csv", purpose="blocklist")
    assert not asked.scored
    assert evalsets.format_of(asked) == "hashes"
    whole, second, third = evalsets.hashes(asked)
    digest = sha.lower()
    assert whole == evalsets.EvalHash("a", -(2**63), bytes.fromhex(pdq), 93, digest)
    assert second == evalsets.EvalHash("a (2)", None, bytes.fromhex(pdq), None, None)
    assert third == evalsets.EvalHash(digest, None, None, None, digest)
    assert list(evalsets.find(asked, ["a"])) == []
    with pytest.raises(BadInput, match="list of hashes and holds no images"):
        evalsets.parts(asked)
    columns = {"id": ["x"], "phash": [-(2**63)], "pdq": [bytes.fromhex(pdq)]}
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    (row,) = evalsets.hashes(evalset(tmp_path / "list.parquet"))
    assert row == evalsets.EvalHash("x", -(2**63), bytes.fromhex(pdq), None, None)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("pdq.txt", "0f" * 32 + "\n", None),
        ("list.txt", "0f" * 8 + "\n", None),
        ("list.txt", "0f" * 32 + "\n", "may be PDQ or SHA-256"),
        ("pdq.txt", "0f" * 32 + "\n" + "0f" * 31 + "0g\n", "line 2: `pdq` is not 64 hex"),
        ("list.csv", "pdq,quality\n" + "0f" * 32 + ",101\n", "line 2: `quality` is not"),
        ("list.csv", "pdq\n" + "0f" * 32 + ",1\n", "line 2: 2 cells where 1"),
        ("pdq.txt", "0f" * 32 + "\n" + "0" * 20_000, "behind line 1: a line of 10,000"),
    ],
)
def test_a_list_that_may_be_misread_stops_with_its_line(
    tmp_path: Path, name: str, text: str, told: str | None
) -> None:
    (tmp_path / name).write_text(text)
    asked = evalset(tmp_path / name)
    if told is None:
        assert len(list(evalsets.hashes(asked))) == 1
        return
    with pytest.raises(BadInput, match=told):
        list(evalsets.hashes(asked))


def test_a_class_name_is_what_a_prompt_says() -> None:
    assert evalsets.class_name("red_circle-small ") == "red circle small"


def test_an_image_that_breaks_is_still_one(tmp_path: Path) -> None:
    path = files.folder(tmp_path, [("test/cat/a.png", b""), ("test/cat/b.png", b"junk")])
    found = _taken_apart(evalset(path), "test")
    assert [image.data for image in found] == [b"", b"junk"]
    assert io.BytesIO(found[0].data).read() == b""
