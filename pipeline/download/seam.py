"""The seam: img2dataset as we use it, pinned to one version and held by a contract test.

Only its Downloader is imported. The package itself would bring wandb, torch and albumentations,
which asks the package index for its version: four seconds and 300 MB in every worker.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from types import ModuleType
from typing import IO, Any

from pipeline.download.reasons import FetchError

__all__ = ["Downloader", "fetching_with", "img2dataset_downloader"]

_Answer = tuple[int, IO[bytes] | None, str | None]


def _imported_alone() -> Any:
    """img2dataset.downloader, without what its package imports for other uses.

    Nothing of it stays among the imported modules: who imports img2dataset gets all of it.
    """
    spec = importlib.util.find_spec("img2dataset")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("img2dataset is not installed: run `make setup`")
    package = ModuleType("img2dataset")
    package.__path__ = list(spec.submodule_search_locations)
    kept = {name: module for name, module in sys.modules.items() if _is_swapped(name)}
    for name in kept:
        del sys.modules[name]
    sys.modules.update({"img2dataset": package, "wandb": ModuleType("wandb")})
    try:
        return importlib.import_module("img2dataset.downloader")
    finally:
        for name in [name for name in sys.modules if _is_swapped(name)]:
            del sys.modules[name]
        sys.modules.update(kept)


def _is_swapped(name: str) -> bool:
    return name.partition(".")[0] in ("img2dataset", "wandb")


img2dataset_downloader = _imported_alone()
Downloader = img2dataset_downloader.Downloader
_turn = Lock()


@contextmanager
def fetching_with(answer: Callable[[], tuple[int, IO[bytes] | FetchError]]) -> Iterator[None]:
    """Inside, img2dataset downloads with `answer`, which chooses the image that is fetched next.

    img2dataset asks for its images in their order, and takes the answers in any order: that is
    enough to let images go first whose hosts are free. Threads of one process take turns.
    """

    def download_image_with_retry(row: tuple[int, str], **_: object) -> _Answer:  # noqa: ARG001
        key, found = answer()
        return (key, None, str(found)) if isinstance(found, FetchError) else (key, found, None)

    with _turn:
        theirs = img2dataset_downloader.download_image_with_retry
        img2dataset_downloader.download_image_with_retry = download_image_with_retry
        try:
            yield
        finally:
            img2dataset_downloader.download_image_with_retry = theirs
