"""jobs.__main__: what a person sees of mistakes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from jobs.__main__ import app, main
from jobs.lock import RunIsBusy, alone
from jobs.walk import STAGES


def _wit(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
    )


def _told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["wit", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("", "derive.dumps is empty"),
        ("[derive]\ndumps = ['/nowhere.xml']", "/nowhere.xml does not exist"),
        ("[derive]\nmin_words = 3", "derive.min_words"),
    ],
)
def test_a_mistake_is_one_line_without_a_traceback(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    toml: str,
    told: str,
) -> None:
    (tmp_path / "a.toml").write_text(toml)
    words = ("derive", "--run", str(tmp_path / "run"), "--config", str(tmp_path / "a.toml"))
    lines = [line for line in _told(capsys, monkeypatch, *words).splitlines() if "wit:" in line]
    assert len(lines) == 1
    assert told in lines[0]


def test_a_stage_without_its_inputs_names_the_stage_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.toml").write_text("")
    config = ("--config", str(tmp_path / "a.toml"))
    told = _told(capsys, monkeypatch, "match", "--run", str(tmp_path / "run"), *config)
    assert "run `wit ingest" in told


def test_java_that_is_missing_or_too_old_says_how_to_get_one(tmp_path: Path) -> None:
    missing = _wit("java", env={"JAVA_HOME": str(tmp_path)})
    assert missing.returncode == 2
    assert "install Java 17 or newer" in missing.stderr
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    java.chmod(0o755)
    old = _wit("java", env={"JAVA_HOME": str(tmp_path)})
    assert "is Java 8, Spark 4 needs 17" in old.stderr
    assert "Traceback" not in missing.stderr + old.stderr


def test_the_doctor_names_what_is_there() -> None:
    told = _wit("doctor").stdout
    for name in ("Python", "Java", "memory", "disk", "packages", "GPU", "stores", "s3a"):
        assert name in told


_FLAGS_OF_THEIR_OWN = {
    "derive": {"--explain"},
    "audit": {"--corpus", "--evals", "--out", "--decisions", "--predictions"},
    "evaluate": {
        *("--checkpoint", "--weights", "--vocabulary", "--activation", "--evals", "--out"),
        "--audit",
    },
}


def test_every_stage_has_its_verb_and_the_flags_are_few() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for stage in STAGES:
        options = [p for p in commands[stage.verb].params if p.param_type_name == "option"]
        flags = {flag for option in options for flag in option.opts}
        of_its_own = _FLAGS_OF_THEIR_OWN.get(stage.verb, set())
        assert (
            flags == {"--run", "--config", "--set", "--update", "--again", "--master"} | of_its_own
        )


def test_a_second_process_on_a_run_is_refused(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(RunIsBusy, match="another `wit`"), alone(tmp_path):
        pass


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name what is audited"),
        (("--corpus", "a.tar"), "--corpus needs --evals"),
        (("--corpus", "a.tar", "--run", "r"), "--corpus is audited without a run"),
        (("--corpus", "a.tar", "--evals", "e.toml", "--again"), "leave out --run"),
        (("--run", "r", "--evals", "e.toml"), "go with --corpus"),
        (("--run", "r", "b.tar"), "go with --corpus"),
    ],
)
def test_what_an_audit_cannot_do_at_a_time_is_told(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    told: str,
) -> None:
    assert told in _told(capsys, monkeypatch, "audit", *words)
