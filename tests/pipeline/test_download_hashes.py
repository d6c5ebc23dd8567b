"""Fingerprints made at download: those that would be made later."""

import io

import pyarrow.parquet as pq
import pytest
from download_photos import photo
from download_site import picture

from pipeline import decoding, hashes
from pipeline.download.pixels import Picture, PixelResizer
from pipeline.download.tars import OrderedSampleWriter
from pipeline.schemas import DRAWN, IMAGES
from pipeline.settings import DownloadSettings


def stored(raw: bytes, **changes: object) -> Picture:
    found = PixelResizer(DownloadSettings(**changes))(io.BytesIO(raw))[0]  # type: ignore[arg-type]
    assert isinstance(found, Picture)
    return found


def test_a_small_picture_without_loss_has_the_pixels_of_the_evaluation_image() -> None:
    raw = picture("PNG", size=(200, 150))
    as_evaluated = decoding.decode(raw)
    assert as_evaluated is not None
    assert stored(raw).fingerprint == hashes.of_image(as_evaluated)


@pytest.mark.parametrize("size", [(640, 480), (200, 150), (1500, 1100)])
def test_what_is_hashed_at_download_is_near_what_is_hashed_later(size: tuple[int, int]) -> None:
    at_download = stored(photo(size))
    later = decoding.decode(at_download)
    assert later is not None
    now, then = at_download.fingerprint, hashes.of_image(later)
    assert now is not None
    assert (now.phash ^ then.phash).bit_count() <= 4
    assert (int.from_bytes(now.pdq) ^ int.from_bytes(then.pdq)).bit_count() <= 16
    assert abs(now.quality - then.quality) <= 5


def test_without_fingerprints_a_picture_has_none() -> None:
    assert stored(picture(), fingerprints=False).fingerprint is None
    assert stored(picture(), fingerprints=False) == stored(picture())


def test_the_writer_files_fingerprints_with_their_images(tmp_path) -> None:
    hashed, unhashed = stored(picture()), stored(picture(seed=1), fingerprints=False)
    writer = OrderedSampleWriter(0, str(tmp_path), True, 5, DRAWN, "jpg")
    for position, image in enumerate((hashed, unhashed, None)):
        name = f"{position:032x}"
        meta = {"pair_id": name, "caption": "a wave", "url": "http://h/", "position": position}
        meta |= {"round": 0, "raw_shard": 0, "status": "success", "error_message": None}
        if image is None:
            meta |= {"status": "failed_to_download", "error_message": "not found"}
        writer.write(image, str(position), "a wave", meta)
    writer.close()
    table = pq.ParquetFile(tmp_path / "00000.parquet").read()
    assert table.schema.equals(IMAGES)
    rows = table.select(list(hashes.Fingerprint._fields)).to_pylist()
    assert hashed.fingerprint is not None
    nothing = dict.fromkeys(hashes.Fingerprint._fields)
    assert rows == [hashed.fingerprint._asdict(), nothing, nothing]
