"""Pixels: a downloaded photo to a small JPEG, beside img2dataset's resizer: CPU time and likeness.

python -m benchmarks.pixels DATA, where DATA/photos holds coco_mini_239.tar.
"""

import io
import math
import os
import sys
import tarfile
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from benchmarks.form import Figure, alternate, publish
from pipeline import decoding, hashes
from pipeline.download import jpeg
from pipeline.download.pixels import PixelResizer, smaller
from pipeline.kernels import Bytes
from pipeline.settings import DownloadSettings
from pipeline.shrink import shrink

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or its import asks the package index
import albumentations
import cv2
from img2dataset.resizer import Resizer

SIDE, QUALITY = 256, 90
SIZES = {(640, 480): 40, (1600, 1200): 16, (3000, 2000): 8}
"""Width and height, and how many photos."""
SAVED = {"quality": 85, "subsampling": "4:2:0"}
REFERENCES = {
    "LANCZOS": Image.Resampling.LANCZOS,
    "BICUBIC": Image.Resampling.BICUBIC,
    "BOX": Image.Resampling.BOX,
}
OURS = DownloadSettings(image_side=SIDE, jpeg_quality=QUALITY, fingerprints=False)
HASHING = OURS.model_copy(update={"fingerprints": True})
STOCK = f"img2dataset {version('img2dataset')}"


def photos(data: Path) -> list[bytes]:
    """Landscapes of 640x480, as they were uploaded."""
    with tarfile.open(data / "photos" / "coco_mini_239.tar") as tar:
        members = sorted((m for m in tar if m.name.endswith(".jpg")), key=lambda m: m.name)
        files = [tar.extractfile(member).read() for member in members]  # type: ignore[union-attr]
    return [raw for raw in files if Image.open(io.BytesIO(raw)).size == (640, 480)]


def saved(raw: bytes, size: tuple[int, int]) -> bytes:
    """The photo at another size, as a web site would store it."""
    image = Image.open(io.BytesIO(raw)).convert("RGB")
    file = io.BytesIO()
    ImageOps.fit(image, size, Image.Resampling.BICUBIC).save(file, "JPEG", **SAVED)
    return file.getvalue()


def stock_resizer() -> Resizer:
    return Resizer(
        image_size=SIDE,
        resize_mode="keep_ratio",
        resize_only_if_bigger=True,
        downscale_interpolation="area",
        encode_quality=QUALITY,
    )


def stock_decoded(raw: bytes) -> Bytes:
    decoded: Bytes = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    return decoded


def stock_shrunk(pixels: Bytes) -> Bytes:
    smallest = albumentations.SmallestMaxSize(SIDE, interpolation=cv2.INTER_AREA, p=1.0)
    shrunk: Bytes = smallest(image=pixels)["image"]
    return shrunk


def stock_encoded(pixels: Bytes) -> bytes:
    encoded: bytes = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    return encoded


def our_decoded(raw: bytes) -> tuple[Bytes, int]:
    rows, columns, *_ = simplejpeg.decode_jpeg_header(raw)
    return jpeg.decode(raw, (rows, columns), smaller((rows, columns), SIDE))


def our_shrunk(decoded: tuple[Bytes, int], size: tuple[int, int]) -> Bytes:
    pixels, eighths = decoded
    extent = size[0] * eighths / 8, size[1] * eighths / 8
    return shrink(pixels, extent, smaller(size, SIDE))


def each(work: Callable[..., object], things: Iterable[object]) -> Callable[[], object]:
    listed = list(things)
    return lambda: [work(thing) for thing in listed]


def beside(name: str, ours: Callable[[], object], peer: Callable[[], object], count: int) -> Figure:
    seconds = alternate({"ours": ours, "peer": peer}, rounds=7)
    told = {who: spent / count * 1e3 for who, spent in seconds.items()}
    goal = 0.5 if name.endswith("in all") else 1.0
    return Figure(name, told["ours"], "ms", told["peer"], STOCK, goal=goal, at_most=True)


