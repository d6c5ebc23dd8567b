"""Settings of what a model learns and how it is measured."""

from typing import Literal

from pydantic import Field

from pipeline.settings.closed import Closed


class LoaderSettings(Closed):
    pace = frozenset(
        {"workers", "batches_ahead", "damaged", "check_sums", "cache", "cache_bytes", "fetches"}
    )

    workers: int = Field(default=2, ge=0)
    """Processes that decode; the batches are the same for any number. With 0 the trainer's own
    process decodes."""
    batches_ahead: int = Field(default=2, gt=0)
    """Batches that are ready or in the making while one is learned from; each takes
    batch_size * side * side * 3 bytes of shared memory."""
    window: int = Field(default=2048, gt=0)
    """Shards that are mixed at a time, and must be at hand. Of a corpus that has no more, any order
    can come. See docs/loader.md."""
    damaged: Literal["skip", "refuse"] = "skip"
    """What to do with an image that cannot be decoded and a shard that is missing or changed: put
    another sample in its place and count it, or stop."""
    check_sums: bool = False
    """Compare each local shard with the sha256 in index.json when it is first opened. Shards that
    are fetched are always compared."""
    cache: str | None = None
    """The folder that keeps fetched shards; in the user's cache when not given."""
    cache_bytes: int = Field(default=100_000_000_000, gt=0)
    """Of fetched shards, at most; the least recently used ones go first."""
    fetches: int = Field(default=4, gt=0)
    """Remote shards that are fetched at a time, ahead of their use."""


class TrainSettings(Closed):
    pace = frozenset(
        {
            "device",
            "cpu_threads",
            "micro_batch_size",
            "loss_tile",
            "text_groups",
            "pool_last_block",
            "gradient_checkpointing",
            "compile",
            "parallel",
            "log_every_steps",
            "save_every_steps",
            "keep_checkpoints",
            "keep_every_steps",
            "tensorboard",
            "wandb_project",
            "peak_tflops",
            "wait_seconds",
        }
    )

    shards: str | None = None
    """A folder of shards, or an address that fsspec knows, instead of the run's own; anybody's
    WebDatasets will do."""
    model: str = "ViT-B/32"
    """One of the paper's nine, or `tiny` or `tiny-RN` for a laptop."""
    weights: str | None = None
    """Weights to begin with instead of fresh ones, as `wit evaluate --weights` reads them. The
    text encoder needs the vocabulary that they were trained with."""
    batch_size: int = Field(default=32_768, gt=0)
    """Pairs of a step, of all GPUs together."""
    micro_batch_size: int | None = Field(default=None, gt=0)
    """Pairs of a GPU that pass through the encoders at a time; all of them when not given. The
    gradient is that of the whole batch (GradCache); every encoder runs forward twice."""
    split_batch_norm: bool = False
    """Allow a micro-batch smaller than the batch in a ResNet, whose BatchNorm then normalises each
    micro-batch by itself: another function than that of the whole batch."""
    sync_batch_norm: bool = False
    """In a ResNet on several GPUs, normalise over the batch of all of them."""
    epochs: float = Field(default=32.0, gt=0)
    learning_rate: float | None = Field(default=None, gt=0)
    """The paper's for the model when not given."""
    warmup_steps: int = Field(default=2_000, ge=0)
    weight_decay: float = Field(default=0.2, ge=0)
    max_grad_norm: float | None = Field(default=None, gt=0)
    """Longer gradients are scaled down to this norm. CLIP does not."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the encoders; weights, sums of logits and the optimizer are fp32. `auto` is bf16 on a
    GPU and fp32 on a CPU."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile for each kind of block; `auto` is on for a GPU."""
    gradient_checkpointing: bool = False
    """Keep only each block's input for the backward pass and compute the rest again."""
    text_groups: int = Field(default=8, gt=0)
    """Groups of texts of like length, each cut behind its longest: padding is not computed."""
    pool_last_block: bool = True
    """Compute only the position that is read in the last block of a transformer."""
    loss_tile: int = Field(default=4_096, gt=0)
    """Rows and columns of the matrix of logits that are in memory at a time."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """With several processes (torchrun): whole weights in each, or their shards (FSDP2)."""
    wait_seconds: int = Field(default=600, gt=0)
    """How long a process waits for the others before it gives up."""
    vocabulary: str | None = None
    """A merges file in CLIP's layout (bpe_simple_vocab); trained from the corpus when not given."""
    merges: int = Field(default=48_894, gt=0)
    """Merges to train: CLIP's vocabulary of 49,408."""
    vocabulary_words: int = Field(default=5_000_000, gt=0, le=50_000_000)
    """Distinct words that the merges are learned from, at most: the most frequent ones. Learning
    takes some 400 bytes of the driver's memory for each."""
    save_every_steps: int = Field(default=1_000, gt=0)
    keep_checkpoints: int = Field(default=3, gt=0)
    """The newest; older ones are removed as new ones are written."""
    keep_every_steps: int | None = Field(default=None, gt=0)
    """Checkpoints of these steps are never removed; each must be one that is saved."""
    log_every_steps: int = Field(default=10, gt=0)
    tensorboard: bool = False
    """Write what is logged for TensorBoard too, into `tensorboard` beside the checkpoints."""
    wandb_project: str | None = None
    """Send what is logged to this project of Weights & Biases too."""
    peak_tflops: float | None = Field(default=None, gt=0)
    """Dense bf16 TFLOP/s of one GPU, for the MFU; known for usual ones."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cpu_threads: int = Field(default=0, ge=0)
    """Threads of each operation on the CPU; 0 leaves it to torch. On a busy machine take fewer
    than it has cores: an operation waits for its slowest thread."""
    seed: int = 0


class Robustness(Closed):
    """Accuracy under natural shifts of the images, and how it compares with that of others."""

    reference: str
    """The evaluation set that is not shifted: `imagenet`."""
    shifted: list[str] = Field(min_length=1)
    """The sets that are compared with it."""
    baselines: str | None = None
    """A CSV of other models' accuracies on both: model, reference, shifted; with a column `set`
    where the shifted sets are told apart. Without it there is no line to compare with."""


class EvaluateSettings(Closed):
    pace = frozenset({"device", "threads"})

    checkpoint: str | None = None
    """The checkpoint that is evaluated, as `step_000001000`; the newest when not given, or
    `newest`."""
    batch_size: int = Field(default=256, gt=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the encoders; `auto` is bf16 on a GPU and fp32 on a CPU. Embeddings are fp32."""
    threads: int = Field(default=0, ge=0)
    """That decode images; one a core with 0."""
    linear_probe: bool = True
    """Fit a logistic regression where a set names its `train_split`."""
    probe_halvings: int = Field(default=4, ge=0, le=8)
    """How often the search for C, which begins with 1e-6, 1e-4, ... 1e6, halves its steps beside
    the best: 4 times is CLIP's 8 steps a decade."""
    robustness: list[Robustness] = []
    """Sets whose accuracy is compared with that on another, as in CLIP, section 3.3."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
