"""What several modules of tests begin with. Torch is imported only where it is asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from loopback import Server


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for a busy core cost a small model more than they give."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of any size, in batches that a test can afford."""
    monkeypatch.setattr("pipeline.trainer.text_groups.LEAST_ROWS", 1)


@pytest.fixture
def server() -> "Iterator[Server]":
    """A server of the shards of store_cases."""
    from loopback import Server
    from store_cases import SHARDS

    with Server(SHARDS) as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where a store may keep what it fetches; nothing is there."""
    return tmp_path / "cache"
