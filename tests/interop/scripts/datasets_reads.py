"""Reads shards with Hugging Face's datasets: `streaming` or `whole`.

argv    the file to write, streaming or whole, a folder with a card or tars
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from datasets import Image, load_dataset

out, how, *paths = sys.argv[1:]
given = {"path": "webdataset", "data_files": {"train": paths}}
if Path(paths[0]).is_dir():
    given = {"path": paths[0]}
with tempfile.TemporaryDirectory() as cache:
    rows = load_dataset(**given, split="train", streaming=how == "streaming", cache_dir=cache)
    sizes = [row["jpg"].size for row in rows] if "jpg" in rows.features else []
    if sizes:
        rows = rows.cast_column("jpg", Image(decode=False))
    samples = [
        {
            "key": row["__key__"],
            "caption": row["txt"],
            "digest": hashlib.sha256(row["jpg"]["bytes"]).hexdigest(),
            "json": row["json"],
            "size": size,
        }
        for row, size in zip(rows, sizes, strict=False)
    ]
Path(out).write_text(json.dumps({"columns": sorted(rows.features), "samples": samples}))
