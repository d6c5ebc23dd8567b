"""The world of real photographs: on loopback alone, and as dead as the real one was."""

import io
import json
import tarfile
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.load import load
from jobs.world import World, draw, make_real, serve
from jobs.world.folder import FAILS
from jobs.world.photos import members
from pipeline.errors import BadInput
from tests.loopback_get import free_port, get


def _tar(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name in names:
            data = draw.jpeg(draw.render(draw.Drawing(name, "red", "star", "plain")), 90)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("val2017/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of data in little; its COCO tar is hostile."""
    data = tmp_path / "data"
    _tar(data / "photos" / "coco_mini_239.tar", ["val2017/1.jpg", "../evil.jpg", "/evil.jpg"])
    (data / "photos" / "coco_mini_239.jsonl").write_text(
        "".join(
            json.dumps({"file": name, "captions": ["a red star", "one star in red"]}) + "\n"
            for name in ("val2017/1.jpg", "../evil.jpg", "/evil.jpg", "val2017/link.jpg")
        )
    )
    clothes = [f"{split}/t-shirt/{n}.jpg" for split in ("train", "test") for n in range(4)]
    _tar(data / "photos" / "clothing_cc0.tar", clothes)
    _tar(data / "photos" / "imagenet_sample_500.tar", [f"n{n}_tench.JPEG" for n in range(4)])
    (data / "photos" / "imagenet_sample_500.csv").write_text(
        "file,wnid,name\n" + "".join(f"n{n}_tench.JPEG,n{n},tench\n" for n in range(4))
    )
    _tar(data / "emoji" / "noto_emoji_64px.tar", ["1f600.png"])
    (data / "emoji" / "noto_emoji.jsonl").write_text(
        json.dumps({"image": "1f600.png", "name": "GRINNING FACE", "skin": None}) + "\n"
    )
    (data / "captions").mkdir()
    columns = {
        "id": ["a", "b", "c"],
        "url": ["http://somewhere.example/a.jpg", "http://somewhere.example/b.jpg", None],
        "text": ["a page that is forbidden", "a page that was there", "a page of no address"],
        "http_status": pa.array([403, 200, None], pa.int32()),
        "content_type": [None, "image/jpeg", None],
    }
    pq.write_table(pa.table(columns), data / "captions" / "some.parquet")
    (data / "wiki").mkdir()
    for name in (
        "enwiki-20220720-sample-pages-articles.xml.bz2",
        "enwiki-20160501-shortened-pages-articles.xml.bz2",
        "pageviews-format-202306-enwiki-top10k.gz",
    ):
        (data / "wiki" / name).write_bytes(b"")
    (data / "wordnet").mkdir()
    (data / "wordnet" / "data.noun").write_bytes(b"")
    return data


def _real(tmp_path: Path, data: Path) -> World:
    return make_real(tmp_path / "real", data, free_port(), wordnet=data / "wordnet")


def test_a_real_world_keeps_every_address_on_loopback(tmp_path: Path, data: Path) -> None:
    world = _real(tmp_path, data)
    assert {kind: len(planted["urls"]) for kind, planted in world.truth["kinds"].items()} == {
        "coco": 2,
        "clothing": 4,
        "emoji": 1,
        "leak_identical": 2,
        "rot_403": 1,
        "rot_200": 1,
        "rot_404": 1,
    }
    for kind in world.truth["kinds"].values():
        assert all(urlsplit(url).netloc == f"127.0.0.1:{world.port}" for url in kind["urls"])
    assert load(world.settings, []).evalsets[1].scored is False


def test_a_real_world_answers_as_the_real_one_did(tmp_path: Path, data: Path) -> None:
    world = _real(tmp_path, data)
    with serve(world.folder, world.port):
        for kind, planted in world.truth["kinds"].items():
            for url in planted["urls"]:
                expected = int(kind[-3:]) if planted["expect"] == FAILS else 200
                assert get(url)[0] == expected, url


def test_a_hostile_tar_leads_nowhere(tmp_path: Path, data: Path) -> None:
    found = [name for name, _ in members(data / "photos" / "coco_mini_239.tar")]
    assert found == ["val2017/1.jpg"]
    world = _real(tmp_path, data)
    outside = [file for file in tmp_path.rglob("*evil*") if file.is_file()]
    assert not outside
    assert not [file for file in world.folder.rglob("*") if file.is_symlink()]


@pytest.mark.parametrize(
    "name", ["photos/coco_mini_239.tar", "emoji/noto_emoji.jsonl", "wiki", "wordnet", "captions"]
)
def test_what_the_data_lacks_is_named(tmp_path: Path, data: Path, name: str) -> None:
    (data / name).rename(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match=name):
        _real(tmp_path, data)
