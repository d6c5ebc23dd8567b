"""Settings of what happens to words: queries, candidates, matches, caps."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.settings.closed import Closed, Share


class SparkSettings(Closed):
    master: str = "local[*]"
    """Where Spark runs, unless spark-submit has already said so."""
    partitions: int = Field(default=8, gt=0)
    """Partitions after a shuffle. Changes speed, never a byte of the result."""
    driver_memory: str = "4g"
    """Of the driver, which is all there is of a local session."""
    executor_memory: str | None = None
    """Of each executor of a cluster, beside its memory overhead; Spark's own default if not
    given."""
    executor_cores: int | None = Field(default=None, gt=0)
    """Tasks at once in each executor of a cluster; Spark's own default if not given."""
    conf: dict[str, str] = {}
    """Further properties of Spark, `"spark.x" = "y"`. Those that decide the result are not among
    them."""
    min_scratch_gb: float = Field(default=1.0, ge=0.0)
    """Gigabytes that must be free on the scratch disk of each worker of a cluster."""
    max_clock_skew_seconds: float = Field(default=10.0, gt=0.0)
    """By which the clock of a cluster's worker may differ from the driver's."""


class DeriveSettings(Closed):
    pace = frozenset({"split_bytes"})

    dumps: list[str] = []
    """Wikipedia pages-articles XML, plain or bz2, whole or in parts; `*` stands for anything."""
    pageviews: list[str] = []
    """Hourly pageview files: lines of `domain title views bytes`, plain or gz; `*` too."""
    wordnet: str | None = None
    """Folder with WordNet's data.noun, data.verb, data.adj, data.adv (Debian: wordnet-base)."""
    blocklist: str | None = None
    """A file of queries that are never taken, one a line; `* word *` blocks all that hold it."""
    dbname: str = "enwiki"
    """The dump's language; another stops the run."""
    domains: list[str] = ["en", "en.m"]
    """Pageview domains whose views are summed."""
    split_bytes: int = Field(default=32 * 2**20, gt=0)
    """Bytes of a dump, as it is stored, that one task reads."""
    min_word_count: int = Field(default=100, gt=0)
    """CLIP, section 2.2: words occurring at least 100 times."""
    min_bigram_count: int = Field(default=100, gt=0)
    """The rule for words, applied to bigrams: PMI alone prefers the rarest pairs."""
    max_bigrams: int = Field(default=100_000, ge=0)
    """The best by PMI. MetaCLIP reports 100,646."""
    min_pmi: float = 0.0
    """Bits of pointwise mutual information; below 0 a pair is rarer than chance would have it."""
    min_title_views: int = Field(default=1, gt=0)
    """CLIP, section 2.2: article names above a certain search volume."""
    wordnet_names: Literal["lemma", "metaclip"] = "lemma"
    """`metaclip` cuts each name at its first dot, as MetaCLIP's list does: "st. louis" is "st"."""
    integers: bool = False
    """The integers 0 to 99 as a last source: MetaCLIP counts them among WordNet's names."""
    max_queries: int = Field(default=500_000, gt=0)
    """CLIP, section 2.2."""
    max_query_tokens: int = Field(default=32, gt=0)
    """Longer names (a few species and acts of law) are left out."""


class TableSource(Closed):
    path: str
    """A file, or a folder of files of one format: parquet, CSV, TSV, JSON lines; text plain or
    packed (gz, bz2, zst)."""
    url: str | int | None = None
    """The column of addresses, by name or by place (the first is 1); found by its usual names, or
    by what it holds, when not given."""
    caption: str | int | None = None
    """The column of captions; found likewise."""
    page_url: str | int | None = None
    """The column of the pages that show the images; `page_url` when there is one."""
    format: Literal["parquet", "csv", "tsv", "jsonl"] | None = None
    """Told by the suffix when not given."""
    header: bool | None = None
    """Whether text begins with the names of its columns; it does not when its first row holds an
    address."""
    separator: str | None = Field(default=None, min_length=1, max_length=1)
    """Between the cells of text: a tab in TSV; else the comma, tab, semicolon or bar that parts the
    first row."""
    quotes: bool | None = None
    """Whether a cell in quotes may hold separators and line ends, as in CSV and not in TSV."""


class IngestSettings(Closed):
    wats: list[str] = []
    """Common Crawl WAT files, plain or gz; `*` stands for anything."""
    warcs: list[str] = []
    """Common Crawl WARC files, whose pages are read themselves; `*` too."""
    tables: list[TableSource] = []
    """Tables of addresses and captions."""
    max_url_chars: int = Field(default=2000, ge=1)
    tracking_parameters: list[str] = []
    """Parameters of addresses that make no other picture, beside those that are known to only
    track; `name*` stands for all that begin so."""
    min_caption_chars: int = Field(default=5, ge=1)
    max_caption_chars: int = Field(default=2000, ge=1, le=1 << 18)
    """At most so many that a caption has a megabyte: longer texts are read by no loader."""
    drop_file_names: bool = False
    """Drop captions that are a file's name or an address, and nothing else."""
    blocked_domains: list[str] = []
    """Files of one domain a line, plain or gz; each blocks what is under it too."""
    blocked_urls: list[str] = []
    """Files of one address a line, plain or gz, told apart as candidates are."""
    blocked_captions: list[str] = []
    """Files of one phrase a line, plain or gz; a caption that holds its tokens is dropped."""
    languages: list[str] = ["en"]
    """Captions in other languages are dropped; an empty list keeps every language."""
    min_language_score: Share = 0.5
    """fasttext's probability from which another language is believed."""
    filter_model: str | None = None
    """A fasttext model that scores captions, .bin or .ftz; `wit train-filter` makes one."""
    filter_label: str = "good"
    """Its label that is wanted, without `__label__`."""
    min_filter_score: Share = 0.5
    """The label's probability below which a caption is dropped."""
    captions_per_url: Literal["all", "longest", "best"] = "all"
    """The captions of one address that are kept: all, the longest, or the best by filter score."""

    @model_validator(mode="after")
    def _best_needs_a_score(self) -> Self:
        if self.captions_per_url == "best" and self.filter_model is None:
            raise ValueError("captions_per_url: `best` needs a filter_model to say so")
        return self


class MatchSettings(Closed):
    semantics: Literal["tokens", "metaclip"] = "tokens"
    """`tokens`: a query's tokens stand side by side in the caption. `metaclip`: MetaCLIP's rule, to
    compare with its results: the query stands between spaces, and case counts."""


class BalanceSettings(Closed):
    max_pairs_per_query: int = Field(default=20_000, gt=0, le=2**31 - 1)
    """CLIP, section 2.2."""
    semantics: Literal["union", "bernoulli", "rarest"] = "union"
    """Which pairs a cap keeps. `union`: a sample for each query, at most the cap, and all samples
    together. `bernoulli`: each of a query's pairs with the chance of cap to pairs, so that the cap
    holds on average (MetaCLIP). `rarest`: a pair counts for the rarest of its queries alone."""
    headroom: float = Field(default=1.6, ge=1.0, le=1000.0)
    """How many times the cap is drawn for download: about 62% of old links are alive."""
    pairs_per_raw_shard: int = Field(default=10_000, gt=0)
    """Pairs of one download task, on average."""
    seed: int = 0
    """Decides which pairs a crowded query keeps, never how many."""
