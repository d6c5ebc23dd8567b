"""The seam: img2dataset as we use it, pinned to one version and held by a contract test.

Importing this module takes seconds, since img2dataset brings torch and wandb along: only the
tasks do it.
"""

import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Both are read at import; without them albumentations asks the package index for its version.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its modules that later Pythons will not have
    from img2dataset import downloader as img2dataset_downloader
    from img2dataset.downloader import Downloader
    from img2dataset.resizer import Resizer

from pipeline.download.reasons import FetchError, describe, message

__all__ = ["Downloader", "Resizer", "fetching_with", "img2dataset_downloader"]

_Answer = tuple[int, io.BytesIO | None, str | None]


@contextmanager
def fetching_with(fetch: Callable[[str], bytes]) -> Iterator[None]:
    """Inside, img2dataset downloads with `fetch`, which returns bytes or raises FetchError."""

    def download_image_with_retry(row: tuple[int, str], **_: object) -> _Answer:
        key, url = row
        try:
            return key, io.BytesIO(fetch(url)), None
        except FetchError as error:
            return key, None, str(error)
        except Exception as error:  # noqa: BLE001 - one URL may not end a shard of thousands
            return key, None, message("unexpected", describe(error))

    theirs = img2dataset_downloader.download_image_with_retry
    img2dataset_downloader.download_image_with_retry = download_image_with_retry
    try:
        yield
    finally:
        img2dataset_downloader.download_image_with_retry = theirs
