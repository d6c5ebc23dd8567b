"""Writes samples with webdataset's ShardWriter, its options as they are by default.

argv    a folder for the tars, samples to a shard, a JSON file of [key, file of the image, caption]
"""

import json
import sys
from pathlib import Path

import webdataset

folder, per_shard, told = sys.argv[1:]
with webdataset.ShardWriter(f"{folder}/%06d.tar", maxcount=int(per_shard)) as writer:
    for key, image, caption in json.loads(Path(told).read_text()):
        sample = {"__key__": key, "jpg": Path(image).read_bytes(), "txt": caption}
        writer.write({**sample, "json": {"caption": caption}})
