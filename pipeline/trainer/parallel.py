"""Parallel: the processes that train one model together, each with a device of its own.

torchrun starts them and tells each its place by RANK, LOCAL_RANK and WORLD_SIZE; other launchers
that set these and MASTER_ADDR and MASTER_PORT will do.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from pipeline.errors import BadInput, WitError
from pipeline.settings import TrainSettings

T = TypeVar("T")
_WORD = "word"


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    count: int
    device: torch.device
    store: Store | None = field(default=None, repr=False, compare=False)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def gather(self, tensor: Tensor) -> Tensor:
        """`tensor` of every rank, one behind the other in their order; it carries no gradient.

        All ranks must call it, with equal shapes.
        """
        tensor = tensor.detach()
        if self.count == 1:
            return tensor
        gathered = tensor.new_empty((self.count, *tensor.shape))
        dist.all_gather(list(gathered), tensor.contiguous())
        return gathered.flatten(0, 1)

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place. No rank waits for its device."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def first(self, work: Callable[[], T]) -> T:
        """What `work` makes on the first rank, the only one that does it, for all. Its WitError is
        raised on all."""
        if self.count == 1:
            return work()
        told: list[Any] = [None, None]
        if self.is_first:
            try:
                told[0] = work()
            except WitError as error:
                told[1] = error
        dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
        if told[1] is not None:
            raise told[1]
        found: T = told[0]
        return found

    def all_of(self, told: T) -> list[T]:
        """What each rank tells, in their order; on every rank."""
        if self.count == 1:
            return [told]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, told)
        return found

    def share(self, tensor: Tensor) -> Tensor:
        """`tensor` as the first rank has it, in place."""
        if self.count > 1:
            dist.broadcast(tensor, src=0)
        return tensor

    def tell(self, word: dict[str, Any] | None) -> None:
        """Say once, as the first rank, what the others `hear`; later words are lost."""
        if self.store is not None and not self.store.check([_WORD]):
            self.store.set(_WORD, json.dumps(word))

    def hear(self) -> dict[str, Any] | None:
        """What the first rank tells, however long it takes for that: it may train a tokenizer.

        Raises RankLost where it has ended without a word.
        """
        store = self.store
        if store is None:
            return None
        while True:
            try:
                found: dict[str, Any] | None = json.loads(store.get(_WORD))
            except dist.DistStoreError:
                continue  # only its patience has ended
            except dist.DistError as error:
                raise RankLost(
                    f"the first process ended before the training began ({error})"
                ) from None
            return found


ALONE = Ranks(rank=0, count=1, device=torch.device("cpu"))
"""One process, on the CPU."""
_joined: list[Ranks] = []


class RankLost(WitError):
    """Another of the processes ended, or did not answer."""


def device_of(wanted: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device. Raises BadInput where there is no such device."""
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise BadInput("device: `cuda` was asked for, but none is found: set it to `auto` or `cpu`")
    return torch.device("cuda" if has_cuda and wanted != "cpu" else "cpu")


def alone(settings: TrainSettings) -> Ranks:
    """This process on its device, with no others."""
    return replace(ALONE, device=device_of(settings.device))


def here(settings: TrainSettings) -> Ranks:
    """This process among those that it has `joined`, or alone.

    Raises BadInput where others were started beside it, each of which would train by itself.
    """
    if not _joined and (_number("WORLD_SIZE") or 1) > 1:
        raise BadInput(
            "WORLD_SIZE says that several processes were started, and `wit train` is one: start "
            "them by `torchrun --nproc-per-node N -m jobs.train RUN`, or unset WORLD_SIZE"
        )
    return _joined[-1] if _joined else alone(settings)


@contextmanager
def joined(settings: TrainSettings) -> Iterator[Ranks]:
    """Be one of the processes that torchrun started, as long as this lasts; alone without it.

    Raises BadInput where there are too few GPUs for them, and RankLost where some never come.
    """
    count, rank, local = (_number(name) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"))
    if count is None or count < 2:
        yield alone(settings)
        return
    if rank is None or local is None:
        raise BadInput(
            "WORLD_SIZE is set and RANK or LOCAL_RANK is not: start the training with torchrun"
        )
    device = device_of(settings.device)
    if device.type == "cuda":
        found = torch.cuda.device_count()
        if local >= found:
            raise BadInput(
                f"{local + 1} processes or more were started on this machine, which has {found} "
                f"GPUs: give torchrun --nproc-per-node {found}"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    wait = timedelta(seconds=settings.wait_seconds)
    # What lies on a CPU (random numbers, names of samples) travels by gloo also among GPUs.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, _, _ = next(iter(rendezvous("env://", rank, count, timeout=wait)))
        store.set_timeout(wait)
        group = PrefixStore("group", store)
        dist.init_process_group(backend, store=group, rank=rank, world_size=count, timeout=wait)
    except (dist.DistError, ValueError) as error:
        raise RankLost(
            f"the {count} processes did not find one another ({error}): see that all were started, "
            "or raise train.wait_seconds"
        ) from None
    ranks = Ranks(rank, count, device, PrefixStore("words", store))
    _joined.append(ranks)
    try:
        yield ranks
    finally:
        _joined.pop()
        ranks.tell(None) if ranks.is_first else None
    # Behind a failure the others may never answer: then the end of the process ends the group.
    dist.destroy_process_group()


def _number(name: str) -> int | None:
    told = os.environ.get(name, "")
    return int(told) if told.isdecimal() else None
