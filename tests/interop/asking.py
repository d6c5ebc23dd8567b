"""Strangers: commands and scripts that run in an environment of others, and what they answer."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import environments
import pytest

_SCRIPTS = Path(__file__).parent / "scripts"
_SECONDS = 300


class Strangers:
    """Runs what belongs to others, with `home` for whatever they leave."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def read(self, name: str, script: Path | str, *given: object) -> Any:
        """What a script of scripts/, or any other, answers in an environment."""
        out = self._home / "answer.json"
        self.run(name, "python", _SCRIPTS / script, out, *given)
        return json.loads(out.read_text())

    def write(self, name: str, script: str, *given: object) -> None:
        """Run a script of scripts/ that writes where it is told."""
        self.run(name, "python", _SCRIPTS / script, *given)

    def run(self, name: str, command: str, *given: object) -> None:
        """Run a command of an environment, alone with its packages and without a network."""
        if not environments.is_built(name):
            pytest.skip(f"build/interop/{name} is not built: run `make test-interop`")
        program = environments.python(name).with_name(command)
        away = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        alone = {**away, "DO_NOT_TRACK": "1", "HOME": str(self._home), "PATH": path}
        done = subprocess.run(
            [str(program), *map(str, given)],
            env={**alone, "PYTHONUTF8": "1"},
            cwd=self._home,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
