"""Clean: a link as a candidate, or the reason why it is none.

`clean` says what that means for one link, and `clean_links` does the same to a batch of them.
"""

import hashlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest import blocklists, captions, language, quality, urls
from pipeline.ingest.links import Link
from pipeline.ingest.rows import readable
from pipeline.settings import IngestSettings
from pipeline.text import normalise

REASONS = (
    *urls.REASONS,
    *captions.REASONS,
    *blocklists.REASONS,
    *language.REASONS,
    *quality.REASONS,
)

CLEAN = pa.schema(
    [
        pa.field("pair_id", pa.string()),
        pa.field("address", pa.string()),
        pa.field("url", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("page_url", pa.string()),
        pa.field("language", pa.string()),
        pa.field("language_score", pa.float32()),
        pa.field("filter_score", pa.float32()),
    ]
)
"""A link that is fit. Its address is the url without tracking parameters."""


class Candidate(NamedTuple):
    """A cleaned pair, or the reason why there is none."""

    url: str
    caption: str
    language: str | None = None
    language_score: float | None = None
    filter_score: float | None = None
    reason: str | None = None


def clean(link: Link, settings: IngestSettings) -> Candidate:
    """The pair that a link holds, or a Candidate with the first reason why it holds none."""
    if link.reason is not None:
        return Candidate("", "", reason=link.reason)
    url, reason = urls.clean_url(link.url, settings.max_url_chars)
    caption = captions.clean_caption(link.caption or "")
    reason = reason or captions.unfit(caption, settings) or _blocked(url, caption, settings)
    if reason is not None:
        return Candidate(url, caption, reason=reason)
    named, score = language.language_of(caption)
    if language.is_foreign(named, score, settings):
        return Candidate(url, caption, named, score, reason="language")
    worth = quality.score_of(caption, settings)
    reason = "filter score" if quality.is_poor(worth, settings) else None
    return Candidate(url, caption, named, score, worth, reason)


def _blocked(url: str, caption: str, settings: IngestSettings) -> str | None:
    lists = blocklists.load(settings)
    address = urls.without_tracking(url, settings.tracking_parameters)
    if lists.blocks_domain(pa.array([url]))[0]:
        return "blocked domain"
    if lists.blocks_url(pa.array([address]))[0]:
        return "blocked url"
    if lists.blocks_caption(pa.array([normalise(caption)]))[0]:
        return "blocked caption"
    return None


def pair_id(address: str, caption: str) -> str:
    """The pair's name for good: sha256 of address and caption, 16 bytes, hex."""
    return hashlib.sha256(f"{address}\n{caption}".encode()).hexdigest()[:32]


# -- a batch -------------------------------------------------------------------------------


def clean_links(
    links: pa.RecordBatch, settings: IngestSettings
) -> tuple[pa.RecordBatch, list[str | None]]:
    """The pairs of the links that are fit, as CLEAN; and of every link why it is not, if so."""
    rows = _Rows(links)
    url, of_urls = urls.clean_urls(rows.column("url"), settings.max_url_chars)
    caption, of_captions = captions.clean_captions(rows.column("caption"), settings)
    of_captions = np.where(of_captions > 0, of_captions + len(urls.REASONS), 0)
    page = rows.column("page_url")
    # Nobody checks it, and each pair of a page repeats it.
    is_long = pc.greater(pc.binary_length(page), settings.max_url_chars)
    rows.put(url=url, caption=caption, page_url=pc.if_else(is_long, None, page))
    rows.drop(np.where(of_urls > 0, of_urls, of_captions))

    tracking = settings.tracking_parameters
    rows.put(address=urls.all_without_tracking(rows.column("url"), tracking))
    lists = blocklists.load(settings)
    rows.drop_where("blocked domain", lists.blocks_domain(rows.column("url")))
    rows.drop_where("blocked url", lists.blocks_url(rows.column("address")))
    if settings.blocked_captions:
        normalised = captions.normalise_all(rows.column("caption"))
        rows.drop_where("blocked caption", lists.blocks_caption(normalised))

    named, scores = language.languages_of(rows.column("caption"))
    rows.put(language=named, language_score=scores)
    rows.drop_where("language", language.are_foreign(named, scores, settings))
    worth = quality.scores_of(rows.column("caption"), settings)
    rows.put(filter_score=worth)
    rows.drop_where("filter score", quality.are_poor(worth, settings))
    rows.put(pair_id=_pair_ids(rows.column("address"), rows.column("caption")))
    return rows.pairs(), rows.reasons()


class _Rows:
    """The links of a batch that are fit so far, and why the others are not."""

    def __init__(self, links: pa.RecordBatch) -> None:
        self._columns = {name: readable(links.column(name)) for name in Link._fields}
        given = self._columns.pop("reason").dictionary_encode()
        self._names = [*REASONS, *given.dictionary.to_pylist()]
        self._why: npt.NDArray[Any] = np.zeros(len(links), np.int32)
        self._at = np.arange(len(links))
        places = pc.fill_null(given.indices, -len(REASONS) - 1).to_numpy(zero_copy_only=False)
        self.drop(places + len(REASONS) + 1)

    def column(self, name: str) -> Any:
        return self._columns[name]

    def put(self, **columns: Any) -> None:
        self._columns |= columns

    def drop(self, reasons: npt.NDArray[Any]) -> None:
        """Leave out the rows with a reason: its place in the names, from 1."""
        self._why[self._at] = reasons
        is_fit = reasons == 0
        if not is_fit.all():
            self._at = self._at[is_fit]
            mask = pa.array(is_fit)
            self._columns = {name: col.filter(mask) for name, col in self._columns.items()}

    def drop_where(self, reason: str, mask: npt.NDArray[np.bool_]) -> None:
        if mask.any():
            self.drop(np.where(mask, REASONS.index(reason) + 1, 0))

    def pairs(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([self._columns[n] for n in CLEAN.names], schema=CLEAN)

    def reasons(self) -> list[str | None]:
        names = [None, *self._names]
        return [names[place] for place in self._why.tolist()]


def _pair_ids(addresses: pa.StringArray, texts: pa.StringArray) -> pa.StringArray:
    joined = pc.binary_join_element_wise(addresses, texts, "\n").cast(pa.binary())
    sha256 = hashlib.sha256
    return pa.array([sha256(both).hexdigest()[:32] for both in joined.to_pylist()], pa.string())
