"""Several processes learn what one would: three, and then two, of which this file starts three."""

import os
from contextlib import nullcontext
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_trainer_micro_batches import _batch, _model, _prepared
from torch.nn.parallel import DistributedDataParallel

from pipeline.trainer import text_groups
from pipeline.trainer.loss import contrastive
from pipeline.trainer.micro_batches import backward
from pipeline.trainer.parallel import ALONE, Ranks

PAIRS = 12
TILES = (1, 3, 5, 64)


def _contrasted(ranks, tile, dtype=torch.float64, half=False):
    """The loss of linear encoders over the pairs of all ranks, and their gradients on this one."""
    chance = torch.Generator().manual_seed(0)
    image_ND, text_ND = torch.randn(2, PAIRS, 6, generator=chance, dtype=dtype)
    weights = [*torch.randn(2, 6, 8, generator=chance, dtype=dtype), torch.tensor(2.0, dtype=dtype)]
    to_image, to_text, scale = (weight.clone().requires_grad_() for weight in weights)
    rows = PAIRS // ranks.count
    own = slice(ranks.rank * rows, (ranks.rank + 1) * rows)
    loss = contrastive(
        image_ND[own] @ to_image, text_ND[own] @ to_text, scale, tile=tile, ranks=ranks, half=half
    )
    loss.backward()
    return loss.detach(), to_image.grad, to_text.grad, scale.grad


def _in_micro_batches(ranks, micro):
    """The loss and the gradients that DistributedDataParallel leaves on this rank."""
    model = DistributedDataParallel(_model())
    rows = 12 // ranks.count
    own = slice(ranks.rank * rows, (ranks.rank + 1) * rows)
    image, tokens, lengths = (part[own] for part in _batch())
    loss = backward(
        model,
        image,
        tokens,
        lengths,
        micro=micro,
        tile=5,
        groups=2,
        ranks=ranks,
        prepare=_prepared,
        sync=lambda is_last: nullcontext() if is_last else model.no_sync(),
    )
    return loss, {name: weight.grad for name, weight in model.module.named_parameters()}


def _learn(rank, folder):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    text_groups.LEAST_ROWS = 1
    for count in (3, 2):
        if rank >= count:
            break
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/{count}",
            rank=rank,
            world_size=count,
            timeout=timedelta(seconds=120),
        )
        ranks = Ranks(rank, count, torch.device("cpu"))
        found = {tile: _contrasted(ranks, tile) for tile in TILES}
        found["half"] = _contrasted(ranks, 3, torch.float32, half=True)
        found["gathered"] = ranks.gather(torch.tensor([[rank, 1]]))
        if count == 2:
            found["micro"] = {micro: _in_micro_batches(ranks, micro) for micro in (None, 4)}
        torch.save(found, f"{folder}/{count}.{rank}.pt")
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """What each rank found, by the number of ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(_learn, (str(folder),), nprocs=3)
    return {
        count: [torch.load(folder / f"{count}.{rank}.pt") for rank in range(count)]
        for count in (2, 3)
    }


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("count", [2, 3])
def test_the_mean_of_the_gradients_over_ranks_is_that_of_one_process(learned, count, tile):
    losses, *gradients = zip(*(found[tile] for found in learned[count]), strict=True)
    expected_loss, *expected = _contrasted(ALONE, 64)
    for loss in losses:
        torch.testing.assert_close(loss, expected_loss, rtol=1e-13, atol=0)
    for parts, whole in zip(gradients, expected, strict=True):
        torch.testing.assert_close(sum(parts) / count, whole, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("count", [2, 3])
def test_halves_are_gathered_as_they_are(learned, count):
    losses, *gradients = zip(*(found["half"] for found in learned[count]), strict=True)
    expected_loss, *expected = _contrasted(ALONE, 64, torch.float32, half=True)
    assert losses[0] == losses[-1]
    torch.testing.assert_close(losses[0], expected_loss)
    for parts, whole in zip(gradients, expected, strict=True):
        torch.testing.assert_close(sum(parts) / count, whole, rtol=0.01, atol=0.001)


def test_ranks_gather_in_their_order(learned):
    for found in learned[3]:
        assert found["gathered"].tolist() == [[0, 1], [1, 1], [2, 1]]


@pytest.mark.parametrize("micro", [None, 4])
def test_micro_batches_on_two_ranks_give_the_gradients_of_the_whole_batch(learned, micro):
    model = _model()
    image, tokens, lengths = (part[:12] for part in _batch())
    expected = backward(model, image, tokens, lengths, prepare=_prepared)
    for found in learned[2]:
        loss, gradients = found["micro"][micro]
        torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
        for name, weight in model.named_parameters():
            torch.testing.assert_close(
                gradients[name], weight.grad, rtol=1e-12, atol=1e-12, msg=name
            )
