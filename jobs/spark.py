"""The Spark session: meaning only. How large it is, spark-submit or the settings say."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from jobs import spark_ui
from jobs.shipping import ship
from pipeline.errors import BadInput, WitError
from pipeline.settings import SparkSettings

MIN_JAVA = 17
HOW_TO_GET_JAVA = (
    "install Java 17 or newer (Debian, Ubuntu: `apt-get install openjdk-17-jre-headless`; "
    "macOS: `brew install openjdk@17`) and set JAVA_HOME"
)

_MEANING = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "4096",
    # A page of Wikipedia may be two megabytes.
    "spark.sql.execution.arrow.maxBytesPerBatch": "16m",
    "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
}
"""What decides the result, whoever starts the session."""
_LOOPBACK = re.compile(r"spark://(127\.[\d.]+|localhost|\[::1\])(:\d+)?")


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
    """The session of this process, started when there is none; `more` is laid over its options.

    Under spark-submit its own configuration stands, and the settings only fill in what it leaves
    open. On a cluster our packages are sent to the workers.
    """
    java_version()
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    scratch.mkdir(parents=True, exist_ok=True)
    mine = settings.conf.keys() & _MEANING.keys()
    if mine:
        raise BadInput(
            f"spark.conf: {min(mine)} decides what is made, and is not free: take it out"
        )
    sizes = {**sizes_of(settings, scratch), **settings.conf}
    on_interrupt = signal.getsignal(signal.SIGINT)
    with _stderr_to(scratch / "spark.log"):
        try:
            spark = _begun(sizes, more or {})
        except (Py4JError, PySparkException) as error:
            raise _does_not_start(settings.master, error, scratch) from None
        spark.sparkContext.setLogLevel("ERROR")
    # Spark answers an interrupt with tracebacks of its own.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, on_interrupt)
    if not is_local(str(spark.sparkContext.master)):
        ship(spark, scratch)
    return spark


def _begun(sizes: Mapping[str, str], more: Mapping[str, str]) -> SparkSession:
    """Start the JVM where none is, then the session; `sizes` yield to what spark-submit says."""
    SparkContext._ensure_initialized(conf=SparkConf(False).setAll([*sizes.items()]))
    told = dict(SparkConf().getAll())  # by spark-submit, and by spark-defaults.conf
    if is_submitted():
        sizes = {key: value for key, value in sizes.items() if key not in told}
    python = {**told, **sizes}.get("spark.pyspark.python")
    # Spark's workers take `python3` from PATH unless told: it may lack our packages.
    os.environ["PYSPARK_PYTHON"] = python or os.environ.get("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("webimagetext")
    for key, value in {**sizes, **_MEANING, **more}.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def is_submitted() -> bool:
    """Whether spark-submit has started this process.

    It then owns the JVM, and tells where that listens. (SPARK_ENV_LOADED is there as well in
    whatever a worker or a shell of Spark's starts.)
    """
    return "PYSPARK_GATEWAY_PORT" in os.environ


def is_local(master: str) -> bool:
    """Whether all of Spark is in this machine's one process."""
    return re.fullmatch(r"local(\[.*\])?", master) is not None


def sizes_of(settings: SparkSettings, scratch: Path) -> dict[str, str]:
    """Where the session runs and how large it is."""
    sizes = {
        "spark.master": settings.master,
        "spark.driver.memory": settings.driver_memory,
        "spark.sql.shuffle.partitions": str(settings.partitions),
        # What comes to the driver is bounded where it is asked for: indexes, links, counts.
        "spark.driver.maxResultSize": "0",
        "spark.ui.showConsoleProgress": "false",
        **spark_ui.options(settings, is_own=is_local(settings.master) and not is_submitted()),
    }
    if settings.executor_memory is not None:
        sizes["spark.executor.memory"] = settings.executor_memory
    if settings.executor_cores is not None:
        sizes["spark.executor.cores"] = str(settings.executor_cores)
    if is_submitted():
        return sizes
    if is_local(settings.master) or _LOOPBACK.fullmatch(settings.master):
        sizes |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    if is_local(settings.master):  # elsewhere each machine has a scratch disk of its own
        sizes["spark.local.dir"] = str(scratch)
    return sizes


def _does_not_start(master: str, error: Exception, scratch: Path) -> WitError:
    """The line for a master that is not there, or does not take us."""
    causes = re.findall(r"^(?:Caused by|:) ?[\w.$]*(?:Exception|Error): (.*)$", str(error), re.M)
    why = causes[-1] if causes else str(error).partition("\n")[0]
    if not _answers(master):
        why = "nobody answers there"
    return BadInput(
        f"Spark does not start on {master} ({why[:200]}): correct --master or spark.master; "
        f"{scratch / 'spark.log'} tells more"
    )


def _answers(master: str) -> bool:
    """Whether a standalone master is there; of others Spark itself tells."""
    for six, host, port in re.findall(r"(?:spark://|,)(?:\[(.+?)\]|([^],/[:]+)):(\d+)", master):
        try:
            socket.create_connection((six or host, int(port)), timeout=5.0).close()
        except (OSError, ValueError, OverflowError):
            continue
        return True
    return not master.startswith("spark://")


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
