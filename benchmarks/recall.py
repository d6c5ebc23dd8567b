"""Recall: copies of real photos are planted, and looked for as the audit looks for them.

python -m benchmarks.recall DATA, where DATA/photos holds tars of photos. Every photo is an
evaluation image, with its variants, and is in the corpus once for every change of
`planted_copies`, downloaded and hashed as the corpus is. Of `clothing*` tars, poses alike on plain
backgrounds, one copy is planted: they are the trap for false positives, which are all pairs of
different photos that are taken for one.
"""

import io
import json
import sys
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import beta

from benchmarks.form import RESULTS, Figure, publish
from benchmarks.planted_copies import COPIES, planted
from pipeline.cascade import VERDICTS, verdicts
from pipeline.download.pixels import PixelResizer
from pipeline.fingerprint import decode, of_image, variants
from pipeline.hamming import HammingIndex
from pipeline.hashes import Fingerprint
from pipeline.second_look import needs_look, of_looks, verdict
from pipeline.settings import DedupSettings, DownloadSettings, FingerprintSettings
from pipeline.similarity import look

SETTINGS = DedupSettings()
VARIANTS = ("original", *FingerprintSettings().variants)
TRAP = "clothing"
RADII = (0, 2, 4, 8)
_SUFFIXES = (".jpg", ".jpeg", ".png")


class Photo(NamedTuple):
    """One photo as an evaluation image, and as it arrives in the corpus after each change."""

    name: str
    hashes: list[Fingerprint]
    """By variant."""
    look: bytes
    copies: dict[str, tuple[Fingerprint, bytes]]
    """The fingerprint and the look of each."""


@dataclass(frozen=True)
class Found:
    """One copy beside one evaluation image, by its nearest variant."""

    copy: str
    is_true: bool
    names: tuple[str, str]
    by_hashes: str
    told: str
    similarity: float | None


