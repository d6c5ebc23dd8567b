"""Sharding: a model spread over ranks, as whole copies (DDP) or in shards (FSDP2), and its state.

Whole weights and statistics are the same whatever they were spread over, so that a run goes on with
other ranks, or the other way of spreading.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from pipeline.settings import TrainSettings
from pipeline.trainer.model import CLIP
from pipeline.trainer.parallel import Ranks
from pipeline.trainer.resnet import Bottleneck, ModifiedResNet
from pipeline.trainer.transformer import ResidualBlock


def spread(model: CLIP, settings: TrainSettings, ranks: Ranks, *, half: bool) -> nn.Module:
    """`model`, on its device, as the ranks train it together; the first rank's weights count.

    `half` is whether its encoders compute in bf16.
    """
    if ranks.count == 1:
        return model
    if settings.sync_batch_norm:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    for tensor in (*model.parameters(), *model.buffers()):
        ranks.share(tensor.detach())
    if settings.parallel == "fsdp":
        return _sharded(model, settings, ranks, half=half)
    # Statistics of BatchNorm are each rank's own; a checkpoint keeps the first rank's.
    return DistributedDataParallel(
        model,
        device_ids=[ranks.device] if ranks.device.type == "cuda" else None,
        forward_sync_buffers=False,
        gradient_as_bucket_view=True,
        init_sync=False,
    )


def _sharded(model: CLIP, settings: TrainSettings, ranks: Ranks, *, half: bool) -> nn.Module:
    is_resnet = isinstance(model.visual, ModifiedResNet)
    mesh = init_device_mesh(ranks.device.type, (ranks.count,))
    # Gradients are summed in fp32, as weights and statistics are kept. BatchNorm's weights must be
    # of the type of its statistics, which stay fp32.
    image = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if half and not is_resnet else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    text = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if half else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    for part in model.visual.modules():
        if isinstance(part, ResidualBlock | Bottleneck):
            fully_shard(part, mesh=mesh, mp_policy=image)
    if is_resnet:
        fully_shard(model.visual, mesh=mesh, mp_policy=image)
    if settings.text_groups == 1:
        for block in model.transformer.resblocks:
            fully_shard(block, mesh=mesh, mp_policy=text)
    # With groups of texts each block of theirs runs once a group: to gather and scatter it as often
    # would cost more than to hold the text encoder whole during the step.
    # A scalar cannot be sharded; `average_rest` takes care of its gradient.
    fully_shard(model, mesh=mesh, mp_policy=text, ignored_params={model.logit_scale})
    return model


@contextmanager
def synchronised(model: nn.Module, on: bool) -> Iterator[None]:
    """Whether backward passes meanwhile average gradients over ranks, or add them up unsent."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(on)
        yield
        return
    with nullcontext() if on or not isinstance(model, DistributedDataParallel) else model.no_sync():
        yield


def average_rest(model: nn.Module, ranks: Ranks) -> None:
    """Average over ranks what FSDP2 leaves alone."""
    if isinstance(model, FSDPModule):
        for parameter in model.parameters():
            if parameter.grad is not None and not isinstance(parameter, DTensor):
                ranks.summed(parameter.grad).div_(ranks.count)


def parts(gradients: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """This rank's shards of those that are sharded, and those that it has whole."""
    shards = [each.to_local() for each in gradients if isinstance(each, DTensor)]
    return shards, [each for each in gradients if not isinstance(each, DTensor)]


def whole(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """All tensors, gathered one by one to the first rank's CPU; nothing on the others."""
    found = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if ranks.is_first:
            found[name] = full.detach().cpu()
    return found


def fill(tensors: Mapping[str, Tensor], kept: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Set `tensors` of every rank to the whole ones that the first rank has `kept`."""
    for name, tensor in tensors.items():
        with torch.no_grad():
            if isinstance(tensor, DTensor):
                full = torch.empty(tensor.shape, dtype=tensor.dtype, device=ranks.device)
            else:
                full = tensor.detach()
            if ranks.is_first:
                full.copy_(kept[name])
            ranks.share(full)
            if isinstance(tensor, DTensor):
                own = distribute_tensor(
                    full, tensor.device_mesh, tensor.placements, src_data_rank=None
                )
                tensor.to_local().copy_(own.to_local())
