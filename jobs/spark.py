"""The Spark session: meaning only. How large it is, spark-submit or the settings say."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from jobs import spark_ui
from pipeline.errors import WitError
from pipeline.settings import SparkSettings

MIN_JAVA = 17
HOW_TO_GET_JAVA = (
    "install Java 17 or newer (Debian, Ubuntu: `apt-get install openjdk-17-jre-headless`; "
    "macOS: `brew install openjdk@17`) and set JAVA_HOME"
)


class JavaMissing(WitError):
    """No Java, or one that is too old for Spark 4."""


def java_version() -> int:
    """The major version of the Java that Spark will start. Raises JavaMissing."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if java is None or not Path(java).exists():
        if home:
            raise JavaMissing(
                f"JAVA_HOME={home} holds no bin/java: unset or correct it, or {HOW_TO_GET_JAVA}"
            )
        raise JavaMissing(f"no Java found on PATH: {HOW_TO_GET_JAVA}")
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)  # noqa: S603
    match = re.search(r'version "(?:1\.)?(\d+)', told.stderr + told.stdout)
    if match is None:
        raise JavaMissing(f"{java} does not tell its version: {HOW_TO_GET_JAVA}")
    version = int(match[1])
    if version < MIN_JAVA:
        raise JavaMissing(f"{java} is Java {version}, Spark 4 needs {MIN_JAVA}: {HOW_TO_GET_JAVA}")
    return version


def session(
    settings: SparkSettings, scratch: Path, more: Mapping[str, str] | None = None
) -> SparkSession:
    """The session of this process, started when there is none; `more` is laid over its options."""
    java_version()
    # Spark's workers take `python3` from PATH unless told: it may lack our packages.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    scratch.mkdir(parents=True, exist_ok=True)
    builder = SparkSession.builder.appName("webimagetext")
    options = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.sql.shuffle.partitions": str(settings.partitions),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "4096",
        # A page of Wikipedia may be two megabytes.
        "spark.sql.execution.arrow.maxBytesPerBatch": "16m",
        # What comes to the driver is bounded where it is asked for: indexes, links, counts.
        "spark.driver.maxResultSize": "0",
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
        "spark.ui.showConsoleProgress": "false",
        **spark_ui.options(settings, is_submitted="SPARK_ENV_LOADED" in os.environ),
        **(more or {}),
    }
    for key, value in options.items():
        builder = builder.config(key, value)
    if "SPARK_ENV_LOADED" not in os.environ:  # spark-submit sets it, and has sized the session
        builder = (
            builder.master(settings.master)
            .config("spark.driver.memory", settings.driver_memory)
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.local.dir", str(scratch))
        )
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    on_interrupt = signal.getsignal(signal.SIGINT)
    with _stderr_to(scratch / "spark.log"):
        spark = builder.getOrCreate()
        spark.sparkContext.setLogLevel("ERROR")
    # Spark answers an interrupt with tracebacks of its own.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, on_interrupt)
    return spark


@contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Send what is started inside to a file with its stderr: the JVM keeps the one it is born with.

    Its warnings, and the tracebacks of Python workers, are for a developer and not for a terminal.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with path.open("ab") as log:
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
