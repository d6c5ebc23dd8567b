"""Settings of what happens to images: download, fingerprints, dedup, shards, audit."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.settings.closed import Closed

OptOut = Literal["noai", "noimageai", "noml", "noindex", "noimageindex", "none", "tdm-reservation"]
"""How a site says that its images are not for uses like ours."""
Variant = Literal[
    "flip",
    "flip_square",
    "flip_crop90",
    "square",
    "pad",
    "border",
    "border_black",
    "crop90",
    "crop80",
    "left",
    "right",
    "cut_n",
    "cut_e",
    "cut_s",
    "cut_w",
    "crop95_nw",
    "crop95_ne",
    "crop95_se",
    "crop95_sw",
    "crop90_nw",
    "crop90_n",
    "crop90_ne",
    "crop90_e",
    "crop90_se",
    "crop90_s",
    "crop90_sw",
    "crop90_w",
]
"""As in pipeline/variants.py."""


class DownloadSettings(Closed):
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


Format = Literal[
    "auto", "folder", "tar", "webdataset", "parquet", "cifar", "stl10", "idx", "hashes"
]
"""How an evaluation set lies on disk; docs in pipeline/evalsets."""

Metric = Literal[
    "accuracy", "mean_per_class", "map_11_point", "mean_top1_top5", "roc_auc", "recall_at_k"
]
"""What is reported of a set. CLIP, table 9."""


class EvalSet(Closed):
    name: str = Field(pattern=r"^[a-z0-9_]+$")
    """A name that `wit evalsets` lists brings that set's `split`, `metric` and `scored` along."""
    path: str
    """A folder, a tar, a table or arrays, as sets are distributed; see `format`."""
    format: Format = "auto"
    """Told by the names of the files when `auto`: images in folders or a tar (`split/class/image`,
    `class/image`, or flat when only audited), WebDataset tars, parquet or Arrow as Hugging Face
    writes it, CIFAR's and STL-10's arrays, IDX (MNIST), or a list of hashes."""
    split: str = "test"
    """The split that is scored, and kept out of the corpus."""
    train_split: str | None = None
    """The split that a linear probe is fitted on."""
    validation_split: str | None = None
    """The split that chooses the probe's C; it is then fitted on this one too. A fifth of
    `train_split` chooses when not given."""
    image_column: str | None = None
    """Of a table; found by its type when not given."""
    label_column: str | None = None
    """Of a table; found by its name when not given."""
    captions: str | None = None
    """A table of the set's captions, for which the corpus is searched too; parquet, CSV, TSV or
    JSON lines."""
    purpose: Literal["evaluation", "blocklist", "opt-out"] = "evaluation"
    """Why the corpus must not hold these images."""
    metric: Metric = "accuracy"
    templates: list[str] | None = None
    """Prompts whose embeddings are averaged; `{}` is the class name. CLIP's for its 27 sets and
    those that share ImageNet's classes when not given, and `a photo of a {}.` for others."""
    classes: list[str | list[str]] | dict[str, str | list[str]] | None = None
    """The names of classes in prompts: a list in the order of the numbers, or a table by label. A
    class may have several. CLIP's for its 27 sets when not given; for others the labels."""
    labels: str | None = None
    """Where the classes of images stand, when folders do not tell: a table with the columns `image`
    and `label` (parquet, CSV, TSV or JSON lines; several rows for several classes), or the folder
    ImageSets/Main of Pascal VOC."""
    scored: bool = True
    """False when the set is only looked for in the corpus; so unless said otherwise with another
    purpose than evaluation, and for hashes."""

    @model_validator(mode="after")
    def _validates_a_training(self) -> Self:
        if self.validation_split is not None and self.train_split is None:
            raise ValueError("validation_split chooses a probe's C: name its train_split too")
        return self

    @model_validator(mode="before")
    @classmethod
    def _takes_the_registrys_defaults(cls, values: Any) -> Any:
        # Not at the top: the readers beside the registry know these settings.
        from pipeline.evalsets.registry import defaults

        if not isinstance(values, dict):
            return values
        is_avoided = values.get("purpose", "evaluation") != "evaluation"
        has_no_images = values.get("format") == "hashes"
        unscored = {"scored": False} if is_avoided or has_no_images else {}
        return {**defaults(values.get("name")), **unscored, **values}


