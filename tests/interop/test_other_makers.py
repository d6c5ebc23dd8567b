"""Our loader reads shards that others made."""

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import corpus
import environments
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asking import Strangers

from pipeline.trainer.samples import Batches, Samples
from pipeline.trainer.tokenizer import Tokenizer

VERSIONS = [name for name in environments.PINS if name.startswith("webdataset-")]
Told = list[corpus.Pair]
_TAR = shutil.which("gtar") or (shutil.which("tar") if sys.platform == "linux" else None)
_LONG = "long" * 40
"""More than the 100 bytes that a plain header has for a name."""


def _seen(folder: Path) -> list[tuple[str, str, str]]:
    """Key, caption and the image's digest of every sample; one batch of them is made too."""
    samples = Samples(folder)
    batches = Batches(samples, Tokenizer([]), batch_size=4, side=32, context=32, seed=0)
    batch = batches.at(0)
    assert tuple(batch.image_BHWC.shape) == (4, 32, 32, 3)
    assert len(set(batch.pair_ids)) == 4
    found = [samples[number] for number in range(len(samples))]
    return [(s.pair_id, s.caption, hashlib.sha256(s.image).hexdigest()) for s in found]


def _files(folder: Path, told: Told) -> Path:
    """The images and captions as files of a folder."""
    folder.mkdir()
    for pair in told:
        (folder / f"{pair.key}.jpg").write_bytes(pair.image)
        (folder / f"{pair.key}.txt").write_text(pair.caption)
    return folder


@pytest.mark.interop
@pytest.mark.parametrize("name", VERSIONS)
def test_what_a_shard_writer_wrote_is_read(
    name: str, strangers: Strangers, told: Told, tmp_path: Path
) -> None:
    images, folder, note = _files(tmp_path / "in", told), tmp_path / "out", tmp_path / "told.json"
    folder.mkdir()
    note.write_text(json.dumps([(p.key, f"{images}/{p.key}.jpg", p.caption) for p in told]))
    strangers.write(name, "webdataset_writes.py", folder, corpus.PER_SHARD, note)
    assert len(list(folder.glob("*.tar"))) == corpus.SHARDS
    assert _seen(folder) == [(pair.key, pair.caption, pair.digest) for pair in told]


@pytest.mark.skipif(_TAR is None, reason="there is no tar of GNU's here")
@pytest.mark.parametrize(
    ("kind", "stem"),
    [("v7", ""), ("ustar", ""), ("gnu", ""), ("gnu", _LONG), ("pax", ""), ("pax", _LONG)],
)
def test_what_tar_wrote_is_read(kind: str, stem: str, told: Told, tmp_path: Path) -> None:
    told = [corpus.Pair(stem + pair.key, pair.image, pair.caption) for pair in told]
    files, folder = _files(tmp_path / "in", told), tmp_path / "out"
    folder.mkdir()
    command = [str(_TAR), f"--format={kind}", "--sort=name", "-C", str(files), "-cf"]
    subprocess.run([*command, str(folder / "a.tar"), "."], check=True)
    expected = sorted((pair.key, pair.caption, pair.digest) for pair in told)
    assert _seen(folder) == expected


_DOWNLOAD = """
import json, sys
import img2dataset
img2dataset.download(**json.loads(sys.argv[1]))
"""


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """The folder's files on loopback."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.interop
def test_what_img2dataset_downloaded_is_read(told: Told, tmp_path: Path) -> None:
    files, folder, links = _files(tmp_path / "in", told), tmp_path / "out", tmp_path / "links"
    with _serving(files) as address:
        urls = [f"{address}/{pair.key}.jpg" for pair in told]
        captions = [pair.caption for pair in told]
        # One link that fails: it leaves a row and no sample.
        rows = {"url": [f"{address}/none.jpg", *urls], "caption": ["none", *captions]}
        pq.write_table(pa.table(rows), links)
        given = {"url_list": str(links), "output_folder": str(folder), "input_format": "parquet"}
        given |= {"caption_col": "caption", "output_format": "webdataset"}
        given |= {"resize_mode": "no", "disable_all_reencoding": True, "processes_count": 1}
        given |= {"number_sample_per_shard": 8, "enable_wandb": False}
        home = {"NO_ALBUMENTATIONS_UPDATE": "1", "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", _DOWNLOAD, json.dumps(given)],
            env={**os.environ, **home},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    # Its keys are its own, and a shard's samples stand in the order in which they came.
    found = [(caption, digest) for _, caption, digest in _seen(folder)]
    assert sorted(found) == sorted((pair.caption, pair.digest) for pair in told)
