"""Own classes: the list of classes that a set brings along, in the order of its numbers.

reads   classnames.txt of clip_benchmark; Hugging Face's ClassLabel in the metadata of a table
"""

from pathlib import Path

from pipeline.evalsets import layout, members, tables
from pipeline.settings import EvalSet


def own_classes(evalset: EvalSet) -> list[str] | None:
    """What the classes 0, 1, ... are called; None where the set does not tell."""
    files = layout.files(evalset)
    form = layout.format_of(evalset, files)
    if form == "webdataset":
        found = members.classes(files)
        return [found[str(number)] for number in range(len(found))] or None
    if form == "parquet":
        for file in files:
            if tables.is_table(file.name) and Path(file.path).is_file():
                schema, _ = tables.shape(file.path)
                return list(tables.columns_of(evalset, file.path, schema).classes) or None
    return None
