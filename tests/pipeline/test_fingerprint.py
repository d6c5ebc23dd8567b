"""pipeline.fingerprint"""

import io

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline import fingerprint
from pipeline.decoding import decode
from pipeline.fingerprint import corpus, evaluation, of_image, pdq, phash, variants
from pipeline.settings import EvalSet, FingerprintSettings
from pipeline.similarity import look


def _picture(seed: int, side: int = 96) -> Image.Image:
    """Noise of several scales: PDQ reads detail down to a sixteenth of the side."""
    chance = np.random.default_rng(seed)
    picture = Image.new("RGB", (side, side + 20), "gray")
    for cells in (5, 12, 30):
        grid = Image.fromarray(chance.integers(0, 255, (cells, cells, 3), dtype=np.uint8))
        picture = Image.blend(picture, grid.resize(picture.size, Image.Resampling.BICUBIC), 0.5)
    return picture


def _encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_the_phash_is_that_of_imagehash() -> None:
    for seed in range(5):
        image = _picture(seed)
        told = f"{of_image(image).phash % 2**64:016x}"
        assert told == str(imagehash.phash(image))


def test_a_reencoded_picture_stays_near_and_another_is_far() -> None:
    one = of_image(_picture(1, 256))
    again = decode(_encoded(_picture(1, 256), quality=40))
    assert again is not None
    two, other = of_image(again), of_image(_picture(2, 256))
    assert _bits(one.pdq, two.pdq) <= 31 < 64 < _bits(one.pdq, other.pdq)
    assert one.pixels_sha256 != two.pixels_sha256


def _bits(first: bytes, second: bytes) -> int:
    return (int.from_bytes(first) ^ int.from_bytes(second)).bit_count()


def test_a_flat_picture_has_no_quality() -> None:
    assert of_image(Image.new("RGB", (128, 128), "teal")).quality < 50


def test_a_sideways_photo_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode(_encoded(_picture(3), exif=exif))
    assert image is not None
    assert image.width > image.height


def test_transparent_pixels_are_white() -> None:
    image = decode(_encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG"))
    assert image is not None
    assert image.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_half_a_file_of_any_format_is_no_image_and_no_crash(kind: str) -> None:
    data = _encoded(_picture(4), kind)
    decode(data[: len(data) // 2])
    assert decode(data) is not None
    assert decode(b"") is None


@given(st.binary(max_size=200))
def test_no_bytes_stop_the_decoder(data: bytes) -> None:
    assert decode(data) is None or len(data) > 0


def test_what_was_hashed_at_download_is_not_read_again(spark, tmp_path) -> None:
    images = [_picture(seed, 128) for seed in (1, 2)]
    stored = [_encoded(image) for image in images]
    (tmp_path / "00007.tar").write_bytes(b"".join(stored))
    facts = {"status": "success", "raw_shard": 7, "sha256": "ab"}
    at_download = of_image(images[0])._asdict()
    rows = [
        # Its bytes are nowhere.
        {"pair_id": "hashed", **facts, "offset": 10**9, "bytes": 9, **at_download},
        {"pair_id": "unhashed", **facts, "offset": len(stored[0]), "bytes": len(stored[1])},
        {"pair_id": "broken", **facts, "offset": 1, "bytes": 50},
        {"pair_id": "lost", "status": "failed_to_download", "raw_shard": 7},
    ]
    names = [
        "pair_id",
        "status",
        "width",
        "height",
        "raw_shard",
        "sha256",
        "offset",
        "bytes",
        *at_download,
    ]
    ddl = (
        "pair_id string, status string, width int, height int, raw_shard int, sha256 string, "
        "offset long, bytes long, phash long, pdq binary, quality int, pixels_sha256 string"
    )
    table = spark.createDataFrame([[row.get(name) for name in names] for row in rows], ddl)
    found = {row["id"]: row.asDict() for row in corpus(table, str(tmp_path)).collect()}
    assert set(found) == {"hashed", "unhashed", "broken"}
    again = decode(stored[1])
    assert again is not None
    for name, hashes in (("hashed", at_download), ("unhashed", of_image(again)._asdict())):
        assert {column: found[name][column] for column in hashes} == hashes
        assert (found[name]["source"], found[name]["variant"]) == ("corpus", "original")
        assert (found[name]["sha256"], found[name]["dropped_for"]) == ("ab", None)
    assert (found["broken"]["phash"], found["broken"]["dropped_for"]) == (None, "undecodable")


def test_one_picture_is_hashed_without_spark() -> None:
    image = _picture(6, 600)
    found, pixels = of_image(image), np.asarray(image)
    assert (phash(pixels), *pdq(pixels)) == (found.phash, found.pdq, found.quality)
    assert fingerprint.phash_batch([pixels, pixels[:9]])[0] == found.phash
    assert fingerprint.of_imagehash(fingerprint.as_imagehash(found.phash)) == found.phash
    made = dict(variants(image, ["crop90", "flip"]))
    assert list(made) == ["crop90", "flip"]
    assert made["flip"].size == (256, round(620 * 256 / 600))


def test_an_evaluation_image_has_its_variants_and_one_look(spark, tmp_path) -> None:
    image = _picture(7, 40)
    (tmp_path / "test" / "noise").mkdir(parents=True)
    (tmp_path / "test" / "noise" / "a.png").write_bytes(_encoded(image, "PNG"))
    (tmp_path / "test" / "noise" / "b.png").write_bytes(b"no image")
    settings = FingerprintSettings(variants=["flip", "pad"])
    table = evaluation(spark, [EvalSet(name="noise", path=str(tmp_path))], settings, tasks=2)
    found = {(row["id"][-5:], row["variant"]): row for row in table.collect()}
    assert set(found) == {("a.png", v) for v in ("original", "flip", "pad")} | {
        ("b.png", "original")
    }
    assert found["a.png", "original"]["look"] == look(image)
    assert found["a.png", "flip"]["look"] is None
    assert [found["a.png", v]["side"] for v in ("original", "pad")] == [40, 60]
    assert found["b.png", "original"]["dropped_for"] == "undecodable"
