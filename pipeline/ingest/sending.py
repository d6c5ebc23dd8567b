"""Sending: the small files that every worker needs, from the driver to where each can read them.

reads   blocklists and the filter's model, where the settings name them by a path
writes  Spark files of a cluster; in local mode the path is one for all
"""

import hashlib
import os
import shutil
from pathlib import Path

from pyspark import SparkFiles
from pyspark.sql import SparkSession

from pipeline import copies, inputs, storage
from pipeline.settings import IngestSettings


def send(spark: SparkSession, settings: IngestSettings) -> dict[str, str]:
    """The names under which Spark sends the files of these paths. What is named by an address is
    fetched by each machine for itself."""
    context = spark.sparkContext
    master = str(context.master)
    if master == "local" or master.startswith("local["):
        return {}
    lists = (settings.blocked_domains, settings.blocked_urls, settings.blocked_captions)
    paths = [path for some in lists for path in some]
    paths += [] if settings.filter_model is None else [settings.filter_model]
    sent = {}
    # It lives as long as the session, and so must what is sent from it.
    folder = Path(SparkFiles.getRootDirectory(), "sent")
    folder.mkdir(exist_ok=True)
    for path in dict.fromkeys(paths):
        if storage.is_address(path):
            continue
        # Spark sends one file of a name: another version needs another one.
        digest = hashlib.sha256(f"{path}\n{inputs.version(path)}".encode()).hexdigest()[:16]
        sent[path] = f"{digest}-{Path(path).name}"
        staged = folder / sent[path]
        if not staged.exists():
            _link(Path(path), staged)
            context.addFile(str(staged))
    return sent


def receive(sent: dict[str, str]) -> None:
    """In a task: read the files of these paths where Spark has put them."""
    copies.arrived({path: SparkFiles.get(name) for path, name in sent.items()})


def _link(file: Path, to: Path) -> None:
    try:
        os.link(file.resolve(), to)
    except OSError:  # another disk
        shutil.copyfile(file, to)
