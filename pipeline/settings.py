"""Every knob, in the order of the walk. Imports neither Spark nor torch.

One TOML file per run; a table of it per class here. Models are frozen and closed: an unknown or
mistyped key stops the run and is named with its path.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Closed(BaseModel):
    pace: ClassVar[frozenset[str]] = frozenset()
    """Keys that change how fast a stage runs and not what it makes: they make nothing stale."""
    further: ClassVar[frozenset[str]] = frozenset()
    """Keys that only ask for more: what a stage has made stays good, and it goes on from there."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


class SparkSettings(_Closed):
    master: str = "local[*]"
    """Where Spark runs, unless spark-submit has already said so."""
    partitions: int = Field(default=8, gt=0)
    """Partitions after a shuffle. Changes speed, never a byte of the result."""
    driver_memory: str = "4g"
    """Of the one process that a local session is."""


class DeriveSettings(_Closed):
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


class TableSource(_Closed):
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


class IngestSettings(_Closed):
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
    max_caption_chars: int = Field(default=2000, ge=1)
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


class MatchSettings(_Closed):
    semantics: Literal["tokens", "metaclip"] = "tokens"
    """`tokens`: a query's tokens stand side by side in the caption. `metaclip`: MetaCLIP's rule, to
    compare with its results: the query stands between spaces, and case counts."""


class BalanceSettings(_Closed):
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


OptOut = Literal["noai", "noimageai", "noml", "noindex", "noimageindex", "none", "tdm-reservation"]
"""How a site says that its images are not for uses like ours."""


class DownloadSettings(_Closed):
    pace = frozenset({"threads", "connections_per_host", "user_agent", "contact"})
    further = frozenset({"rounds", "retry_failures"})

    threads: int = Field(default=64, gt=0)
    """Fetches at a time in one task."""
    connections_per_host: int = Field(default=6, gt=0)
    """Of them at one host; browsers open as many. Other pairs go first meanwhile."""
    deadline_seconds: float = Field(default=20.0, gt=0)
    """For one image in all tries: DNS, connection, handshake, redirects, headers and body. Waiting
    for the next try does not count."""
    max_body_bytes: int = Field(default=20_000_000, gt=0)
    max_redirects: int = Field(default=5, ge=0)
    retries: int = Field(default=1, ge=0)
    """Further tries, with back-off, where another try can help."""
    max_wait_seconds: float = Field(default=30.0, ge=0)
    """The longest wait before a further try. A site that asks for a longer one (Retry-After) is
    left alone until a later round."""
    rounds: int = Field(default=3, gt=0)
    """After a round, queries short of their cap draw further pairs, and one more round asks
    for those alone. More rounds go on where the last one ended."""
    retry_failures: bool = True
    """In a later round, ask again for images of short queries whose failure may heal."""
    allow_hosts: list[str] = []
    """Hosts that may be fetched although their address is not public, as `name` or `name:port`."""
    user_agent: str = Field(default="webimagetext/0.1", pattern=r"^[ -~]+$")
    contact: str = Field(default="", pattern=r"^[ -~]*$")
    """An address that a site's owner can write to, sent with the user agent."""
    opt_outs: list[OptOut] = [
        "noai",
        "noimageai",
        "noml",
        "noindex",
        "noimageindex",
        "none",
        "tdm-reservation",
    ]
    """Honoured: directives of X-Robots-Tag, and `tdm-reservation: 1`."""
    image_side: int = Field(default=256, gt=0)
    """Larger images are shrunk until their shorter side is this many pixels."""
    min_side: int = Field(default=16, gt=0)
    """Pixels of the shorter side; smaller images are refused."""
    max_aspect_ratio: float = Field(default=4.0, ge=1.0)
    max_pixels: int = Field(default=50_000_000, gt=0)
    """Refused before decoding. WebP counts three times, AVIF twice: as their decoders hold it."""
    jpeg_quality: int = Field(default=90, ge=1, le=100)
    fingerprints: bool = True
    """Hash each image while its pixels are in memory, so that the fingerprint stage need not decode
    it again."""


class EvalSet(_Closed):
    name: str = Field(pattern=r"^[a-z0-9_]+$")
    path: str
    """A folder or a tar of `split/class/image` (or flat images, when only audited)."""
    split: str = "test"
    """The split that is scored, and kept out of the corpus."""
    train_split: str | None = None
    """The split that a linear probe is fitted on."""
    templates: list[str] = ["a photo of a {}."]
    """Prompts whose embeddings are averaged; `{}` is the class name."""
    scored: bool = True
    """False when the set is only looked for in the corpus."""


