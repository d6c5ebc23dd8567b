"""Shipping: our packages as one zip, the same bytes from the same files, sent to every worker.

A cluster has the packages of others, installed or in a packed environment; ours always come from
the driver, so that no worker runs an older copy that it happens to have.
"""

import sys
import zipfile
from pathlib import Path
from uuid import uuid4

from pyspark import SparkFiles
from pyspark.sql import SparkSession

from jobs.roll_call import code, digest_of

_EPOCH = (1980, 1, 1, 0, 0, 0)


def ship(spark: SparkSession, scratch: Path) -> None:
    """Make this process's packages those of every worker."""
    packed = pack(scratch)
    spark.sparkContext.addPyFile(str(packed))
    # The driver goes on with its own.
    sys.path.remove(str(Path(SparkFiles.getRootDirectory(), packed.name)))


def pack(folder: Path) -> Path:
    """The zip, in `folder`, named by what is in it."""
    files, _ = code()
    made = folder.absolute() / f"webimagetext-{digest_of(files)[:16]}.zip"
    if made.exists():
        return made
    staged = made.with_name(f".{made.name}.{uuid4().hex}")
    with zipfile.ZipFile(staged, "w") as packed:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, content, zipfile.ZIP_DEFLATED)
    staged.replace(made)
    return made
