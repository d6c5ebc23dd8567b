"""Hashes: pHash and PDQ beside the packages they are named after: CPU time, and whose bits agree.

python -m benchmarks.hash DATA, where DATA holds tars of images, coco_mini_239.tar among them, and
may hold pdq_reference_hashes.csv beside pdq_images.tar: PDQ hashes that others have published.
"""

import csv
import io
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import imagehash
import numpy as np
import pdqhash
import scipy.fftpack
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.form import Figure, alternate, publish
from pipeline import decoding, pdq, phash
from pipeline.kernels import Bytes

SIDE, PHOTOS, REPEATS, ROUNDS = 256, 60, 5, 9
"""REPEATS: times that a photo is hashed in a row. Pixels that have just been decoded are in the
cache, and those of sixty photos in turn are not."""
IMAGEHASH = f"imagehash {version('imagehash')}"
PDQHASH = f"pdqhash {version('pdqhash')}"
PUBLISHED_BITS = 16
"""Of 256: how far implementations of PDQ may be apart, as ThreatExchange's own tests have it."""


def images(tar: Path) -> Iterator[tuple[str, Bytes]]:
    """What can be decoded."""
    with tarfile.open(tar) as members:
        for member in members:
            file = members.extractfile(member) if member.isfile() else None
            image = None if file is None else decoding.decode(file.read())
            if image is not None:
                yield member.name, np.asarray(image)


def small_photos(data: Path) -> list[bytes]:
    """JPEGs whose shorter side is SIDE."""
    found = []
    for _, pixels in images(next(data.rglob("coco_mini_239.tar"))):
        image = Image.fromarray(pixels)
        scale = SIDE / min(image.size)
        size = round(image.width * scale), round(image.height * scale)
        file = io.BytesIO()
        image.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
        if len(found) == PHOTOS:
            break
    return found


def theirs(pixels: Bytes) -> int:
    return int(str(imagehash.phash(Image.fromarray(pixels))), 16)


def their_pdq(pixels: Bytes) -> tuple[bytes, int]:
    bits, quality = pdqhash.compute(pixels)
    return np.packbits(bits.astype(bool)).tobytes(), int(quality)


def speed(data: Path) -> list[Figure]:
    """Microseconds of an image, as rates so that more is better."""
    files = small_photos(data)
    pixels = [np.array(decoding.decoded(file)) for file in files]

    def each(work: Callable[..., object], things: list[object]) -> Callable[[], object]:
        return lambda: [work(thing) for thing in things for _ in range(REPEATS)]

    def from_file(file: bytes) -> object:
        return imagehash.phash(Image.open(io.BytesIO(file)))

    def peer(image: Bytes) -> object:
        return imagehash.phash(Image.fromarray(image))

    contests: dict[str, tuple[Callable[..., object], Callable[..., object], list[object], str]] = {
        "phash of pixels, fast": (phash.phash_fast, peer, [*pixels], IMAGEHASH),
        "phash of pixels, identical": (phash.phash, peer, [*pixels], IMAGEHASH),
        "phash of JPEGs, fast": (phash.phash_of_jpeg, from_file, [*files], IMAGEHASH),
        "PDQ of pixels": (pdq.compute, pdqhash.compute, [*pixels], PDQHASH),
    }
    goals = {"phash of JPEGs, fast": 3.4, "phash of pixels, identical": None}
    figures = []
    for name, (ours, other, things, told) in contests.items():
        for work in (ours, other):
            work(things[0])
        contest = {"ours": each(ours, things), "peer": each(other, things)}
        seconds = alternate(contest, rounds=ROUNDS)
        rate = {who: len(things) * REPEATS / spent for who, spent in seconds.items()}
        goal = goals.get(name, 8.0)
        figures.append(Figure(name, rate["ours"], "images/s", rate["peer"], told, goal=goal))
    return figures


def noise(pixels: Bytes) -> int:
    """A mask of the bits that in imagehash are the rounding of floats."""
    small = Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    terms = scipy.fftpack.dct(scipy.fftpack.dct(np.asarray(small), axis=0), axis=1)[:8, :8]
    near = np.abs(terms - np.median(terms)).ravel() <= phash.NOISE
    return int.from_bytes(np.packbits(near).tobytes())


def agreement(data: Path) -> None:
    """How many images of each tar have the packages' bits."""
    columns = (
        "images",
        "identical: differ",
        "of those noise",
        "fast: differ",
        "bits",
        "PDQ differs",
    )
    table = Table("tar", *columns, title="beside imagehash and pdqhash", title_justify="left")
    total: Counter[str] = Counter()
    for tar in sorted(data.rglob("*.tar")):
        count: Counter[str] = Counter()
        for _, pixels in images(tar):
            expected = theirs(pixels)
            apart = phash.phash(pixels) % 2**64 ^ expected
            fast = (phash.phash_fast(pixels) % 2**64 ^ expected).bit_count()
            count["images"] += 1
            count["identical: differ"] += apart > 0
            count["of those noise"] += apart > 0 and not apart & ~noise(pixels)
            count["fast: differ"] += fast > 0
            count["bits"] += fast
            count["PDQ differs"] += pdq.compute(pixels) != their_pdq(pixels)
        if count["images"]:
            table.add_row(tar.stem, *(str(count[column]) for column in columns))
            total += count
    table.add_row("all", *(str(total[column]) for column in columns))
    Console(highlight=False, width=140).print(table)
    images_, bits = total["images"], 64 * total["images"]
    print(f"fast: {1 - total['fast: differ'] / images_:.1%} of images have the very bits,")
    print(f"{total['bits'] / bits:.2%} of bits differ")


def published(data: Path) -> None:
    """How far ours are from the PDQ hashes that others have published."""
    for listed in data.rglob("pdq_reference_hashes.csv"):
        pixels = dict(images(next(listed.parent.glob("pdq_images.tar"))))
        found: dict[str, Counter[int]] = {}
        with listed.open(newline="") as lines:
            for row in csv.DictReader(lines):
                if row["file"] not in pixels:
                    continue
                ours = int.from_bytes(pdq.compute(pixels[row["file"]])[0])
                for who, told in row.items():
                    if who.startswith("pdq_") and told:
                        found.setdefault(who, Counter())[(ours ^ int(told, 16)).bit_count()] += 1
        for who, distances in found.items():
            within = sum(n for bits, n in distances.items() if bits <= PUBLISHED_BITS)
            told = ", ".join(f"{bits}: {n}" for bits, n in sorted(distances.items()))
            print(f"{who}: {within} of {distances.total()} within {PUBLISHED_BITS} bits ({told})")


def main(data: Path) -> None:
    publish("hash", speed(data))
    agreement(data)
    published(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
