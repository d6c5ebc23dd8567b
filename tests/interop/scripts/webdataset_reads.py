"""Reads shards with the webdataset package, as bytes and then decoded.

argv    the file to write, tars
"""

import hashlib
import json
import sys
from pathlib import Path

import webdataset

out, *tars = sys.argv[1:]
samples = []
for sample in webdataset.WebDataset(tars, shardshuffle=False):
    samples.append(
        {
            "key": sample["__key__"],
            "caption": sample["txt"].decode(),
            "digest": hashlib.sha256(sample["jpg"]).hexdigest(),
            "members": sorted(name for name in sample if not name.startswith("_")),
        }
    )
decoded = webdataset.WebDataset(tars, shardshuffle=False).decode("pil")
for told, sample in zip(samples, decoded, strict=True):
    told |= {"size": sample["jpg"].size, "json": sample["json"]}
    assert (sample["__key__"], sample["txt"]) == (told["key"], told["caption"])
Path(out).write_text(json.dumps(samples))
