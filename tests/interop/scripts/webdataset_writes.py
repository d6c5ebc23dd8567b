"""Writes samples with webdataset's ShardWriter, its options as they are by default.

argv    a folder for the tars, samples to a shard, a JSON file of [key, file of the image, caption],
        where the caption goes: txt or json
"""

import json
import sys
from pathlib import Path

import webdataset

folder, per_shard, told, member = sys.argv[1:]
with webdataset.ShardWriter(f"{folder}/%06d.tar", maxcount=int(per_shard)) as writer:
    for key, file, caption in json.loads(Path(told).read_text()):
        image = Path(file)
        sample = {"__key__": key, image.suffix[1:]: image.read_bytes()}
        writer.write({**sample, member: caption if member == "txt" else {"caption": caption}})
