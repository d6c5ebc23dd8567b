"""Failures: what torch says when memory ends or a rank is lost, in words that say what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from pipeline.errors import WitError
from pipeline.settings import TrainSettings
from pipeline.trainer.architectures import architecture
from pipeline.trainer.instruments import peak_memory
from pipeline.trainer.parallel import RankLost, Ranks

_CPU_MEMORY = re.compile(r"DefaultCPUAllocator: (?:can't|not enough)")
_SMALL_TILE = 1024
"""Tiles of so many rows and columns are 4 MB, and no smaller ones help."""
_LOST = re.compile(r"gloo|NCCL|Connection (?:closed|reset)|Broken pipe|[Tt]imed out")


class OutOfMemory(WitError):
    """A step takes more memory than there is."""


@contextmanager
def told_plainly(settings: TrainSettings, rows: int, ranks: Ranks) -> Iterator[None]:
    """Raise OutOfMemory and RankLost for what torch raises; `rows` are this rank's of a batch."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(_to_lower(settings, rows, ranks, str(error))) from None
    except dist.DistError as error:
        raise RankLost(_lost(ranks, str(error))) from None
    except RuntimeError as error:
        if _CPU_MEMORY.search(str(error)):
            raise OutOfMemory(_to_lower(settings, rows, ranks, str(error))) from None
        if ranks.count > 1 and _LOST.search(str(error)):
            raise RankLost(_lost(ranks, str(error))) from None
        raise


def _to_lower(settings: TrainSettings, rows: int, ranks: Ranks, said: str) -> str:
    micro = min(settings.micro_batch_size or rows, rows)
    hints = []
    if micro > 1:
        fewer = 1 << (micro // 2).bit_length() - 1
        resnet = architecture(settings.model).patch is None and not settings.split_batch_norm
        further = ", which a ResNet needs train.split_batch_norm for" if resnet else ""
        hints.append(f"set train.micro_batch_size to {fewer:,} (it is {micro:,}{further})")
    if not settings.gradient_checkpointing:
        hints.append("set train.gradient_checkpointing to true")
    if min(settings.loss_tile, settings.batch_size) > _SMALL_TILE:
        hints.append(f"lower train.loss_tile (it is {settings.loss_tile:,})")
    if ranks.count > 1 and settings.parallel == "ddp":
        hints.append("set train.parallel to 'fsdp'")
    hints.append(f"lower train.batch_size (it is {settings.batch_size:,}: another training)")
    peak = f"this process held at most {_gb(peak_memory(ranks.device))}; "
    if ranks.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(ranks.device)
        peak += f"of the GPU's {_gb(total)} {_gb(free)} are free; "
    asked = re.search(r"allocate (\d+ bytes|[\d.]+ \wiB)", said)
    return (
        f"out of memory on {ranks.device}{f' for {asked[1]} more' if asked else ''} ({peak}it "
        f"computes {rows:,} pairs a step): {', or '.join(hints)}; `wit train` goes on from "
        "the last checkpoint"
    )


def _gb(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _lost(ranks: Ranks, said: str) -> str:
    return (
        f"process {ranks.rank} of {ranks.count} lost the others, one of which ended or did not "
        f"answer ({' '.join(said.split()[:24])}): see what it said last, and run the same command "
        "again; it goes on from the last checkpoint"
    )
