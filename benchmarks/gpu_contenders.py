"""GPU contenders: ours, open_clip's and transformers' model, each trained with its usual settings.

Each is built for a model and a batch, and takes a step on it. Where memory does not suffice it is
built again in the next of its `ways`, which take less.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.training import Ours
from pipeline.settings import TrainSettings
from pipeline.trainer.architectures import Architecture, architecture
from pipeline.trainer.feeding import normalised
from pipeline.trainer.parallel import Ranks
from pipeline.trainer.samples import Batch

GIB = 2**30
_RATE = 1e-5


@dataclass(frozen=True)
class Task:
    """What is to be trained, and where."""

    model: str
    pairs: int
    vocabulary: int
    ranks: Ranks
    folder: Path

    @property
    def device(self) -> torch.device:
        return self.ranks.device


class Contender(Protocol):
    """Something that can be trained, in a way that takes so much memory."""

    def step(self) -> object:
        """Begin a step; it need not have ended on the device."""
        ...


Way = dict[str, Any]
_WAYS: list[Way] = [{}, {"gradient_checkpointing": True}]


class OursOn:
    """`wit train`'s own step, with the settings that it has by itself."""

    name = "ours"

    def __init__(self, task: Task, batch: Batch, way: Way) -> None:
        settings = TrainSettings(model=task.model, batch_size=task.pairs, **way)
        self.batch = batch
        self.training = Ours(settings, task.vocabulary, task.folder, task.ranks)

    @staticmethod
    def ways(task: Task) -> list[Way]:
        halves = [task.pairs >> n for n in range(1, 6) if task.pairs >> n]
        is_split = architecture(task.model).patch is not None
        return [*_WAYS, *({"micro_batch_size": rows} for rows in halves if is_split)]

    def step(self) -> Tensor:
        return self.training.step(self.batch)


class Peer:
    """Another's model, trained in bf16 autocast with its own loss and plain AdamW."""

    def __init__(self, model: torch.nn.Module, task: Task, batch: Batch) -> None:
        arch = architecture(task.model)
        self.model: Any = model.to(task.device).train()
        self.optimizer = _plain_adamw(self.model, arch)
        self.images, self.tokens = _padded(batch, arch, task.device)

    @staticmethod
    def ways(_task: Task) -> list[Way]:
        return _WAYS

    def loss(self) -> Tensor:
        """The loss of its batch."""
        raise NotImplementedError

    def step(self) -> Tensor:
        self.optimizer.zero_grad()
        with torch.autocast(self.images.device.type, torch.bfloat16):
            loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return loss


class OpenClipOn(Peer):
    """open_clip as its main trains: amp_bf16, ClipLoss, AdamW, no compiler."""

    package = "open_clip"

    def __init__(self, task: Task, batch: Batch, way: Way) -> None:
        from open_clip.loss import ClipLoss
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

        arch = architecture(task.model)
        vision = CLIPVisionCfg(
            layers=arch.layers[0] if arch.patch else arch.layers,
            width=arch.width,
            patch_size=arch.patch,
            image_size=arch.resolution,
        )
        text = CLIPTextCfg(
            context_length=arch.context,
            vocab_size=task.vocabulary,
            width=arch.text_width,
            heads=arch.text_width // 64,
            layers=arch.text_layers,
        )
        model = CLIP(arch.embed, vision, text, quick_gelu=True, output_dict=True)
        super().__init__(model, task, batch)
        if way.get("gradient_checkpointing"):
            self.model.set_grad_checkpointing()
        self._of_pairs = ClipLoss(cache_labels=True)

    def loss(self) -> Tensor:
        loss: Tensor = self._of_pairs(**self.model(self.images, self.tokens))
        return loss

    def step(self) -> Tensor:
        loss = super().step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, 4.6052)
        return loss


class TransformersOn(Peer):
    """transformers' CLIPModel with its own loss, in bf16 autocast."""

    package = "transformers"

    def __init__(self, task: Task, batch: Batch, way: Way) -> None:
        from transformers import CLIPConfig, CLIPModel

        arch = architecture(task.model)
        if arch.patch is None:
            raise ValueError(f"transformers has no ResNet of CLIP's: {task.model}")
        vision = {
            "hidden_size": arch.width,
            "intermediate_size": 4 * arch.width,
            "num_hidden_layers": arch.layers[0],
            "num_attention_heads": arch.width // 64,
            "image_size": arch.resolution,
            "patch_size": arch.patch,
        }
        text = {
            "hidden_size": arch.text_width,
            "intermediate_size": 4 * arch.text_width,
            "num_hidden_layers": arch.text_layers,
            "num_attention_heads": arch.text_width // 64,
            "vocab_size": task.vocabulary,
            "max_position_embeddings": arch.context,
            "eos_token_id": task.vocabulary - 1,
            "bos_token_id": task.vocabulary - 2,
        }
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=arch.embed)
        super().__init__(CLIPModel(config), task, batch)
        if way.get("gradient_checkpointing"):
            self.model.gradient_checkpointing_enable()

    def loss(self) -> Tensor:
        given = {"input_ids": self.tokens, "pixel_values": self.images}
        loss: Tensor = self.model(**given, return_loss=True).loss
        return loss


def peers() -> list[Any]:
    """Of others, those whose package this environment has; the first is the peer."""
    return [peer for peer in (OpenClipOn, TransformersOn) if find_spec(peer.package)]


def named(contender: Any) -> str:
    """Its name, with its version."""
    if contender is OursOn:
        return contender.name
    package = {"open_clip": "open_clip_torch"}.get(contender.package, contender.package)
    return f"{contender.package} {version(package)}"


@dataclass(frozen=True)
class Fitted:
    """A contender, in the first of its ways that memory suffices for."""

    contender: Contender
    way: Way
    peak_bytes: int
    """That its steps took at most, what others hold not among it."""


def fit(
    ways: list[Way],
    build: Callable[[Way], Contender],
    device: torch.device,
    warm_up: int,
) -> Fitted | None:
    """Build, and take `warm_up` steps, in one way after another; None when none of them fits."""
    for way in ways:
        contender = None
        held = _in_use(device)
        try:
            contender = build(way)
            for _ in range(warm_up):
                contender.step()
            synchronize(device)
            return Fitted(contender, way, _peak(device) - held)
        except torch.OutOfMemoryError:
            pass
        # Outside of the handler: what it caught refers to the tensors that must go.
        del contender
        free(device)
    return None


def free(device: torch.device) -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _in_use(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def _plain_adamw(model: torch.nn.Module, arch: Architecture) -> torch.optim.AdamW:
    """The optimizer of open_clip's main."""
    kept: dict[bool, list[Tensor]] = {True: [], False: []}
    for weight in model.parameters():
        kept[weight.ndim < 2].append(weight)
    groups = [
        {"params": kept[True], "weight_decay": 0.0},
        {"params": kept[False], "weight_decay": 0.2},
    ]
    return torch.optim.AdamW(groups, lr=_RATE, betas=arch.betas, eps=arch.eps)


def _padded(batch: Batch, arch: Architecture, device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalised images and tokens of the whole context, as a loader hands them over."""
    images = normalised(batch.image_BHWC, device).contiguous()
    tokens = torch.zeros(len(batch.tokens_BL), arch.context, dtype=torch.int64, device=device)
    tokens[:, : batch.tokens_BL.shape[1]] = batch.tokens_BL
    return images, tokens
