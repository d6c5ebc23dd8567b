"""Train: steps on a CPU, beside open_clip's model, loss and optimizer of the same sizes.

python -m benchmarks.train [DATA], where DATA holds captions/*.parquet and OpenAI's vocabulary, for
the lengths of texts; without it they are those of alt-texts of the web. open_clip is that of
`make test-interop`; without it ours is measured alone. Both learn from the same pairs and begin
with the same weights, and it is an error when their losses differ.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.form import Figure, alternate, publish, seconds_told
from benchmarks.peers import Peer, python_of
from benchmarks.training import VOCABULARY, Lengths, Ours, drawn, lengths, lengths_of
from pipeline.settings import TrainSettings
from pipeline.trainer.architectures import architecture
from pipeline.trainer.feeding import normalised
from pipeline.trainer.parallel import ALONE
from pipeline.trainer.samples import Batch

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
_ALIKE = {"fp32": 1e-4, "bf16": 0.05}
"""How far losses of the same weights may be apart."""
_WITHOUT: dict[str, dict[str, Any]] = {
    "text_groups = 1": {"text_groups": 1},
    "pool_last_block = false": {"pool_last_block": False},
    "gradient_checkpointing = true": {"gradient_checkpointing": True},
    "micro_batch_size = 16": {"micro_batch_size": 16},
}
_NONE = {"text_groups": 1, "pool_last_block": False}


@dataclass(frozen=True)
class Case:
    """A model, and how it is trained."""

    model: str
    pairs: int
    vocabulary: int = VOCABULARY
    precision: str = "fp32"
    rounds: int = 3
    savings: bool = False
    """Whether ours is also measured without each of its savings, and with what saves memory."""


CASES = (
    Case("ViT-B/32", 32, savings=True),
    Case("ViT-B/32", 32, precision="bf16"),
    Case("tiny", 256, vocabulary=2514, rounds=9, savings=True),
    Case("RN50", 8),
)


def main(data: Path | None, cases: tuple[Case, ...] = CASES) -> None:
    torch.set_num_threads(THREADS)
    python = python_of("open_clip")
    if python is None:
        print("open_clip is not built (`make test-interop`): ours is measured alone")
    peer = None if python is None else Peer(python, "open_clip_steps.py")
    figures: list[Figure] = []
    try:
        for case in cases:
            figures += measured(case, data, peer)
    finally:
        if peer is not None:
            peer.close()
    publish("train", figures)


def measured(case: Case, data: Path | None, peer: Peer | None) -> list[Figure]:
    """Pairs per CPU second of ours and of the peer, then of ours with and without each saving."""
    context = architecture(case.model).context
    if data is None:
        lengths_B = lengths(case.pairs, 0, context)
    else:
        lengths_B = lengths_of(data, case.pairs, 0, context)
    batch = drawn(case.model, lengths_B, case.vocabulary)
    contenders: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        ours = _ours(case, Path(scratch))
        told = {}
        if peer is not None:
            told = peer.ask(do="make", **_for_the_peer(case, ours, lengths_B, Path(scratch)))
        losses = [ours.step(batch).item()]
        contenders["ours"] = partial(_spent, ours, batch)
        if peer is not None:
            losses.append(peer.ask(do="step")["loss"])
            contenders["peer"] = partial(_asked, peer)
        _check_alike(case, losses)
        if case.savings:
            padded = drawn(case.model, lengths_B, case.vocabulary, padded=True)
            for name, changes in _WITHOUT.items():
                contenders[name] = partial(_spent, ours, batch, **changes)
            contenders["no saving"] = partial(_spent, ours, padded, **_NONE)
        seconds = alternate(contenders, rounds=case.rounds, measure=seconds_told)
    rate = {name: case.pairs / spent for name, spent in seconds.items()}
    print(case, *(f"{name}: {found:,.2f}" for name, found in rate.items()), sep="\n  ", flush=True)
    what, unit = f"{case.model}, {case.pairs} pairs, {case.precision}", "pairs/CPU-s"
    if peer is None:
        figures = [Figure(what, rate["ours"], unit)]
    else:
        name = f"open_clip {told['version']}"
        figures = [Figure(what, rate["ours"], unit, rate["peer"], name, goal=1.0)]
    others = [name for name in contenders if name not in ("ours", "peer")]
    figures += [Figure(f"{what}: all savings", rate["ours"], unit, rate[n], n) for n in others]
    return figures


def _ours(case: Case, folder: Path) -> Ours:
    settings = TrainSettings(
        model=case.model,
        batch_size=case.pairs,
        precision=case.precision,  # type: ignore[arg-type]
        device="cpu",
    )
    return Ours(settings, case.vocabulary, folder, ALONE)


def _for_the_peer(case: Case, ours: Ours, lengths_B: Lengths, folder: Path) -> dict[str, Any]:
    """Our weights, and the pairs as its loader would hand them over: padded and normalised."""
    batch = drawn(case.model, lengths_B, case.vocabulary, padded=True)
    torch.save(ours.clip.state_dict(), folder / "weights.pt")
    images = normalised(batch.image_BHWC, torch.device("cpu")).contiguous()
    np.save(folder / "images.npy", images.numpy())
    np.save(folder / "tokens.npy", batch.tokens_BL.numpy())
    arch = architecture(case.model)
    return {
        "sizes": {**asdict(arch), "vocabulary": case.vocabulary, "lr": 1e-5},
        "weights": str(folder / "weights.pt"),
        "images": str(folder / "images.npy"),
        "tokens": str(folder / "tokens.npy"),
        "precision": "fp32" if case.precision == "fp32" else "amp_bf16",
        "threads": THREADS,
    }


def _check_alike(case: Case, losses: list[float]) -> None:
    apart = max(losses) - min(losses)
    if apart > _ALIKE[case.precision]:
        raise RuntimeError(f"{case}: not the same training: the first losses are {losses}")


def _spent(ours: Ours, batch: Batch, **changes: Any) -> float:
    before = time.process_time()
    ours.step(batch, **changes).item()
    return time.process_time() - before


def _asked(peer: Peer) -> float:
    return float(peer.ask(do="step")["cpu"])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
