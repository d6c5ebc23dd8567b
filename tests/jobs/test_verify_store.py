"""wit verify of shards in a store: the same findings as on a disk"""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from jobs.__main__ import app
from pipeline import storage
from pipeline.storage import Place
from tests.pipeline import verify_shards as made
from tests.s3_server import BUCKET, S3Server


def _verify(*words: object) -> Result:
    return CliRunner().invoke(app, ["verify", "--workers", "1", *[str(word) for word in words]])


def _findings(where: Place, report: Path) -> Any:
    told = _verify(where, "--report", report)
    assert told.exit_code == 1, told.output
    return json.loads(report.read_text())["findings"]


def test_a_store_is_told_of_what_a_disk_is(s3: S3Server, tmp_path: Path) -> None:
    disk = made.write_ours(tmp_path / "shards", made.pairs(7))
    store = storage.place(f"s3://{BUCKET}/{tmp_path.name}/09_shards")
    for file in disk.iterdir():
        storage.put(store / file.name, file.read_bytes())
    told = _verify(store)
    assert (told.exit_code, "7 samples in 2 shards: whole\n" in told.output) == (0, True)

    tar = disk / "000000.tar"
    tar.write_bytes(tar.read_bytes()[:-1] + b"x")
    storage.put(store / tar.name, tar.read_bytes())
    for folder in (disk, store):
        storage.remove(folder / "000001.parquet")
        storage.remove(folder / "sizes.json")
        storage.put(folder / "stranger.txt", "?")
    findings = _findings(store, tmp_path / "store.json")
    assert findings == _findings(disk, tmp_path / "disk.json")
    kinds = {finding["kind"] for finding in findings}
    assert kinds >= {"another checksum", "no sidecar", "no sizes"}


def test_a_place_in_a_store_without_shards_is_named(s3: S3Server) -> None:
    told = _verify(f"s3a://{BUCKET}/nowhere")
    assert str(told.exception) == f"s3://{BUCKET}/nowhere holds nothing: name a folder of shards"
