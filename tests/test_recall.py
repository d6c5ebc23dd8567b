"""benchmarks.recall"""

import io
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.planted_copies import COPIES, Copy, planted
from benchmarks.recall import Photo, bound, photos, recall, seen
from pipeline import tars
from pipeline.decoding import decode
from tests.pipeline.pictures import noise


def _encoded(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("name", COPIES)
def test_a_photo_is_changed_the_same_way_every_time(name: str) -> None:
    image = noise(1, (160, 120))
    data = planted(image, COPIES[name], 5)
    assert data == planted(image, COPIES[name], 5)
    assert decode(data) is not None


def test_copies_are_found_and_pairs_of_different_photos_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few: dict[str, Copy] = {name: COPIES[name] for name in ("JPEG q30", "flip", "centre crop 5%")}
    monkeypatch.setattr("benchmarks.recall.COPIES", few)
    files = [(f"{seed}.png", _encoded(noise(seed, (320, 240))), False) for seed in range(3)]
    known = [photo for file in files if (photo := seen(file)) is not None]
    assert seen(("broken.png", b"no image", False)) is None
    rows, false, counted = recall(known)
    assert [row["verdict"] for row in rows] == [100, 100, 100]
    assert [row["verdict, no variants"] for row in rows][1] == 0
    assert not [one for one in false if one.told == "overlap"]
    assert counted["comparisons"] == 3 * 3 * 2 * len(known[0].hashes)

    # Another name for the first photo: its copies are now taken for another photo's.
    twin: Photo = known[0]._replace(name="twin.png")
    _, false, counted = recall([*known, twin])
    assert {one.names for one in false if one.told == "overlap"} == {
        ("0.png", "twin.png"),
        ("twin.png", "0.png"),
    }
    assert counted["overlap"] > 0


def test_a_chance_that_was_never_seen_has_a_bound() -> None:
    assert bound(0, 10**6) == pytest.approx(3e-6, rel=0.01)
    assert bound(5, 10**6) > 5e-6


def test_photos_are_read_from_tars(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("clothing", "other"):
        with (tmp_path / "photos" / f"{name}.tar").open("wb") as tar:
            tars.append(tar, f"{name}.jpg", b"bytes")
            tars.append(tar, "notes.txt", b"text")
            tars.close(tar)
    assert list(photos(tmp_path)) == [
        ("clothing.jpg", b"bytes", True),
        ("other.jpg", b"bytes", False),
    ]
