"""The contract: one Arrow schema per table, and what a sample holds.

Spark's schemas are derived from these (`jobs.run`), so that the trainer can read the contract
without Spark. A column is added here first, with its sentence.
"""

from dataclasses import dataclass

import pyarrow as pa


def _field(name: str, kind: pa.DataType, doc: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc})


_PAIR_ID = _field(
    "pair_id",
    pa.string(),
    "sha256 of url, without tracking parameters, and caption: first 16 bytes, hex",
    nullable=False,
)
_URL = _field("url", pa.string(), "the image's address", nullable=False)
_CAPTION = _field("caption", pa.string(), "the text beside the image, cleaned", nullable=False)
_PAGE_URL = _field("page_url", pa.string(), "the page that showed the image, if known")
_LANGUAGE = _field("language", pa.string(), "fasttext's best language for the caption, ISO 639")
_LANGUAGE_SCORE = _field("language_score", pa.float32(), "fasttext's probability of it")
_FILTER_SCORE = _field(
    "filter_score", pa.float32(), "probability that the filter model gives to its label"
)
_QUERY_IDS = _field(
    "query_ids", pa.list_(pa.int32()), "queries found in the caption, ascending", nullable=False
)
_SHA256 = _field("sha256", pa.string(), "of the original bytes, hex")
_PHASH = _field("phash", pa.int64(), "64 bits, imagehash's bit order, two's complement")
_PDQ = _field("pdq", pa.binary(), "256 bits, PDQ: 32 bytes")
_QUALITY = _field("quality", pa.int32(), "PDQ's quality, 0 to 100; below 50 is undecidable")
_PIXELS = _field("pixels_sha256", pa.string(), "of the decoded RGB pixels and their size, hex")
_KNOWN_BY = (
    *(_PHASH, _PDQ, _QUALITY, _SHA256, _PIXELS),
    _field("side", pa.int32(), "pixels of the shorter side"),
)
"""What an image is found again by."""
_DRAWN_FOR = _field(
    "drawn_for",
    pa.list_(pa.int32()),
    "queries that drew the pair within their cap and headroom",
    nullable=False,
)
_KEPT_FOR = _field(
    "kept_for", pa.list_(pa.int32()), "queries that keep the pair within their cap", nullable=False
)

WORDS = pa.schema(
    [
        _field("word", pa.string(), "a token of an article's text", nullable=False),
        _field("count", pa.int64(), "how often it occurs in all articles", nullable=False),
    ]
)
"""Every word, the rare ones too: the sum of the counts is what PMI divides by."""

BIGRAMS = pa.schema(
    [
        _field("bigram", pa.string(), "two neighbouring words, a space between", nullable=False),
        _field("count", pa.int64(), "how often they stand side by side", nullable=False),
        _field("pmi", pa.float64(), "pointwise mutual information, bits", nullable=False),
    ]
)
"""Bigrams of frequent words that are frequent themselves."""

TITLES = pa.schema(
    [
        _field("title", pa.string(), "as Wikipedia spells it", nullable=False),
        _field("article", pa.string(), "the title that it leads to, or itself", nullable=False),
        _field("query", pa.string(), "the article, normalised, without suffix", nullable=False),
        _field("views", pa.int64(), "of this title alone", nullable=False),
    ]
)
"""Every title that was viewed."""

QUERIES = pa.schema(
    [
        _field("query_id", pa.int32(), "dense, from 0, in the order of the list", nullable=False),
        _field("query", pa.string(), "normalised by pipeline.text", nullable=False),
        _field("source", pa.string(), "word, bigram, title, wordnet or integer", nullable=False),
        _field("rank", pa.int32(), "place within its source, from 1", nullable=False),
        _field("score", pa.float64(), "count, PMI or views: what its source ranks by"),
        _field("sources", pa.list_(pa.string()), "every source that has it", nullable=False),
    ]
)

CANDIDATES = pa.schema(
    [_PAIR_ID, _URL, _CAPTION, _PAGE_URL, _LANGUAGE, _LANGUAGE_SCORE, _FILTER_SCORE]
)

MATCHED = pa.schema([*CANDIDATES, _QUERY_IDS])