def photos(data: Path) -> Iterator[tuple[str, bytes, bool]]:
    """Name, bytes and whether it belongs to the trap."""
    for path in sorted((data / "photos").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                stream = tar.extractfile(member)
                if stream is not None and member.name.lower().endswith(_SUFFIXES):
                    yield member.name, stream.read(), path.name.startswith(TRAP)


def seen(named: tuple[str, bytes, bool]) -> Photo | None:
    """None where the photo cannot be decoded."""
    name, data, is_trap = named
    image = decode(data)
    if image is None:
        return None
    hashes = [of_image(image)]
    hashes += [of_image(varied) for _, varied in variants(image, VARIANTS[1:])]
    resizer, copies = PixelResizer(DownloadSettings()), {}
    for told_as, copy in COPIES.items():
        if is_trap and told_as != "JPEG q30":
            continue
        stored = resizer(io.BytesIO(planted(image, copy, zlib.crc32(name.encode()))))[0]
        again = decode(bytes(stored)) if stored is not None else None
        if again is not None:
            copies[told_as] = stored.fingerprint, look(again)
    return Photo(name, hashes, look(image), copies)


def bits(hashes: list[Fingerprint]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    phash = np.array([found.phash for found in hashes], np.int64).view(np.uint64)
    pdq = np.frombuffer(b"".join(found.pdq for found in hashes), np.uint8).reshape(-1, 32)
    return phash, pdq


def cascade(
    known: list[Photo], names: tuple[str, ...], counted: Counter[str]
) -> dict[tuple[int, str, int], Found]:
    """What is found of every copy, by photo, change and evaluation image.

    `names` are the variants that are looked for. `counted` gets the comparisons and what came of
    them, of different photos.
    """
    index_of = [VARIANTS.index(name) for name in names]
    own = [photo.hashes[place] for photo in known for place in index_of]
    phash, pdq = bits(own)
    quality = np.array([found.quality for found in own])
    index = HammingIndex(phash, max(RADII))
    found: dict[tuple[int, str, int], Found] = {}
    for change in COPIES:
        sources = [place for place, photo in enumerate(known) if change in photo.copies]
        copies = [known[place].copies[change][0] for place in sources]
        if not copies:
            continue
        copy_phash, copy_pdq = bits(copies)
        copy_quality = np.array([copy.quality for copy in copies])
        query, hit, distance = index.search(copy_phash)
        differing = np.bitwise_count(copy_pdq[query] ^ pdq[hit])
        apart = differing.sum(axis=1, dtype=np.int64)
        lower = np.minimum(copy_quality[query], quality[hit])
        is_same = np.zeros(len(query), np.bool_)  # so that hashes are measured, and not digests
        told = verdicts(apart, lower, is_same, SETTINGS)
        is_true = np.array(sources, np.int64)[query] == hit // len(names)
        counted["comparisons"] += len(copies) * (len(known) - 1) * len(names)
        for radius in RADII:
            counted[f"pHash <= {radius}"] += int((~is_true & (distance <= radius)).sum())
        for name in VERDICTS[:2]:
            counted[name] += int((~is_true & (told == VERDICTS.index(name))).sum())
        nearest: dict[tuple[int, int], int] = {}
        for row in np.lexsort((distance, apart, told)).tolist():
            if told[row] != VERDICTS.index("unrelated"):
                nearest.setdefault((int(query[row]), int(hit[row]) // len(names)), row)
        for (q, k), row in nearest.items():
            source = sources[q]
            facts = {"verdict": VERDICTS[told[row]], "similarity": None}
            variant = names[int(hit[row]) % len(names)]
            found[source, change, k] = _looked(known[source], known[k], change, variant, facts)
    return found


def _looked(source: Photo, known: Photo, change: str, variant: str, facts: dict[str, Any]) -> Found:
    alike = None
    if needs_look(facts, known.look):
        alike = of_looks(known.look, source.copies[change][1], variant)
    by_hashes = facts["verdict"]
    told = verdict(by_hashes, alike, SETTINGS)
    names = source.name, known.name
    return Found(change, source is known, names, by_hashes, told, alike)


def recall(known: list[Photo]) -> tuple[list[dict[str, Any]], list[Found], Counter[str]]:
    """A row for each change, what was found of different photos, and the counts."""
    counted: Counter[str] = Counter()
    with_variants = cascade(known, VARIANTS, counted)
    alone = cascade(known, VARIANTS[:1], Counter())
    rows = []
    for change, copy in COPIES.items():
        planted_in = [p for p, photo in enumerate(known) if change in photo.copies]
        planted_in = [p for p in planted_in if len(known[p].copies) > 1]

        def share(found: dict[tuple[int, str, int], Found], what: str, places: Any) -> float:
            own = [found.get((p, change, p)) for p in places]  # noqa: B023 - called at once
            if what == "candidates":
                return 100 * sum(one is not None for one in own) / len(own)
            told = [(one.by_hashes if what == "hashes" else one.told) for one in own if one]
            return 100 * told.count("overlap") / len(own)

        row: dict[str, Any] = {"change": change, "photos": len(planted_in), "asked": copy.asked}
        for name, found in (("", with_variants), (", no variants", alone)):
            for what in ("candidates", "hashes", "verdict"):
                row[what + name] = share(found, what, planted_in)
        rows.append(row)
    false = [one for one in with_variants.values() if not one.is_true]
    return rows, false, counted


def bound(count: int, trials: int) -> float:
    """The exact (Clopper-Pearson) upper bound of a chance, one-sided, 95%."""
    return float(beta.ppf(0.95, count + 1, trials - count))


def show(rows: list[dict[str, Any]], false: list[Found], counted: Counter[str]) -> None:
    table = Table(title="recall, % of planted copies", title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "change" else "right")
    for row in rows:
        told = [f"{v:.1f}" if isinstance(v, float) else str(v or "") for v in row.values()]
        table.add_row(*told)
    console = Console(highlight=False, width=150)
    console.print(table)
    comparisons = counted["comparisons"]
    for name in (*(f"pHash <= {r}" for r in RADII), "candidate", "overlap"):
        console.print(
            f"{name}: {counted[name]} of {comparisons:,} comparisons of different photos, "
            f"{counted[name] / comparisons:.2e}, at most {bound(counted[name], comparisons):.2e}"
        )
    taken = {one.names for one in false if one.told == "overlap"}
    looked = {one.names for one in false if one.similarity is not None}
    console.print(
        f"second look: {len(looked)} pairs of different photos, {len(taken)} taken for one"
    )
    best = sorted(false, key=lambda one: -(one.similarity or 0.0))
    for one in [*(f for f in false if f.told == "overlap"), *best[:5]]:
        console.print(f"  {one.told} {one.similarity}: {one.copy} of {' | '.join(one.names)}")


def main(data: Path) -> None:
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        known = [photo for photo in pool.map(seen, photos(data), chunksize=8) if photo is not None]
    rows, false, counted = recall(known)
    show(rows, false, counted)
    figures = [
        Figure(
            row["change"],
            row["verdict"],
            "%",
            peer=row["asked"],
            peer_name="asked" if row["asked"] else None,
            goal=1.0 if row["asked"] else None,
        )
        for row in rows
    ]
    final = sum(one.told == "overlap" for one in false)
    rate = bound(final, counted["comparisons"])
    figures.append(Figure("false overlaps, upper bound", rate * 1e9, "of 1e9 comparisons"))
    publish("recall", figures)
    (RESULTS / "recall_rows.json").write_text(
        json.dumps({"recall": rows, "false": dict(counted)}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
