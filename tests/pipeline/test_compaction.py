"""pipeline.shard"""

import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import shard, tars
from pipeline.schemas import SHARDED


def _written(folder: Path, alternatives: list[list[str]] | None) -> tuple[Path, list[Any]]:
    """The folder of a shard of two samples, and their JSON."""
    raw, final = folder / "raw", folder / "final"
    for made in (raw, final):
        made.mkdir(parents=True)
    with (raw / "00000.tar").open("wb") as tar:
        offsets = [tars.append(tar, f"{name}.jpg", b"\xff\xd8 image") for name in "ab"]
        tars.close(tar)
    texts = {"pair_id": ["a", "b"], "caption": ["one", "two"]}
    numbers = {"raw_shard": [0, 0], "offset": offsets, "bytes": [8, 8], "sample": [0, 1]}
    given = {**texts, **numbers, "number": [0, 0]}
    fields = [field for field in SHARDED if field.name != "shard"]
    columns = {}
    for field in fields:
        empty: Any = None
        if not field.nullable:
            empty = [] if pa.types.is_list(field.type) else (0 if field.type != "string" else "")
        columns[field.name] = pa.array(given.get(field.name, [empty, empty]), field.type)
    columns["number"] = pa.array([0, 0], pa.int32())
    if alternatives is not None:
        columns["alternatives"] = pa.array(alternatives, pa.list_(pa.string()))
    shard._write(pa.table(columns), str(raw), str(final))
    with tarfile.open(final / "000000.tar") as tar_file:
        members = [m for m in tar_file if m.name.endswith(".json")]
        told = [json.loads(tar_file.extractfile(m).read()) for m in members]  # type: ignore[union-attr]
    return final, told


def test_other_captions_are_in_the_json_where_they_are_kept_and_nowhere_else(
    tmp_path: Path,
) -> None:
    kept, told = _written(tmp_path / "kept", [["uno", "un"], []])
    assert [sample["alternatives"] for sample in told] == [["uno", "un"], []]
    plain, untold = _written(tmp_path / "plain", None)
    assert [{**sample, "alternatives": 0} for sample in untold] == [
        {**sample, "alternatives": 0} for sample in told
    ]
    assert all("alternatives" not in sample for sample in untold)
    sidecars = [pq.read_table(folder / "000000.parquet") for folder in (kept, plain)]
    assert sidecars[0].equals(sidecars[1])
