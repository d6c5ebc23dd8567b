"""Our loader reads shards that others made."""

import hashlib
import http.server
import io
import itertools
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
import webdataset
from asking import Strangers
from PIL import Image

from pipeline.tokenizer import Tokenizer
from pipeline.trainer.samples import Batches, Samples

VERSIONS = [name for name in environments.PINS if name.startswith("webdataset-")]
Told = list[corpus.Pair]
_TAR = shutil.which("gtar") or (shutil.which("tar") if sys.platform == "linux" else None)
_LONG = "long" * 40
"""More than the 100 bytes that a plain header has for a name."""


def _seen(folder: Path) -> list[tuple[str, str, str]]:
    """Key, caption and the image's digest of every sample; a batch of all of them is made too."""
    samples = Samples(folder)
    count = len(samples)
    batches = Batches(samples, Tokenizer([]), batch_size=count, side=32, context=32, seed=0)
    batch = batches.at(0)
    found = [samples[number] for number in range(count)]
    # Where an image could not be decoded, another sample would stand in its place.
    assert sorted(batch.pair_ids) == sorted(sample.pair_id for sample in found)
    assert tuple(batch.image_BHWC.shape) == (count, 32, 32, 3)
    return [(s.pair_id, s.caption, hashlib.sha256(s.image).hexdigest()) for s in found]


def _files(folder: Path, told: Told) -> Path:
    """The images and captions as files of a folder."""
    folder.mkdir()
    for pair in told:
        (folder / f"{pair.key}.jpg").write_bytes(pair.image)
        (folder / f"{pair.key}.txt").write_text(pair.caption)
    return folder


_KINDS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


def _of_all_kinds(told: Told, folder: Path) -> tuple[list[Path], Told]:
    """The images as files, by turns of each kind, and the pairs with those bytes."""
    folder.mkdir()
    files, pairs = [], []
    for pair, suffix in zip(told, itertools.cycle(_KINDS), strict=False):
        file = folder / f"{pair.key}.{suffix}"
        Image.open(io.BytesIO(pair.image)).save(file, _KINDS[suffix])
        files.append(file)
        pairs.append(corpus.Pair(pair.key, file.read_bytes(), pair.caption))
    return files, pairs


@pytest.mark.interop
@pytest.mark.parametrize("member", ["txt", "json"])
@pytest.mark.parametrize("name", VERSIONS)
def test_what_a_shard_writer_wrote_is_read(
    name: str, member: str, strangers: Strangers, told: Told, tmp_path: Path
) -> None:
    files, pairs = _of_all_kinds(told, tmp_path / "in")
    folder, note = tmp_path / "out", tmp_path / "told.json"
    folder.mkdir()
    rows = [(pair.key, str(file), pair.caption) for pair, file in zip(pairs, files, strict=True)]
    note.write_text(json.dumps(rows))
    strangers.write(name, "webdataset_writes.py", folder, corpus.PER_SHARD, note, member)
    assert len(list(folder.glob("*.tar"))) == corpus.SHARDS
    assert _seen(folder) == [(pair.key, pair.caption, pair.digest) for pair in pairs]


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
    # Of `.`, every name begins with it, and so does every key: so it is for webdataset too.
    expected = sorted((f"./{pair.key}", pair.caption, pair.digest) for pair in told)
    assert _seen(folder) == expected
    theirs = webdataset.WebDataset(str(folder / "a.tar"), shardshuffle=False)
    assert [sample["__key__"] for sample in theirs] == [key for key, _, _ in expected]


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
