"""Layout: the files of an evaluation set, and which format they are in.

A file's name decides; only a tar is looked into, for WebDataset's and CIFAR's members.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from upath import UPath

from pipeline import inputs, storage
from pipeline.errors import BadInput
from pipeline.evalsets import archives, cifar, hash_lists, idx, stl10, tables
from pipeline.evalsets.names import is_picture
from pipeline.evalsets.part import File
from pipeline.settings import EvalSet

_PEEK = 512
"""Members of a tar that are looked at."""


def files(evalset: EvalSet) -> list[File]:
    """Every regular file of the set, by name. Links are followed: sets are often put together of
    them. Raises BadInput when there is none."""
    where = storage.place(evalset.path)
    if storage.is_remote(where):
        return _in_store(evalset, where)
    path = where
    try:
        if path.is_dir():
            found = sorted(_walk(path, "", ()))
        elif path.is_file():
            found = [File(path.name, str(path), path.stat().st_size)]
        elif path.exists():
            raise BadInput(
                f"evalsets.{evalset.name}: {path} is neither a file nor a folder: correct `path` "
                "in the settings"
            )
        else:
            raise BadInput(
                f"evalsets.{evalset.name}: {path} does not exist: correct `path` in the settings"
            )
    except RecursionError:
        raise BadInput(
            f"evalsets.{evalset.name}: {path} holds folders in folders without end: correct `path` "
            "in the settings"
        ) from None
    except OSError as error:
        raise BadInput(
            f"evalsets.{evalset.name}: {error.filename or path} cannot be read "
            f"({error.strerror}): check its permissions"
        ) from error
    if not found:
        raise BadInput(
            f"evalsets.{evalset.name}: {path} holds no files: correct `path` in the settings"
        )
    return found


def _in_store(evalset: EvalSet, where: UPath) -> list[File]:
    """The same of a set in a store: paths are addresses."""
    if (kind := inputs.kind(where)) is None:
        raise BadInput(
            f"evalsets.{evalset.name}: {where} does not exist: correct `path` in the settings"
        )
    if kind == "file":
        return [File(where.name, str(where), storage.size(where) or 0)]
    begin = len(str(where).rstrip("/")) + 1
    found = sorted(File(str(f)[begin:], str(f), size) for f, size in storage.sizes(where))
    if not found:
        raise BadInput(
            f"evalsets.{evalset.name}: {where} holds no files: correct `path` in the settings"
        )
    return found


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[File]:
    here = folder.stat()
    if (here.st_dev, here.st_ino) in above:
        return  # a link to a folder that this one lies in
    above = (*above, (here.st_dev, here.st_ino))
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", above)
            elif entry.is_file():
                yield File(f"{prefix}{entry.name}", entry.path, entry.stat().st_size)


def format_of(evalset: EvalSet, found: list[File]) -> str:
    """The format that the settings give, or that the files are in.

    Raises BadInput when they are in none, or in more than one.
    """
    if evalset.format != "auto":
        return evalset.format
    # The folder above tells CIFAR-100's `train` from another.
    if any(cifar.is_one(file.path) for file in found):
        return "cifar"
    if any(stl10.is_one(file.name) for file in found):
        return "stl10"
    if any(idx.is_one(file.name) for file in found):
        return "idx"
    forms = set()
    if any(is_picture(file.name) for file in found):
        forms.add("folder")
    packed = [file for file in found if archives.is_tar(file.name)]
    if not packed and len(found) == 1 and archives.looks_like_tar(found[0].path):
        packed = found
    if packed:
        forms.add(_form_of_tar(packed[0].path))
    if tabled := [file for file in found if tables.is_table(file.name)]:
        of_hashes = hash_lists.is_table_of_hashes(tabled[0].path)
        forms.add("hashes" if of_hashes else "parquet")
    if not forms and len(found) == 1 and hash_lists.is_text(found[0].path):
        forms.add("hashes")
    if len(forms) == 1:
        return forms.pop()
    what = f"files of more than one kind ({', '.join(sorted(forms))})" if forms else "no images"
    raise BadInput(
        f"evalsets.{evalset.name}: {evalset.path} holds {what}: correct `path`, or say how to "
        "read it with `format` in the settings"
    )


def _form_of_tar(path: str) -> str:
    with archives.opened(path) as stream:
        names = [member.name for member in islice(archives.members(stream), _PEEK)]
    if any(cifar.is_one(name) for name in names):
        return "cifar"
    if any(stl10.is_one(name) for name in names):
        return "stl10"
    if any(idx.is_one(name) for name in names):
        raise BadInput(f"{path} holds IDX files: unpack it, and give the folder as `path`")
    pictures = {_key(name) for name in names if is_picture(name)}
    sides = {_key(name) for name in names if PurePosixPath(name).suffix in (".cls", ".json")}
    return "webdataset" if pictures & sides else "tar"


def _key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.split(".")[0]
