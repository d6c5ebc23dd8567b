"""Doctor: what this machine has and lacks, and what to do about it."""

import importlib.metadata
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console

from jobs.spark import JavaMissing, java_version

_MIN_MEMORY_GB = 6
_MIN_DISK_GB = 5
_SIZES = ((256, 341), (341, 256), (64, 64), (900, 90), (20, 30))


def examine(run: Path) -> int:
    """Print each finding with what to do; 1 when something needed is missing, else 0."""
    console = Console(highlight=False, soft_wrap=True)
    findings = [_python(), _java(), _memory(), _disk(run), *_packages(), _hashes(), _gpu()]
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