COUNTS = pa.schema(
    [
        _field("query_id", pa.int32(), "the query", nullable=False),
        _field("pairs", pa.int64(), "pairs whose caption holds it", nullable=False),
    ]
)
"""Every query, those too that no caption holds."""

DRAWN = pa.schema(
    [
        *MATCHED,
        _DRAWN_FOR,
        _field("round", pa.int32(), "the round of downloads, from 1", nullable=False),
        _field("raw_shard", pa.int32(), "the download task it goes to", nullable=False),
        _field("position", pa.int64(), "download order: a hash of pair_id", nullable=False),
    ]
)

DRAWS = pa.schema(
    [
        _field("query_id", pa.int32(), "the query", nullable=False),
        _field("target", pa.int64(), "how far down its order of pairs it goes", nullable=False),
        _field("drawn", pa.int64(), "pairs drawn as far as there", nullable=False),
        _field("last_priority", pa.int64(), "of its last pair there, two's complement; null: all"),
        _field("last_name", pa.int64(), "the first half of that pair's pair_id, two's complement"),
    ]
)
"""Where each query's draw ended, so that a further one can go on there; `reached` is the same of
the last round of downloads."""

IMAGES = pa.schema(
    [
        *DRAWN,
        _field("status", pa.string(), "success, failed_to_download, failed_to_resize"),
        _field("reason", pa.string(), "why there is no image; null on success"),
        _field("error_message", pa.string(), "the reason with its detail"),
        _field("width", pa.int32(), "pixels, as stored"),
        _field("height", pa.int32(), "pixels, as stored"),
        _field("original_width", pa.int32(), "pixels, as downloaded"),
        _field("original_height", pa.int32(), "pixels, as downloaded"),
        _SHA256,
        _field("offset", pa.int64(), "where the image's bytes begin in its tar"),
        _field("bytes", pa.int64(), "how many they are"),
        _PHASH,
        _PDQ,
        _QUALITY,
        _PIXELS,
    ]
)
"""A row for each round that asked for the pair: one that failed and was tried again has several."""

FAILED = pa.schema([*DRAWN, IMAGES.field("reason")])
"""Pairs that a round may try again: within the download, and no table of a run."""

FINGERPRINTS = pa.schema(
    [
        _field("id", pa.string(), "pair_id, or the eval image's name", nullable=False),
        _field("source", pa.string(), "corpus, or an eval set's name", nullable=False),
        _field("variant", pa.string(), "original, or the eval image's transformation"),
        *_KNOWN_BY,
        _field("look", pa.binary(), "a small copy, of eval originals: for a second look"),
    ]
)

SCANNED = pa.schema(
    [
        _field("pair_id", pa.string(), "shard/key of somebody else's WebDataset", nullable=False),
        _field("path", pa.string(), "the tar", nullable=False),
        _field("offset", pa.int64(), "where the image's bytes begin in it", nullable=False),
        _field("bytes", pa.int64(), "how many they are", nullable=False),
        _field("caption", pa.string(), "of the sample's txt or json; several stand on lines"),
        *_KNOWN_BY,
        _field("dropped_for", pa.string(), "why it has no hashes"),
    ]
)
"""The images of a WebDataset that somebody else made: no table of a run."""

OVERLAPS = pa.schema(
    [
        _PAIR_ID,
        _field("source", pa.string(), "the eval set", nullable=False),
        _field("eval_id", pa.string(), "the eval image's name", nullable=False),
        _field("variant", pa.string(), "which variant of it is nearest", nullable=False),
        _field("phash_distance", pa.int32(), "Hamming, of 64 bits; null without a pHash"),
        _field("pdq_distance", pa.int32(), "Hamming, of 256 bits; null without a PDQ"),
        _field(
            "similarity",
            pa.float32(),
            "1 where bytes or pixels are equal, else of the second look; null where none was taken",
        ),
        _field("verdict", pa.string(), "overlap, candidate or undecidable", nullable=False),
    ]
)

DEDUPED = pa.schema(
    [
        _PAIR_ID,
        _field(
            "alternatives",
            pa.list_(pa.string()),
            "other captions of its equals and near-duplicates, ascending; null unless kept",
        ),
    ]
)

