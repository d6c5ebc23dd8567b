"""Index: samples found in a tar that somebody else made, beside tarfile; large indexes opened.

python -m benchmarks.index. CPU time; the tars are drawn, and webdataset writes them.
"""

import json
import os
import platform
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from webdataset import TarWriter

from benchmarks.form import Figure, alternate, publish
from pipeline.settings import LoaderSettings
from pipeline.trainer.index import open_index
from pipeline.trainer.stores import open_store
from pipeline.trainer.walked import walk, walk_carefully

SAMPLES, IMAGE_BYTES = 10_000, 20_000
LISTED, WALKED = 40_000, 1_000
"""Shards: 400 million samples, by 10,000; and as many as somebody's corpus may have."""
LOADER = LoaderSettings()


def drawn_tar(path: Path, samples: int) -> Path:
    """A shard as img2dataset leaves it, with noise for images."""
    chance = np.random.default_rng(0)
    told = {"url": "https://example.org/" + "x" * 80, "status": "success", "width": 256}
    with TarWriter(str(path)) as tar:
        for number in range(samples):
            image = chance.bytes(int(chance.integers(IMAGE_BYTES // 2, IMAGE_BYTES * 3 // 2)))
            tar.write(
                {"__key__": f"{number:09d}", "jpg": image, "json": told, "txt": f"no {number}"}
            )
    return path


def listed_folder(folder: Path) -> Path:
    """A folder with the index.json of LISTED shards, and none of them."""
    folder.mkdir()
    names = [f"{number:06d}.tar" for number in range(LISTED)]
    told = {"samples": 10_000, "bytes": 250_000_000, "sha256": "0" * 64}
    text = json.dumps({"shards": [{"name": name, **told} for name in names]})
    (folder / "index.json").write_text(text)
    return folder


def walked_folder(folder: Path) -> Path:
    """A folder of WALKED shards that were looked through before."""
    folder.mkdir()
    first = drawn_tar(folder / "0.tar", 10)
    for number in range(1, WALKED):
        os.link(first, folder / f"{number}.tar")
    open_index(open_store(folder, LOADER), LOADER)
    return folder


def members_of(tar: Path) -> int:
    """What tarfile makes of it."""
    with tarfile.open(tar) as opened:
        return len(opened.getmembers())


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        tar = drawn_tar(Path(made, "a.tar"), SAMPLES)
        folders = {
            f"an index.json of {LISTED:,} shards opened": listed_folder(Path(made, "listed")),
            f"{WALKED:,} shards of others opened again": walked_folder(Path(made, "walked")),
        }
        assert walk(tar) == walk_carefully(tar)
        work: dict[str, Callable[[], object]] = {
            "short": lambda: walk(tar),
            "careful": lambda: walk_carefully(tar),
            "tarfile": lambda: members_of(tar),
        }
        rates = {name: SAMPLES / spent for name, spent in alternate(work).items()}
        peer = (rates["tarfile"], f"tarfile {platform.python_version()}")
        figures = [
            Figure("samples found", rates["short"], "samples/s", *peer, goal=10),
            Figure("samples found member by member", rates["careful"], "samples/s", *peer),
        ]
        for name, folder in folders.items():

            def opened(folder: Path = folder) -> object:
                return open_index(open_store(folder, LOADER), LOADER)

            seconds = alternate({name: opened})[name]
            figures.append(Figure(name, seconds, "s", goal=1, at_most=True))
        publish("index", figures)


if __name__ == "__main__":
    main()