class FingerprintSettings(_Closed):
    variants: list[Literal["flip", "square", "crop90", "crop80", "pad"]] = [
        "flip",
        "square",
        "crop90",
        "pad",
    ]
    """Transformations of each eval image that are looked for, beside the original."""


class DedupSettings(_Closed):
    candidate_distance: int = Field(default=8, ge=0, le=16)
    """Bits of a 64-bit pHash that may differ for PDQ to have a look."""
    pdq_distance: int = Field(default=31, ge=0, le=256)
    """Bits of a 256-bit PDQ that may differ in an overlap: PDQ's own recommendation."""
    sure_phash_distance: int = Field(default=4, ge=0, le=16)
    """With a pHash this near, PDQ may differ by `wide_pdq_distance`."""
    wide_pdq_distance: int = Field(default=64, ge=0, le=256)
    min_quality: int = Field(default=50, ge=0, le=100)
    """PDQ's quality below which a hash says nothing and only equal pixels count."""
    corpus_phash_distance: int = Field(default=2, ge=0, le=3)
    """Bits that may differ between two near-duplicates of the corpus, before PDQ confirms."""
    placeholder_urls: int = Field(default=20, ge=2)
    """The same picture under this many addresses, with as many captions, is an error image."""


class ShardSettings(_Closed):
    samples_per_shard: int = Field(default=10_000, gt=0)


class AuditSettings(_Closed):
    confidence: float = Field(default=0.995, gt=0.0, lt=1.0)
    """Of the Clopper-Pearson intervals. CLIP, section 5."""
    max_thumbnails: int = Field(default=24, ge=0)
    """Pairs of pictures shown for each eval set."""


class TrainSettings(_Closed):
    pace = frozenset(
        {
            "device",
            "workers",
            "cpu_threads",
            "log_every_steps",
            "save_every_steps",
            "keep_checkpoints",
        }
    )

    model: str = "ViT-B/32"
    """One of the paper's nine, or `tiny` or `tiny-RN` for a laptop."""
    batch_size: int = Field(default=32_768, gt=0)
    epochs: float = Field(default=32.0, gt=0)
    learning_rate: float | None = None
    """The paper's for the model when not given."""
    warmup_steps: int = Field(default=2_000, ge=0)
    weight_decay: float = Field(default=0.2, ge=0)
    vocabulary: str | None = None
    """A merges file in CLIP's layout (bpe_simple_vocab); trained from the corpus when not given."""
    merges: int = Field(default=48_894, gt=0)
    """Merges to train: CLIP's vocabulary of 49,408."""
    save_every_steps: int = Field(default=1_000, gt=0)
    keep_checkpoints: int = Field(default=3, gt=0)
    """The newest; older ones are removed as new ones are written."""
    log_every_steps: int = Field(default=10, gt=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = Field(default=2, ge=0)
    """Threads that decode; the batches are the same for any number."""
    cpu_threads: int = Field(default=0, ge=0)
    """Threads of each operation on the CPU; 0 leaves it to torch. On a busy machine take fewer
    than it has cores: an operation waits for its slowest thread."""
    seed: int = 0


class EvaluateSettings(_Closed):
    batch_size: int = Field(default=256, gt=0)
    linear_probe: bool = True
    """Fit a logistic regression where a set names its `train_split`."""
    probe_strengths: int = Field(default=7, ge=1, le=96)
    """Values of C swept from 1e-6 to 1e6. CLIP sweeps 96."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Settings(_Closed):
    """A run: one TOML file."""

    spark: SparkSettings = SparkSettings()
    derive: DeriveSettings = DeriveSettings()
    ingest: IngestSettings = IngestSettings()
    match: MatchSettings = MatchSettings()
    balance: BalanceSettings = BalanceSettings()
    download: DownloadSettings = DownloadSettings()
    evalsets: list[EvalSet] = []
    fingerprint: FingerprintSettings = FingerprintSettings()
    dedup: DedupSettings = DedupSettings()
    shard: ShardSettings = ShardSettings()
    audit: AuditSettings = AuditSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [evalset.name for evalset in self.evalsets]
        if len(set(names)) < len(names) or "corpus" in names:
            raise ValueError("evalsets: every name must be its own, and not `corpus`")
        return self
