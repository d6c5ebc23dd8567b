"""References: images that the corpus must not hold, ready to be looked for in batches of it.

A reference is known by a pHash with its PDQ, by one of both alone, or by a digest of its bytes or
pixels alone. `References` are arrays, to be sent to every worker; `Searcher` is what a worker makes
of them, once.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.cascade import VERDICTS, verdicts
from pipeline.hamming import HammingIndex
from pipeline.hashcolumns import Groups, Hashes, hashes_of, spread, words_of
from pipeline.kernels import kernel
from pipeline.probes import Longs, Words
from pipeline.schemas import OVERLAPS
from pipeline.settings import DedupSettings

COLUMNS = ("id", "phash", "pdq", "quality", "sha256", "pixels_sha256")
"""Of fingerprints: what a corpus image is compared by. A reference has `source` and `variant`."""
_UNLIKE = 65, 257
"""Distances of what has no pHash, or no PDQ: beyond any threshold."""
_CANDIDATE, _UNRELATED = VERDICTS.index("candidate"), VERDICTS.index("unrelated")
_EXPANDED = 1 << 21
"""Pairs that are compared at once, unless one image alone has more."""
_SPARE = 16
"""Times the limit: the most reference hashes that are kept of an image before they are named."""


class References(NamedTuple):
    """The reference images, in the order of source and id, the original before its variants."""

    hashes: Hashes
    image: Longs
    """The image of each row: the same for all variants."""
    source: pa.Array
    name: pa.Array
    """Of each image."""
    variant: pa.Array
    digest: str
    """Of all of it."""

    @classmethod
    def of(cls, fingerprints: pa.Table) -> "References":
        """The references of a table of fingerprints, in whatever order that is."""
        is_other = pc.not_equal(fingerprints.column("variant"), "original").fill_null(True)
        table = fingerprints.append_column("is_other", is_other)
        # Names may come twice: what they name must not be in an order of chance.
        keys = ("source", "id", "is_other", "variant", "phash", "pdq", "sha256")
        table = table.sort_by([(name, "ascending") for name in keys])
        arrays = [column.combine_chunks() for column in table.columns]
        batch = pa.RecordBatch.from_arrays(arrays, names=table.column_names)
        hashes = hashes_of(batch)
        named = [batch.column(name).cast(pa.string()) for name in ("source", "id", "variant")]
        pair = np.column_stack([words_of(column) for column in named[:2]])
        is_first = np.ones(len(pair), np.bool_)
        is_first[1:] = (pair[1:] != pair[:-1]).any(axis=1)
        digest = hashlib.sha256()
        for array in hashes:
            digest.update(np.ascontiguousarray(array))
        for column in named:
            digest.update(words_of(column))
        source, name, variant = named
        return cls(
            hashes=hashes,
            image=np.cumsum(is_first) - 1,
            source=source.dictionary_encode(),
            name=name.filter(pa.array(is_first)),
            variant=variant.dictionary_encode(),
            digest=digest.hexdigest(),
        )


class Searcher:
    """References with their indexes."""

    def __init__(self, references: References, settings: DedupSettings) -> None:
        self._references, self._settings = references, settings
        known = references.hashes
        every = np.arange(len(references.image))
        # Images that look the same to both hashes are compared once.
        look = np.column_stack([known.phash, known.pdq, known.quality.astype(np.uint64)])
        look = np.column_stack([look, known.has_pdq])
        image = references.image
        self._looks = Groups.of(look[known.has_phash], every[known.has_phash], image)
        by_phash = self._looks.keys[:, :1].copy()
        # Every process holds a searcher, and of a look's 48 bytes nothing else is asked for.
        self._looks = self._looks._replace(keys=np.zeros((0, 6), np.uint64))
        self._phashes = Groups.of(by_phash, np.arange(len(by_phash)))
        self._phash_index = HammingIndex(
            np.ascontiguousarray(self._phashes.keys[:, 0]), settings.candidate_distance
        )
        is_alone = known.has_pdq & ~known.has_phash
        self._pdqs = Groups.of(known.pdq[is_alone], every[is_alone], image)
        keys = np.ascontiguousarray(self._pdqs.keys).view(np.uint8).reshape(-1, 32)
        self._pdq_index = HammingIndex(keys, settings.pdq_distance)
        digests = np.concatenate([known.sha256, known.pixels])
        is_known = digests.any(axis=1)
        every = np.concatenate([every, every])[is_known]
        self._digests = Groups.of(digests[is_known], every, image)
        # Looks of both kinds stand in one list.
        self._look_bounds = np.append(self._looks.bounds[:-1], self._pdqs.bounds + len(
            self._looks.rows
        ))  # fmt: skip
        self._look_rows = np.concatenate([self._looks.rows, self._pdqs.rows])

    def overlaps(self, corpus: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of schemas.OVERLAPS: each image's nearest variant of each reference image near it.

        At most `settings.references_per_image` of an image: those of the same bytes or pixels
        first, then by verdict, PDQ and pHash. Among equals, an image begins at a place that its
        name decides, so that a crowd of blank ones does not all name the same few references.
        """
        hashes = hashes_of(corpus)
        limit = self._settings.references_per_image
        same = [self._digests.find(words) for words in (hashes.sha256, hashes.pixels)]
        look_of, bounds, looks = self._near(hashes, limit)
        wanted = np.flatnonzero((look_of >= 0) | (same[0] >= 0) | (same[1] >= 0))
        salt = words_of(corpus.column("id").cast(pa.string()).take(pa.array(wanted)))[:, 0]
        row, known, is_same = _named(
            wanted, np.column_stack(same), look_of, salt, self._digests.bounds, self._digests.rows,
            bounds, looks, self._look_bounds, self._look_rows, self._references.image, limit,
        )  # fmt: skip
        return self._told(corpus, hashes, row, known, is_same)

    def _near(self, hashes: Hashes, limit: int) -> tuple[Longs, Longs, Longs]:
        """For each image its look or -1; and of each look the references' looks, nearest first."""
        look_of = np.full(len(hashes.phash), -1, np.int64)
        rows = np.flatnonzero(hashes.has_phash & hashes.has_pdq)
        distinct, of_row = np.unique(hashes.phash[rows], return_inverse=True)
        # A PDQ alone says nothing of a flat image.
        sharp = rows[hashes.quality[rows] >= self._settings.min_quality]
        at, alone, _ = self._pdq_index.search(hashes.pdq[sharp].view(np.uint8))
        alone_row, alone = sharp[at], alone + len(self._looks.bounds) - 1
        nothing = np.zeros(0, np.int64)
        kept, looks = [(nothing, nothing)], 0
        # In parts: thousands of flat images may each be near thousands of flat references.
        for one, phash, _ in self._phash_index.parts(distinct):
            counts = np.bincount(one, minlength=len(distinct))
            hit = np.flatnonzero(counts[of_row])
            seen, example, mine = _looks_of(hashes, rows[hit])
            look_of[seen] = mine + looks
            ends = np.cumsum(counts)
            queries = of_row[hit][example]
            which, found = spread(ends[queries] - counts[queries], ends[queries])
            beside = _beside(seen[example], alone_row, alone)
            near = self._expanded(hashes, seen[example], which, phash[found], beside, limit)
            kept += [(mine + looks, known) for mine, known in near]
            looks += len(example)
        rest = np.unique(alone_row)
        seen, example, mine = _looks_of(hashes, rest[look_of[rest] < 0])
        look_of[seen] = mine + looks
        beside = _beside(seen[example], alone_row, alone)
        mine, known = self._nearest(hashes, seen[example], *beside, limit)
        kept.append((mine + looks, known))
        looks += len(example)
        mine, known = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        order = np.argsort(mine, kind="stable")
        bounds = np.searchsorted(mine[order], np.arange(looks + 1))
        return look_of, bounds, known[order]

    def _expanded(
        self, hashes: Hashes, rows: Longs, which: Longs, phash: Longs, beside: Any, limit: int
    ) -> Iterator[tuple[Longs, Longs]]:
        """The nearest looks of references of each look: of those with the pHashes it is near, and
        of those beside. Some at a time."""
        total = np.cumsum(np.diff(self._phashes.bounds)[phash])
        begin = 0
        while begin < len(which):
            already = total[begin - 1] if begin else 0
            end = int(np.searchsorted(total, already + _EXPANDED, side="right"))
            # Not between two of one look: it is cut to the limit as a whole.
            end = int(np.searchsorted(which, which[max(end, begin + 1) - 1], side="right"))
            part = slice(begin, end)
            bounds = self._phashes.bounds[phash[part]], self._phashes.bounds[phash[part] + 1]
            pair, place = spread(*bounds)
            is_of = (beside[0] >= which[begin]) & (beside[0] <= which[end - 1])
            mine = np.concatenate([which[part][pair], beside[0][is_of]])
            known = np.concatenate([self._phashes.rows[place], beside[1][is_of]])
            yield self._nearest(hashes, rows, mine, known, limit)
            begin = end

    def _nearest(
        self, hashes: Hashes, rows: Longs, mine: Longs, looks: Longs, limit: int
    ) -> tuple[Longs, Longs]:
        """The nearest of these looks of references, to each look of the corpus."""
        known = self._look_rows[self._look_bounds[looks]]
        phash, pdq, verdict = self._compared(
            hashes, rows[mine], known, np.zeros(len(mine), np.bool_)
        )
        order = np.lexsort((looks, phash, pdq, verdict, mine))
        mine, looks = mine[order], looks[order]
        rank = np.arange(len(mine)) - np.searchsorted(mine, mine)
        is_kept = (rank < _SPARE * limit) & (verdict[order] < _UNRELATED)
        return mine[is_kept], looks[is_kept]

    def _compared(
        self, hashes: Hashes, rows: Longs, known: Longs, is_same: NDArray[np.bool_]
    ) -> tuple[Longs, Longs, Longs]:
        """pHash and PDQ distances, and the place in VERDICTS, of images and references."""
        its = self._references.hashes
        phash = np.bitwise_count(hashes.phash[rows] ^ its.phash[known]).astype(np.int64)
        pdq = np.bitwise_count(hashes.pdq[rows] ^ its.pdq[known]).sum(axis=1, dtype=np.int64)
        quality = np.minimum(hashes.quality[rows], its.quality[known])
        phash[~(hashes.has_phash[rows] & its.has_phash[known])] = _UNLIKE[0]
        pdq[~(hashes.has_pdq[rows] & its.has_pdq[known])] = _UNLIKE[1]
        # A reference that is a pHash alone has nothing to confirm it: equality decides.
        is_equal = (phash == 0) & ~its.has_pdq[known] & (quality >= self._settings.min_quality)
        verdict = verdicts(pdq, quality, is_same | is_equal, self._settings)
        is_open = (verdict == _UNRELATED) & ~its.has_pdq[known]
        return phash, pdq, np.where(is_open, _CANDIDATE, verdict)

    def _told(
        self, corpus: pa.RecordBatch, hashes: Hashes, rows: Longs, known: Longs, is_same: Any
    ) -> pa.RecordBatch:
        its, at = self._references, pa.array(known)
        phash, pdq, verdict = self._compared(hashes, rows, known, is_same)
        no_phash = ~(hashes.has_phash[rows] & its.hashes.has_phash[known])
        no_pdq = ~(hashes.has_pdq[rows] & its.hashes.has_pdq[known])
        columns = [
            corpus.column("id").take(pa.array(rows)),
            its.source.take(at),
            its.name.take(pa.array(its.image[known])),
            its.variant.take(at),
            pa.array(phash, pa.int32(), mask=no_phash),
            pa.array(pdq, pa.int32(), mask=no_pdq),
            pa.array(np.ones(len(rows)), pa.float32(), mask=~is_same),
            pa.array(VERDICTS).take(pa.array(verdict)),
        ]
        arrays = [column.cast(field.type) for column, field in zip(columns, OVERLAPS, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, names=OVERLAPS.names)


def _looks_of(hashes: Hashes, rows: Longs) -> tuple[Longs, Longs, Longs]:
    """The rows, the places of one of each look among them, and the look of each."""
    look = np.column_stack([hashes.phash, hashes.pdq, hashes.quality.astype(np.uint64)])[rows]
    _, example, look_of = np.unique(look, axis=0, return_index=True, return_inverse=True)
    return rows, example, look_of.reshape(-1)


def _beside(examples: Longs, rows: Longs, looks: Longs) -> tuple[Longs, Longs]:
    """Pairs of an image and a look as pairs of the place among `examples` and the look."""
    order = np.argsort(examples)
    place = np.searchsorted(examples[order], rows)
    is_there = np.isin(rows, examples)
    return order[place[is_there]], looks[is_there]


@kernel
def _named(
    rows: Longs, same: Longs, look_of: Longs, salt: Words, digest_bounds: Longs,
    digest_rows: Longs, bounds: Longs, looks: Longs, look_bounds: Longs, look_rows: Longs,
    image: Longs, limit: int,
) -> tuple[Longs, Longs, NDArray[np.bool_]]:  # fmt: skip
    """For each image the rows of the references that it names, no image of them twice."""
    room = 1024
    out, known, is_same = (
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.bool_),
    )
    found = 0
    for nth in range(len(rows)):
        row, first = rows[nth], found
        if found + limit > room:
            room = 2 * room + limit
            grown = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.bool_)
            grown[0][:found], grown[1][:found] = out[:found], known[:found]
            grown[2][:found] = is_same[:found]
            out, known, is_same = grown
        near = 0
        if look_of[row] >= 0:
            near = bounds[look_of[row] + 1] - bounds[look_of[row]]
        for step in range(2 + near):
            if step < 2:
                group = same[row, step]
                if group < 0:
                    continue
                begin, end = digest_bounds[group], digest_bounds[group + 1]
            else:
                look = looks[bounds[look_of[row]] + step - 2]
                begin, end = look_bounds[look], look_bounds[look + 1]
            start = np.int64(0)
            if end - begin > limit:
                start = np.int64(salt[nth] % np.uint64(end - begin))
            for turn in range(end - begin):
                if found - first == limit:
                    break
                place = begin + (start + turn) % (end - begin)
                one = digest_rows[place] if step < 2 else look_rows[place]
                is_new = True
                for before in range(first, found):
                    is_new &= image[known[before]] != image[one]
                if is_new:
                    out[found], known[found], is_same[found] = row, one, step < 2
                    found += 1
    return out[:found], known[:found], is_same[:found]


_SEARCHERS: dict[str, Searcher] = {}


def searcher(references: References, settings: DedupSettings) -> Searcher:
    """The searcher of these references: made once in a process, while no others are asked for."""
    key = f"{references.digest} {settings.model_dump_json()}"
    if key not in _SEARCHERS:
        _SEARCHERS.clear()
        _SEARCHERS[key] = Searcher(references, settings)
    return _SEARCHERS[key]