DROPPED = pa.schema(
    [
        _PAIR_ID,
        _field("reason", pa.string(), "why the pair was dropped", nullable=False),
        _field("rival", pa.string(), "the pair or eval image that it repeats"),
        _field("source", pa.string(), "corpus, or the eval set's name"),
        _field("variant", pa.string(), "which variant of an eval image it repeats"),
        _field("phash_distance", pa.int32(), "Hamming, of 64 bits, to the rival"),
        _field("pdq_distance", pa.int32(), "Hamming, of 256 bits, to the rival"),
    ]
)

BALANCED = pa.schema([*IMAGES, _KEPT_FOR])

COVERAGE = pa.schema(
    [
        _field("query_id", pa.int32(), "the query", nullable=False),
        _field("matched", pa.int64(), "pairs whose caption holds it", nullable=False),
        _field("drawn", pa.int64(), "pairs drawn for it, to be downloaded", nullable=False),
        _field("arrived", pa.int64(), "pairs that arrived and survived dedup", nullable=False),
        _field("kept", pa.int64(), "pairs kept for it: at most the cap", nullable=False),
    ]
)
"""Queries that match something; the others have no row."""

SHARDED = pa.schema(
    [
        _field("shard", pa.string(), "the tar's name", nullable=False),
        _field("sample", pa.int32(), "place in the tar, from 0", nullable=False),
        *[f for f in BALANCED if f.name not in ("status", "reason", "error_message")],
    ]
)
"""The sidecar of a shard: its columns beside each tar. `offset` is that in this tar, not in the
raw one that `raw_shard` names."""

AUDIT = pa.schema(
    [
        *OVERLAPS,
        _field("removed", pa.bool_(), "true when dedup took the pair out; null: no overlap"),
        _field("decided", pa.string(), "hand or threshold: who decided it; null: the cascade"),
    ]
)

VOCABULARY = pa.schema(
    [
        _field("word", pa.string(), "a word of a caption, as it is tokenized", nullable=False),
        _field("count", pa.int64(), "how often it occurs in all captions", nullable=False),
    ]
)
"""The words that the merges were learned from; none where a merges file was given."""

PLACES = pa.schema(
    [
        _field("key", pa.string(), "the sample's __key__", nullable=False),
        _field("image", pa.int64(), "where the image's bytes begin in the tar", nullable=False),
        _field("image_bytes", pa.int64(), "how many they are", nullable=False),
        _field("caption", pa.int64(), "where the caption's bytes begin", nullable=False),
        _field("caption_bytes", pa.int64(), "how many they are", nullable=False),
        _field("in_json", pa.bool_(), "whether they are JSON that holds it", nullable=False),
    ]
)
"""Where a shard's samples lie: a file beside each tar, and no table of a run."""

SAMPLE_MEMBERS = ("jpg", "txt", "json")
"""The members of a sample in a shard, in this order; `__key__` is the pair_id."""


@dataclass(frozen=True)
class Table:
    """A table of a run: its folder, and its schema, empty where it is not made of rows."""

    name: str
    folder: str
    schema: pa.Schema


TABLES = {
    table.name: table
    for table in (
        Table("words", "01_words", WORDS),
        Table("bigrams", "01_bigrams", BIGRAMS),
        Table("titles", "01_titles", TITLES),
        Table("queries", "01_queries", QUERIES),
        Table("candidates", "02_candidates", CANDIDATES),
        Table("matched", "03_matched", MATCHED),
        Table("counts", "03_counts", COUNTS),
        Table("drawn", "04_drawn", DRAWN),
        Table("draws", "04_draws", DRAWS),
        Table("images", "05_images", IMAGES),
        Table("reached", "05_reached", DRAWS),
        Table("fingerprints", "06_fingerprints", FINGERPRINTS),
        Table("overlaps", "07_overlaps", OVERLAPS),
        Table("deduped", "07_deduped", DEDUPED),
        Table("dropped", "07_dropped", DROPPED),
        Table("balanced", "08_balanced", BALANCED),
        Table("coverage", "08_coverage", COVERAGE),
        Table("shards", "09_shards", SHARDED),
        Table("audit", "10_audit", AUDIT),
        Table("vocabulary", "11_vocabulary", VOCABULARY),
        Table("checkpoints", "12_checkpoints", pa.schema([])),
        Table("scores", "13_scores", pa.schema([])),
    )
}
"""Every table of a run, in the order of the walk."""
