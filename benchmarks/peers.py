"""Peers: packages that live in an environment of their own, and take turns with ours.

The environments are those of tests/interop/environments.toml, under build/interop.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent
_SCRIPTS = Path(__file__).parent / "strangers"


def python_of(environment: str) -> Path | None:
    """The interpreter of an environment, or None where it was not built."""
    found = _ROOT / "build" / "interop" / environment / "bin" / "python"
    return found if found.exists() else None


class Peer:
    """A script of strangers/ that answers, a line of JSON for each that it is asked."""

    def __init__(self, python: Path, script: str) -> None:
        away = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
        self._process = subprocess.Popen(
            [str(python), str(_SCRIPTS / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **away, "PYTHONPATH": ""},
            text=True,
        )

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Its answer. Raises RuntimeError when the script has ended instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the peer ended with {self._process.wait()}: see its words above")
        told: dict[str, Any] = json.loads(answer)
        return told

    def close(self) -> None:
        self._process.communicate()
