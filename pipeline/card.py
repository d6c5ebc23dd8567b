"""Card: what Hugging Face's `datasets` must be told of a folder of shards; its README.md.

Without it `load_dataset(FOLDER)` reads the parquet files and no image, and where it is pointed at
the tars it guesses the types of the JSON from the first five samples: a page unknown to all five is
then of no type at all, and the sixth sample ends the load.
"""

from collections.abc import Iterable

import pyarrow as pa

from pipeline.schemas import SHARDED

_CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: "*.tar"
dataset_info:
  features:
  - name: jpg
    dtype: image
  - name: txt
    dtype: string
  - name: json
    struct:
{described}
  - name: __key__
    dtype: string
  - name: __url__
    dtype: string
---

Image-text pairs in WebDataset shards, made by webimagetext: `load_dataset` on this folder reads the
tars. Beside each tar a parquet file has all columns of its samples, and a places file tells where
in the tar they lie; `index.json` has every shard's samples, bytes and sha256, `sizes.json` the
samples alone.
"""


def card(names: Iterable[str], *, alternatives: bool = False) -> str:
    """The README.md of shards whose JSON has the columns `names`, and alternatives if so."""
    types = {name: SHARDED.field(name).type for name in names}
    if alternatives:
        types["alternatives"] = pa.list_(pa.string())
    lines = [line for name in sorted(types) for line in _feature(name, types[name])]
    return _CARD.format(described="\n".join(f"    {line}" for line in lines))


def _feature(name: str, kind: pa.DataType) -> tuple[str, str]:
    told = f"list: {kind.value_type}" if pa.types.is_list(kind) else f"dtype: {kind}"
    return f"- name: {name}", f"  {told}"