class FingerprintSettings(Closed):
    variants: list[Variant] = [
        *("flip", "flip_crop90", "square", "pad", "border", "border_black", "crop90", "crop80"),
        *("crop95_nw", "crop95_ne", "crop95_se", "crop95_sw"),
        *("cut_n", "cut_e", "cut_s", "cut_w", "left", "right"),
    ]
    """Transformations of each eval image that are looked for, beside the original. What each buys
    and costs: docs/decisions.md#variants."""


class DedupSettings(Closed):
    candidate_distance: int = Field(default=8, ge=0, le=16)
    """Bits of a 64-bit pHash that may differ for PDQ to have a look."""
    candidate_pdq_distance: int = Field(default=90, ge=0, le=256)
    """Bits of a 256-bit PDQ that may differ for the pixels to have a second look. Of what pHash
    finds near by chance, five in six lie beyond."""
    pdq_distance: int = Field(default=31, ge=0, le=256)
    """Bits of a 256-bit PDQ that may differ in an overlap: PDQ's own recommendation."""
    min_quality: int = Field(default=50, ge=0, le=100)
    """PDQ's quality below which a hash says nothing and only equal pixels count."""
    min_similarity: float = Field(default=0.7, ge=0, le=1)
    """Correlation of the fine detail, laid over one another, that makes a candidate an overlap;
    drawings that the hashes confirm must reach it too."""
    corpus_phash_distance: int = Field(default=2, ge=0, le=3)
    """Bits that may differ between two near-duplicates of the corpus, before PDQ confirms."""
    references_per_image: int = Field(default=20, gt=0)
    """Overlaps told of one image of the corpus, at most: the nearest. A flat one is near thousands
    of flat ones. Images that reach it are counted."""
    keep_captions: Literal["one", "all"] = "one"
    """With `all`, the image that represents equals and near-duplicates keeps the captions of all of
    them, as `alternatives` in its shard's JSON."""
    decisions: str | None = None
    """A file that the audit's page exported: what was decided there of overlaps by hand."""
    placeholder_urls: int = Field(default=20, ge=2)
    """The same picture under this many addresses, with as many captions, is an error image."""


class ShardSettings(Closed):
    samples_per_shard: int = Field(default=10_000, gt=0)
    """The last shard holds what is left. 10,000 of 256 pixels are about 250 MB."""


class AuditSettings(Closed):
    confidence: float = Field(default=0.995, gt=0.0, lt=1.0)
    """Of the Clopper-Pearson intervals. CLIP, section 5."""
    max_thumbnails: int = Field(default=24, ge=0)
    """Pairs of pictures shown for each eval set."""
    page_thumbnails: int = Field(default=1500, ge=0)
    """Pairs shown on the whole page, shared by the sets with overlaps: it stays a page."""
    decisions: str | None = None
    """A file of decisions that the page exported: thresholds of sets and single pairs, laid over
    the verdicts."""
    predictions: list[str] = []
    """Files of what models answered for eval images: .csv, .jsonl or .parquet."""
    trained_on: Literal["downloaded", "shards"] = "downloaded"
    """With predictions: an image overlaps when it was found in what was downloaded, or when the
    shards still hold it, which a model trained on them saw."""
    significance: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Shared by all tests (Bonferroni). CLIP, section 5."""
    power: float = Field(default=0.8, gt=0.0, lt=1.0)
    """Chance with which the smallest gain in accuracy that is told of is found."""
    gain: float = Field(default=0.05, gt=0.0, lt=1.0)
    """In accuracy on overlapping images: the chance to find it is told."""
