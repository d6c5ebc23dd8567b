"""jobs.audit_corpus: a WebDataset that somebody else made, and what was planted in it."""

import csv
import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw, ImageOps
from pyspark.sql import SparkSession

from jobs.audit_corpus import main
from jobs.audit_sources import corpus, expanded
from pipeline import tars
from pipeline.decisions import FORMAT
from pipeline.errors import BadInput


def _drawn(seed: int) -> Image.Image:
    """A picture with edges and shades, unlike that of any other seed."""
    chance = np.random.default_rng(seed)
    coarse = chance.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((240, 180), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(9):
        x, y = chance.integers(0, 200), chance.integers(0, 140)
        box = [x, y, x + chance.integers(15, 70), y + chance.integers(15, 60)]
        colour = tuple(chance.integers(0, 255, 3).tolist())
        (draw.ellipse if chance.random() < 0.5 else draw.rectangle)([int(v) for v in box], colour)
    return image


def _encoded(image: Image.Image, form: str = "JPEG", **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


_CAPTION = "Two red dogs run across a field of snow."


def _evaluation(folder: Path, partitions: int, *, more: str = "") -> Path:
    images = folder / "evalset" / "test" / "thing"
    if not images.exists():
        images.mkdir(parents=True)
        for number in range(8):
            (images / f"{number}.png").write_bytes(_encoded(_drawn(1000 + number), "PNG"))
        (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
        with (folder / "captions.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(
                [["id", "caption"], ["c0", _CAPTION], ["c1", "a dog"], ["c2", "nobody says so"]]
            )
    file = folder / f"evals-{partitions}.toml"
    file.write_text(
        f'[[evalsets]]\nname = "drawn"\npath = "{folder / "evalset"}"\n'
        f'captions = "{folder / "captions.csv"}"\n[spark]\npartitions = {partitions}\n{more}'
    )
    return file


def _tar(path: Path, files: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as tar:
        for name, data in files:
            tars.append(tar, name, data)
        tars.close(tar)


def _plain(first: int, count: int) -> list[tuple[str, bytes]]:
    found = []
    for number in range(first, first + count):
        found.append((f"{number:04d}.jpg", _encoded(_drawn(number))))
        found.append((f"{number:04d}.txt", f"a drawing, number {number}".encode()))
    return found


def _corpus(folder: Path) -> Path:
    """Three tars of 40 images, three of them copies, with all that a stranger's tar may hold."""
    copied = (folder / "evalset" / "test" / "thing" / "0.png").read_bytes()
    planted = [
        ("same.png", copied),
        ("same.txt", b"two red dogs run,\nacross a field of SNOW"),
        ("encoded.jpg", _encoded(_drawn(1001).resize((160, 120)), quality=60)),
        ("encoded.json", json.dumps({"caption": "A dog!"}).encode()),
    ]
    _tar(folder / "corpus" / "a" / "0.tar", [*_plain(0, 15), *planted])
    flipped = [("flipped.jpg", _encoded(ImageOps.mirror(_drawn(1002)))), ("flipped.txt", b"a dog")]
    odd = [
        ("../../etc/passwd.jpg", _encoded(_drawn(50))),
        ("0015.jpg", _encoded(_drawn(51))),
        ("alone.txt", b"a text without an image"),
        ("page.jpg", b"<html>404</html>"),
    ]
    _tar(folder / "corpus" / "b" / "0.tar", [*_plain(15, 10), *flipped, *odd])
    last = folder / "last.tar"
    _tar(last, _plain(25, 10))
    with tarfile.open(last, "a") as tar:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        half = tarfile.TarInfo("half.jpg")
        half.size = 5000
        tar.addfile(half, io.BytesIO(bytes(5000)))
    raw = last.read_bytes()
    (folder / "corpus" / "c.tar.gz").write_bytes(gzip.compress(raw[: raw.rfind(b"half.jpg") + 999]))
    return folder / "corpus"


def _overlaps(out: Path) -> dict[str, tuple[str, str]]:
    rows = pq.read_table(out / "overlaps.parquet").to_pylist()
    sure = [row for row in rows if row["verdict"] == "overlap"]
    return {row["pair_id"]: (row["eval_id"], row["variant"]) for row in sure}


def _contents(out: Path) -> dict[str, bytes]:
    files = [file for file in out.rglob("*") if file.is_file()]
    shown = [file for file in files if "_work" not in file.parts and file.name != ".lock"]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in shown}


def test_the_planted_copies_and_captions_are_found_whatever_else_the_tars_hold(
    spark: SparkSession, tmp_path: Path
) -> None:
    evals = _evaluation(tmp_path, 3)
    shards = str(_corpus(tmp_path))
    out = tmp_path / "out"
    main([shards], evals, out, None, [])
    told = json.loads((out / "summary.json").read_text())

    name = "test/thing/{}.png".format
    assert _overlaps(out) == {
        "a/0.tar/same": (name(0), "original"),
        "a/0.tar/encoded": (name(1), "original"),
        "b/0.tar/flipped": (name(2), "flip"),
    }
    (line,) = told["sets"]
    assert (line["images"], line["overlapping"], line["leaked_pairs"]) == (8, 3, 3)
    scanned = told["corpus"]["scan"]
    assert (scanned["shards"], scanned["images"]) == (3, 40)
    assert scanned["undecodable"] == {"undecodable": 1}
    assert scanned["refused"] == {"link": 1}
    assert scanned["unread_of_sets"] == {"drawn": 1}
    assert scanned["oddities"] == {
        "a key twice": 1,
        "a name that leads outside": 1,
        "a sample without an image": 1,
        "an image without a text": 3,
    }
    ((shard, _, what),) = scanned["damages"]
    assert (shard, what) == ("c.tar.gz", "the archive ends in the middle of half.jpg")
    assert "the archive ends in the middle of half.jpg" in (out / "report.html").read_text()

    (captions,) = told["captions"]
    assert (captions["captions"], captions["found"], captions["pairs"]) == (3, 2, 3)
    assert captions["long"]["found"] == 1
    pairs = pq.read_table(out / "caption_pairs.parquet").to_pylist()
    assert [(row["pair_id"], row["eval_id"]) for row in pairs] == [
        ("a/0.tar/encoded", "c1"),
        ("a/0.tar/same", "c0"),
        ("b/0.tar/flipped", "c1"),
    ]

    other = tmp_path / "other"
    main([shards], _evaluation(tmp_path, 7), other, None, [])
    assert _contents(other) == _contents(out)

    # Interrupted: what is done stays, what is missing is made.
    scans = sorted((out / "_work" / "scanned").glob("*.parquet"))
    before = [file.stat().st_mtime_ns for file in scans]
    whole = _contents(out)
    scans[1].unlink()
    (out / "report.html").unlink()
    rejected = {"pair_id": "b/0.tar/flipped", "source": "drawn", "eval_id": name(2)}
    decided = {
        "format": FORMAT,
        "audit": "0" * 64,
        "sets": {},
        "pairs": [{**rejected, "verdict": "reject"}],
    }
    decisions = tmp_path / "decisions.json"
    decisions.write_text(json.dumps(decided))
    main([shards], evals, out, decisions, [])
    after = [file.stat().st_mtime_ns for file in scans]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]
    assert set(_overlaps(out)) == {"a/0.tar/same", "a/0.tar/encoded"}
    main([shards], evals, out, None, [])
    assert _contents(out) == whole


def test_files_are_named_by_folders_patterns_and_lists(tmp_path: Path) -> None:
    for name in ("a/00.tar", "a/01.tar", "a/00.parquet", "b/00.tar.gz", "b/_x/9.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"")

    def names(*named: str) -> list[str]:
        found = corpus([str(tmp_path / name) for name in named], tmp_path / "scans")
        return [shard.name for shard in found.shards] or [path.name for path in found.tables]

    assert names("a") == ["00.tar", "01.tar"]
    assert names(".") == names("a", "b") == ["a/00.tar", "a/01.tar", "b/00.tar.gz"]
    assert names("a/{00..01}.tar", "a/*.tar") == ["00.tar", "01.tar"]
    assert names("a/00.parquet") == ["00.parquet"]
    with pytest.raises(BadInput, match=r"02\.tar and 1 more not found"):
        names("a/{00..03}.tar")
    with pytest.raises(BadInput, match="beside tables"):
        names("a/00.tar", "a/00.parquet")
    with pytest.raises(BadInput, match="no file fits"):
        names("c/*.tar")
    with pytest.raises(BadInput, match="stands for"):
        names("{000000000..999999999}.tar")


def test_braces_stand_for_what_a_shell_makes_of_them() -> None:
    assert expanded("{08..11}.tar") == ["08.tar", "09.tar", "10.tar", "11.tar"]
    assert expanded("{a,b}/{1..2}") == ["a/1", "a/2", "b/1", "b/2"]
    assert expanded("plain") == ["plain"]


def test_what_cannot_be_audited_is_told_before_anything_is_read(tmp_path: Path) -> None:
    evals, tar = _evaluation(tmp_path, 3), tmp_path / "0.tar"
    _tar(tar, [])
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    with pytest.raises(BadInput, match="no decisions file"):
        main([str(tar)], evals, tmp_path / "out", bad, [])
    with pytest.raises(BadInput, match=r"missing\.csv does not exist"):
        main([str(tar)], evals, tmp_path / "out", None, [tmp_path / "missing.csv"])
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(BadInput, match=r"no \[\[evalsets"):
        main([str(tar)], tmp_path / "empty.toml", tmp_path / "out", None, [])
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.toml").touch()
    with pytest.raises(BadInput, match="is a run directory"):
        main([str(tar)], evals, tmp_path / "out", None, [])
