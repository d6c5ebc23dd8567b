"""Other people's packages read our shards, as they lie in the folder: every sample, every byte."""

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import corpus
import environments
import pytest
from asking import Strangers
from PIL import Image

from pipeline.trainer.samples import Samples

pytestmark = pytest.mark.interop
VERSIONS = [name for name in environments.PINS if name.startswith("webdataset-")]
Told = list[corpus.Pair]


def _seen(samples: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(sample["key"], sample["caption"], sample["digest"]) for sample in samples]


def _put_in(told: Told) -> list[tuple[str, str, str]]:
    return [(pair.key, pair.caption, pair.digest) for pair in told]


def _sizes(told: Told) -> list[list[int]]:
    return [list(Image.open(io.BytesIO(pair.image)).size) for pair in told]


def _tars(shards: Path) -> list[Path]:
    found = sorted(shards.glob("*.tar"))
    assert len(found) == corpus.SHARDS
    return found


def _json_in(shards: Path) -> list[Any]:
    """The JSON of every sample, as it stands in the tars."""
    found = []
    for path in _tars(shards):
        with tarfile.open(path) as tar:
            members = [member for member in tar if member.name.endswith(".json")]
            found += [json.loads(tar.extractfile(member).read()) for member in members]  # type: ignore[union-attr]
    return found


def _braces(shards: Path) -> str:
    return f"{shards}/{{000000..{corpus.SHARDS - 1:06d}}}.tar"


@pytest.mark.parametrize("name", VERSIONS)
def test_webdataset_reads_what_was_put_in(
    name: str, strangers: Strangers, shards: Path, told: Told
) -> None:
    samples = strangers.read(name, "webdataset_reads.py", *_tars(shards))
    assert _seen(samples) == _put_in(told)
    assert [sample["size"] for sample in samples] == _sizes(told)
    assert {tuple(sample["members"]) for sample in samples} == {("jpg", "json", "txt")}
    assert [sample["json"]["pair_id"] for sample in samples] == [pair.key for pair in told]


@pytest.mark.parametrize("how", ["streaming", "whole"])
def test_datasets_reads_what_was_put_in_by_the_name_of_the_folder(
    how: str, strangers: Strangers, shards: Path, told: Told
) -> None:
    found = strangers.read("datasets", "datasets_reads.py", how, shards)
    samples = found["samples"]
    assert found["columns"] == ["__key__", "__url__", "jpg", "json", "txt"]
    assert _seen(samples) == _put_in(told)
    assert [sample["size"] for sample in samples] == _sizes(told)
    # The first samples do not know their page; nor, then, may a guess from them be made.
    assert samples[0]["json"]["page_url"] is None
    assert [sample["json"] for sample in samples] == _json_in(shards)


@pytest.mark.parametrize("how", ["streaming", "whole"])
def test_datasets_reads_a_tar_alone_whose_first_samples_know_all(
    how: str, strangers: Strangers, shards: Path, told: Told
) -> None:
    last = told[corpus.PER_SHARD * (corpus.SHARDS - 1) :]
    found = strangers.read("datasets", "datasets_reads.py", how, _tars(shards)[-1])
    assert _seen(found["samples"]) == _put_in(last)


@pytest.mark.parametrize("workers", [0, 2])
def test_open_clip_trains_on_as_many_samples_as_sizes_json_tells(
    workers: int, strangers: Strangers, shards: Path
) -> None:
    batch = 4
    found = strangers.read("open_clip", "open_clip_reads.py", _braces(shards), batch, workers)
    told = sum(json.loads((shards / "sizes.json").read_text()).values())
    # It gives each worker as many batches, and so rounds up.
    batches = -(-told // batch // max(1, workers)) * max(1, workers)
    assert told == corpus.PAIRS
    assert (found["batches"], found["samples"]) == (batches, batches * batch)
    assert found["shapes"] == [[[batch, 3, 64, 64], [batch, 77]]] * batches


def test_open_clip_sees_every_pair_once_in_an_epoch(
    strangers: Strangers, shards: Path, told: Told
) -> None:
    found = strangers.read("open_clip", "open_clip_reads.py", _braces(shards), 4, 0)
    assert sorted(map(tuple, found["seen"])) == sorted(
        (hashlib.sha256(Image.open(io.BytesIO(pair.image)).tobytes()).hexdigest(), pair.caption)
        for pair in told
    )


def test_energon_prepares_the_folder_and_reads_what_was_put_in(
    strangers: Strangers, shards: Path, told: Told, tmp_path: Path
) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    fields = json.dumps({"image": "jpg", "caption": "txt"})
    options = ["--non-interactive", "--split-ratio", "1,0,0", "--num-workers", "1"]
    options += ["--sample-type", "CaptioningSample", "--field-map", fields]
    strangers.run("energon", "energon", "prepare", *options, folder)
    samples = strangers.read("energon", "energon_reads.py", folder)
    assert _seen(samples) == _put_in(told)
    assert [sample["size"] for sample in samples] == _sizes(told)
    # What it lays into the folder is in nobody's way.
    ours = Samples(folder)
    assert [ours[number].pair_id for number in range(len(ours))] == [pair.key for pair in told]
