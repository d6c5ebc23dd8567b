"""Dist: what a cluster is sent: the wheel, a packed environment, the script for spark-submit.

reads   pyproject.toml, requirements.lock
writes  dist/

The environment holds what the stages on a cluster import, in the versions of the lock: neither
torch nor the packages for development, nor pyspark, which a cluster brings itself.
"""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from rich.console import Console

_LEFT_OUT = ("py4j", "pyspark", "torch")
_SCRIPT = '''"""The command `wit`, for spark-submit."""

from jobs.__main__ import main

main()
'''


def main(root: Path, build: Path) -> None:
    """Make all three in `root`/dist; the environment is put together in `build`."""
    out, venv = root / "dist", build / "environment"
    out.mkdir(exist_ok=True)
    build.mkdir(parents=True, exist_ok=True)
    for old in out.glob("webimagetext-*.whl"):
        old.unlink()
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "wheel", "--no-deps", "--wheel-dir", str(out), str(root)])
    wheel = next(out.glob("webimagetext-*.whl"))
    wanted = build / "requirements.txt"
    wanted.write_text("".join(f"{line}\n" for line in needed(root)), encoding="utf-8")
    _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv)])
    into = [*pip, "--python", str(venv / "bin" / "python"), "install", "--no-deps"]
    _run([*into, "-r", str(wanted), str(wheel)])
    packed = out / "environment.tar.gz"
    _run(
        [
            sys.executable,
            "-m",
            "venv_pack",
            "--quiet",
            "--force",
            "-p",
            str(venv),
            "-o",
            str(packed),
        ]
    )
    packed.chmod(0o644)  # for whoever submits
    (out / "wit.py").write_text(_SCRIPT, encoding="utf-8")
    console = Console(highlight=False, soft_wrap=True)
    for file in (wheel, packed, out / "wit.py"):
        console.print(f"{file.relative_to(root)}: {file.stat().st_size / 1e6:.1f} MB")


def needed(root: Path) -> list[str]:
    """The locked requirements of the stages that run on a cluster, one a line."""
    project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lock = {}
    for line in (root / "requirements.lock").read_text(encoding="utf-8").splitlines():
        name, equals, _ = line.partition("==")
        if equals and not line.startswith("#"):
            lock[_plain(name)] = line.strip()
    extras = project["optional-dependencies"]
    todo = [*project["dependencies"], *extras["download"], *extras["s3"]]
    wanted = [Requirement(text) for text in todo]
    found: set[str] = set()
    while wanted:
        one = wanted.pop()
        name = _plain(one.name)
        # What the lock leaves out it leaves out for a reason that stands there.
        if name in found or name in _LEFT_OUT or name not in lock:
            continue
        found.add(name)
        chosen = one.extras or {""}
        for text in metadata.requires(name) or []:
            further = Requirement(text)
            mark = further.marker
            if mark is None or any(mark.evaluate({"extra": extra}) for extra in chosen):
                wanted.append(further)
    return [lock[name] for name in sorted(found)]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True)  # noqa: S603


if __name__ == "__main__":
    repository = Path(__file__).parent.parent
    main(repository, repository / "build" / "dist")
