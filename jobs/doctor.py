"""Doctor: what this machine has and lacks, and what to do about it."""

import importlib.metadata
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import psutil
from pyspark.find_spark_home import _find_spark_home
from rich.console import Console

from jobs.spark import JavaMissing, java_version

_MIN_MEMORY_GB = 6
_MIN_DISK_GB = 5
_SIZES = ((256, 341), (341, 256), (64, 64), (900, 90), (20, 30))


def examine(run: Path) -> int:
    """Print each finding with what to do; 1 when something needed is missing, else 0."""
    console = Console(highlight=False, soft_wrap=True)
    machine = [_python(), _java(), _memory(), _disk(run)]
    findings = [*machine, *_packages(), _hashes(), _gpu(), *_stores(), s3a(_spark_home())]
    for mark, name, told in findings:
        console.print(f"{mark:<5} {name:<10} {told}", markup=False)
    is_ill = any(mark == "FAIL" for mark, _, _ in findings)
    console.print("something is missing: see the lines with FAIL" if is_ill else "ready")
    return int(is_ill)


Finding = tuple[str, str, str]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        return "ok", "Python", f"{version} at {sys.executable}"
    return "FAIL", "Python", f"{version}: install 3.11 or 3.12 and run `make setup`"


def _java() -> Finding:
    try:
        return "ok", "Java", f"{java_version()}"
    except JavaMissing as error:
        return "FAIL", "Java", str(error)


def _memory() -> Finding:
    gigabytes = psutil.virtual_memory().total / 2**30
    told = f"{gigabytes:.1f} GiB, {os.cpu_count()} cores"
    if gigabytes >= _MIN_MEMORY_GB:
        return "ok", "memory", told
    return "warn", "memory", f"{told}: lower spark.driver_memory in the settings"


def _disk(run: Path) -> Finding:
    there = run.resolve()
    while not there.exists():
        there = there.parent
    gigabytes = shutil.disk_usage(there).free / 2**30
    told = f"{gigabytes:.1f} GiB free at {there}"
    if gigabytes >= _MIN_DISK_GB:
        return "ok", "disk", told
    return "warn", "disk", f"{told}: the demo needs about 1 GiB, 1M pairs about 25 GiB"


def _packages() -> list[Finding]:
    """Every requirement of the distribution that is not about development."""
    try:
        requirements = importlib.metadata.requires("webimagetext") or []
    except importlib.metadata.PackageNotFoundError:
        return [("FAIL", "packages", "webimagetext is not installed: run `make setup`")]
    missing, versions = [], []
    for requirement in requirements:
        if "extra == 'dev'" in requirement or 'extra == "dev"' in requirement:
            continue
        match = re.match(r"[A-Za-z0-9._-]+", requirement)
        name = match[0] if match else requirement
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        told = f"missing {', '.join(missing)}: run `make setup`"
        return [("FAIL", "packages", told)]
    return [("ok", "packages", ", ".join(sorted(set(versions))))]


def _hashes() -> Finding:
    """Whether our pHash is that of the imagehash and the Pillow that are installed here."""
    try:
        import imagehash
        import PIL
    except ImportError:
        return "FAIL", "hashes", "imagehash or Pillow is missing: run `make setup`"
    from PIL import Image

    from pipeline.hashes import of_imagehash
    from pipeline.phash import phash

    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (*size, 3), np.uint8) for size in _SIZES]
    told = f"imagehash {imagehash.__version__} with Pillow {PIL.__version__}"
    same = [phash(p) == of_imagehash(imagehash.phash(Image.fromarray(p))) for p in pictures]
    if all(same):
        return "ok", "hashes", f"pHash equals that of {told}"
    return "warn", "hashes", f"{told} has other bits than ours, which are those of Pillow 13"


def _gpu() -> Finding:
    try:
        import torch
    except ImportError:
        return "warn", "GPU", "torch is not installed: `wit train` needs it, run `make setup`"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return "ok", "GPU", ", ".join(names)
    return "ok", "GPU", f"none (torch {torch.__version__}): small models train on the CPU"


def _stores() -> list[Finding]:
    """What reads and writes object stores from Python."""
    told = []
    for scheme, package in (("s3://", "s3fs"), ("gs://", "gcsfs")):
        try:
            version = importlib.metadata.version(package)
            told.append(("ok", "stores", f"{scheme} with {package} {version}"))
        except importlib.metadata.PackageNotFoundError:
            need = f"only what lies at {scheme} needs it: `pip install {package}`"
            told.append(("warn", "stores", f"no {package}: {need}"))
    return told


def _spark_home() -> Path:
    return Path(_find_spark_home())


def s3a(home: Path) -> Finding:
    """Whether the Spark at `home` can read s3a:// itself: our own reading of s3:// is Python's."""
    there = {file.name for file in home.glob("jars/*.jar")}
    jars = there | _named_jars(home)
    hadoop = _version_of("hadoop-client-api", jars)
    if hadoop is None:
        return "warn", "s3a", f"no Hadoop among the jars of Spark at {home}: reinstall pyspark"
    how = f"start with `spark-submit --packages org.apache.hadoop:hadoop-aws:{hadoop}`"
    why = "only Spark's own reading of s3a:// needs it"
    found = _version_of("hadoop-aws", jars)
    if found is None:
        return "warn", "s3a", f"no hadoop-aws beside Spark's Hadoop {hadoop}: {why}: {how}"
    if found != hadoop:
        told = f"hadoop-aws {found} does not fit Spark's Hadoop {hadoop}"
        return "warn", "s3a", f"{told}: {why}: take it away and {how}"
    # A package brings what it needs; a jar that was copied does not.
    if f"hadoop-aws-{found}.jar" in there and _version_of("bundle", jars) is None:
        told = f"hadoop-aws {found} lacks the AWS SDK (bundle-*.jar)"
        return "warn", "s3a", f"{told}: {why}: take it away and {how}"
    return "ok", "s3a", f"hadoop-aws {found} with Spark's Hadoop {hadoop}"


def _version_of(name: str, jars: set[str]) -> str | None:
    found = [re.fullmatch(rf"{name}-(\d[\w.]*)\.jar", jar) for jar in sorted(jars)]
    return next((match[1] for match in found if match), None)


def _named_jars(home: Path) -> set[str]:
    """The jars that Spark's own configuration asks for, by the names that their files have."""
    folder = Path(os.environ.get("SPARK_CONF_DIR") or home / "conf")
    try:
        lines = (folder / "spark-defaults.conf").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    named: set[str] = set()
    for line in lines:
        key, *values = re.split(r"[\s=]+", line.strip(), maxsplit=1)
        value = "".join(values)
        if key == "spark.jars.packages":
            parts = [package.strip().split(":") for package in value.split(",")]
            named |= {f"{part[1]}-{part[2]}.jar" for part in parts if len(part) == 3}
        if key == "spark.jars":
            named |= {jar.strip().rpartition("/")[2] for jar in value.split(",")}
    return named
