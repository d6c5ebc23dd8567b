"""The environments of environments.toml: builds them under build/interop, each once for its pins.

python -m tests.interop.environments            all of them
python -m tests.interop.environments energon    those that are named
"""

import hashlib
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

_HERE = Path(__file__).parent
_BUILD = _HERE.parents[1] / "build" / "interop"
_DONE = ".done"
PINS: dict[str, list[str]] = {
    name: told["pins"]
    for name, told in tomllib.loads((_HERE / "environments.toml").read_text()).items()
}


def python(name: str) -> Path:
    """The interpreter of an environment."""
    return _BUILD / name / "bin" / "python"


def is_built(name: str) -> bool:
    """Whether the environment is whole, and of these pins and this version of Python."""
    done = _BUILD / name / _DONE
    return done.exists() and done.read_text() == _stamp(name)


def build(name: str) -> None:
    """Make the environment anew."""
    folder, pins = _BUILD / name, PINS[name]
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True, symlinks=True)
    lock = folder / "pins.txt"
    lock.write_text("\n".join(pins) + "\n")
    pip = [str(python(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    torch = [pin for pin in pins if pin.startswith("torch==")]
    if torch:
        # Its CUDA packages depend on the machine, so that it takes its own.
        subprocess.run([*pip, "--constraint", str(lock), *torch], check=True)
    subprocess.run([*pip, "--no-deps", "-r", str(lock)], check=True)
    (folder / _DONE).write_text(_stamp(name))


def _stamp(name: str) -> str:
    version = ".".join(map(str, sys.version_info[:2]))
    return hashlib.sha256("\n".join([version, *PINS[name]]).encode()).hexdigest()


def main(names: list[str]) -> None:
    unknown = set(names) - PINS.keys()
    if unknown:
        sys.exit(f"no environment {', '.join(sorted(unknown))}: there are {', '.join(PINS)}")
    for name in names or PINS:
        if not is_built(name):
            sys.stderr.write(f"building build/interop/{name}\n")
            build(name)


if __name__ == "__main__":
    main(sys.argv[1:])