def speed(name: str, files: list[bytes]) -> list[Figure]:
    """CPU milliseconds of a photo, in all and by step."""
    theirs, ours, hashing = stock_resizer(), PixelResizer(OURS), PixelResizer(HASHING)
    with Image.open(io.BytesIO(files[0])) as image:
        size = image.height, image.width
    our_pixels = [our_decoded(raw) for raw in files]
    our_small = [our_shrunk(decoded, size) for decoded in our_pixels]
    stock_pixels = [stock_decoded(raw) for raw in files]
    stock_small = [stock_shrunk(pixels) for pixels in stock_pixels]
    subsampling = simplejpeg.decode_jpeg_header(files[0])[3]

    def hashed_later(raw: bytes) -> None:
        stored = theirs(io.BytesIO(raw))[0]
        image = decoding.decode(stored)
        assert image is not None
        hashes.of_image(image)

    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "in all": (
            each(lambda raw: ours(io.BytesIO(raw)), files),
            each(lambda raw: theirs(io.BytesIO(raw)), files),
        ),
        "decode": (each(our_decoded, files), each(stock_decoded, files)),
        "shrink": (
            each(lambda decoded: our_shrunk(decoded, size), our_pixels),
            each(stock_shrunk, stock_pixels),
        ),
        "encode": (
            each(lambda small: jpeg.encode(small, QUALITY), our_small),
            each(stock_encoded, stock_small),
        ),
        "in all, and hashed (theirs: decoded again)": (
            each(lambda raw: hashing(io.BytesIO(raw)), files),
            each(hashed_later, files),
        ),
    }
    kilobytes = np.mean([len(raw) for raw in files]) / 1e3
    told_as = f"{name} ({kilobytes:.0f} kB, {subsampling})"
    return [beside(f"{told_as}: {step}", *pair, len(files)) for step, pair in pairs.items()]


def likeness(name: str, files: list[bytes]) -> list[Figure]:
    """PSNR against Pillow's filters on the full decode, before and after encoding."""
    found: dict[str, list[tuple[float, float]]] = {}
    for raw in files:
        full = simplejpeg.decode_jpeg(raw)
        ours = our_shrunk(our_decoded(raw), full.shape[:2])
        peer = stock_shrunk(full)
        stored = [simplejpeg.decode_jpeg(jpeg.encode(small, QUALITY)) for small in (ours, peer)]
        for filter_name, resampling in REFERENCES.items():
            size = ours.shape[1], ours.shape[0]
            reference = np.asarray(Image.fromarray(full).resize(size, resampling))
            for when, (one, other) in (("pixels", (ours, peer)), ("stored", stored)):
                likened = psnr(one, reference), psnr(other, reference)
                found.setdefault(f"{name}: {when} against {filter_name}", []).append(likened)
    figures = []
    for told_as, pairs in found.items():
        one, other = np.mean(pairs, axis=0)
        goal = None if "BOX" in told_as else 1.0
        figures.append(Figure(told_as, float(one), "dB", float(other), STOCK, goal=goal))
    return figures


def psnr(one: Bytes, other: Bytes) -> float:
    """At most 80: equal pixels have none."""
    error = float(np.mean((one.astype(float) - other) ** 2))
    return 10 * math.log10(255**2 / max(error, 255**2 / 1e8))


def main(data: Path) -> None:
    cv2.setNumThreads(1)
    uploaded = photos(data)
    originals = uploaded[: SIZES[640, 480]]
    figures = speed("640x480, as uploaded", originals) + likeness("640x480, as uploaded", originals)
    for size, count in SIZES.items():
        files = [saved(raw, size) for raw in uploaded[:count]]
        name = f"{size[0]}x{size[1]}"
        figures += speed(name, files) + likeness(name, files)
    publish("pixels", figures)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
