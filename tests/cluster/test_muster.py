"""jobs.muster: workers that do not fit are named, each with the machine and the next step."""

import json
import re
import socket
import subprocess
import sys
import sysconfig
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pytest

from jobs import muster, roll_call, shipping
from jobs.muster import complaints_of
from pipeline.settings import SparkSettings
from tests.cluster.standalone import Cluster, driver

_HOST = socket.gethostname()
_OLDER = (
    "import sys, collections; sys.version_info = collections.namedtuple("
    "'V', 'major minor micro releaselevel serial')(3, 9, 1, 'final', 0)"
)
_ASK = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path
    from jobs.muster import muster
    from jobs.run import Run
    from pipeline.errors import WitError
    from pipeline.settings import Settings, SparkSettings
    from pyspark import SparkContext

    master, out = sys.argv[1:3]
    told = {}
    Path("run").mkdir()
    for name, python in json.loads(sys.argv[3]).items():
        conf = {"spark.ui.enabled": "false", "spark.pyspark.python": python}
        settings = Settings.model_validate({"spark": {"master": master, "conf": conf}})
        run = Run(Path("run"), settings)
        try:
            spark = run.spark
            told[name] = "fits: " + spark.sparkContext.master
            # The same path is the driver's folder here and the executor's there.
            for nth, root in enumerate(("run", "/proc/self/cwd/run")):
                least = SparkSettings(min_scratch_gb=0.0 if nth else 1e9)
                try:
                    muster(spark, Path(root), least, print)
                except WitError as error:
                    told[("full", "not shared")[nth]] = str(error)
        except WitError as error:
            told[name] = str(error)
        SparkContext._active_spark_context.stop()
        Path(out).write_text(json.dumps(told))
    """
)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What becomes of a session under each of these settings, on a real cluster."""
    folder = tmp_path_factory.mktemp("muster")
    bare, older, other = folder / "bare", folder / "older", folder / "other"
    for venv in (bare, older, other):
        command = [sys.executable, "-m", "venv", "--without-pip", str(venv)]
        subprocess.run(command, check=True)
    _site(older, "older.pth", _OLDER)
    _site(other, "ours.pth", sysconfig.get_path("purelib"))
    _site(other, "numpy-0.9.dist-info/METADATA", "Metadata-Version: 2.1\nName: numpy\nVersion: 0.9")
    venvs = {"as it is": Path(sys.prefix), "bare": bare, "older": older, "other": other}
    cases = {
        name: str(venv / "bin" / "python")
        for name, venv in {**venvs, "none": folder / "nowhere"}.items()
    }
    out, log = folder / "told.json", folder / "driver.log"
    with Cluster(folder / "cluster", workers=1) as cluster:
        words = ["-c", _ASK, cluster.url, str(out), json.dumps(cases)]
        with driver(cluster, log, words) as process:
            assert process.wait(300) == 0, log.read_text()
    told: dict[str, str] = json.loads(out.read_text())
    return told


def _site(venv: Path, name: str, text: str) -> None:
    (place := next((venv / "lib").glob("python*")) / "site-packages" / name).parent.mkdir(
        exist_ok=True
    )
    place.write_text(text)


def test_a_worker_that_fits_is_taken(answers: dict[str, str]) -> None:
    assert answers["as it is"].startswith("fits: spark://127.0.0.1:")


def test_a_worker_without_the_packages_is_named(answers: dict[str, str]) -> None:
    expected = rf"worker {_HOST}: \S+/bare/bin/python has no .* and \d+ more: .*`make dist`"
    assert re.match(expected, answers["bare"]), answers["bare"]


def test_a_worker_with_an_older_python_is_named(answers: dict[str, str]) -> None:
    ours = ".".join(map(str, sys.version_info[:2]))
    expected = rf"worker 127\.0\.0\.\d: its Python is 3\.9, the driver's is {re.escape(ours)}: set "
    assert re.match(expected, answers["older"]), answers["older"]


def test_a_worker_with_another_version_of_a_package_is_named(answers: dict[str, str]) -> None:
    expected = rf"worker {_HOST}: \S+ has numpy 0\.9, the driver has \d\S+: other versions"
    assert re.match(expected, answers["other"]), answers["other"]


def test_a_python_that_is_not_there_is_named(answers: dict[str, str]) -> None:
    expected = r"worker 127\.0\.0\.\d: \S+/nowhere/bin/python does not start \(No such file"
    assert re.match(expected, answers["none"]), answers["none"]


def test_a_run_that_is_not_shared_is_named(answers: dict[str, str]) -> None:
    expected = f"worker {_HOST}: /proc/self/cwd/run is not the driver's there (No such file"
    assert answers["not shared"].startswith(expected), answers["not shared"]


def test_a_disk_without_room_is_named(answers: dict[str, str]) -> None:
    expected = rf"worker {_HOST}: [\d.]+ GB free at \S+/worker0/scratch/\S+, fewer than "
    assert re.match(expected, answers["full"]), answers["full"]


# -- the comparison, on told facts -----------------------------------------------------------

_SETTINGS = SparkSettings()


@pytest.fixture
def mine(tmp_path: Path) -> dict[str, Any]:
    note = tmp_path / "note"
    note.write_text("nonce")
    told = roll_call.answer(muster.PACKAGES, str(tmp_path), str(note))
    return {**told, "between": (told["clock"] - 1, told["clock"] + 1)}


def _of(told: dict[str, Any], mine: dict[str, Any], folder: str | None = "/run") -> list[str]:
    return list(complaints_of(told, mine, folder, "nonce", _SETTINGS))


def test_the_driver_fits_itself(mine: dict[str, Any]) -> None:
    assert mine["versions"]["pyarrow"]
    assert _of(mine, mine) == []


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-10.0, None), (-13.0, "12 s behind"), (10.0, None), (3600.0, "3599 s ahead of")],
)
def test_a_clock_that_differs_is_told_by_how_much_at_least(
    mine: dict[str, Any], seconds: float, expected: str | None
) -> None:
    told = _of({**mine, "clock": mine["clock"] + seconds}, mine)
    assert [f"its clock is at least {expected} the driver's" in line for line in told] == (
        [] if expected is None else [True]
    )


def test_a_folder_that_may_not_be_written_is_told(mine: dict[str, Any], tmp_path: Path) -> None:
    note = tmp_path / "note"
    seen = roll_call.in_folder("/proc/self", str(note))
    told = _of({**mine, "folder": seen}, mine, "/proc/self")
    assert len(told) == 1
    assert told[0].startswith("/proc/self may not be written there (")


def test_another_folder_at_the_same_path_is_told(mine: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "note").write_text("of another run")
    seen = roll_call.in_folder(str(tmp_path), str(tmp_path / "note"))
    assert "not the driver's there (another folder" in _of({**mine, "folder": seen}, mine)[0]
    assert _of({**mine, "folder": {}}, mine, None) == []


def test_other_code_is_told_and_the_zip_is_the_same_code(
    mine: dict[str, Any], tmp_path: Path
) -> None:
    packed = shipping.pack(tmp_path)
    again = shipping.pack(_made(tmp_path / "again"))
    assert packed.read_bytes() == again.read_bytes()
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name) + b"#" * (name == "pipeline/text.py"))
    same, other = _code_in(packed, tmp_path), _code_in(changed, tmp_path)
    assert same == {"code": mine["code"], "code_place": str(packed)}
    assert other["code_place"] == str(changed)
    assert _of({**mine, **same}, mine) == []
    told = _of({**mine, **other}, mine)
    assert len(told) == 1
    assert f"takes other code than the driver's, from {changed}" in told[0]
    none = _of({**mine, "code": "", "code_place": ""}, mine)
    assert "does not find our packages" in none[0]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _code_in(packed: Path, cwd: Path) -> dict[str, str]:
    """What a worker tells whose path holds that zip, and nothing else of ours."""
    told = textwrap.dedent(
        f"""
        import json, runpy, sys
        call = runpy.run_path({roll_call.__file__!r})
        sys.path.insert(0, {str(packed)!r})
        files, place = call["code"]()
        print(json.dumps(dict(code=call["digest_of"](files), code_place=place)))
        """
    )
    found = subprocess.run(
        [sys.executable, "-S", "-c", told], cwd=cwd, capture_output=True, text=True, check=True
    )
    facts: dict[str, str] = json.loads(found.stdout)
    return facts


def test_the_packages_are_those_of_the_distribution() -> None:
    import tomllib

    tree = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())
    asked = [*tree["project"]["dependencies"]]
    asked += tree["project"]["optional-dependencies"]["download"]
    names = {re.match(r"[a-zA-Z0-9_-]+", name)[0].lower() for name in asked}  # type: ignore[index]
    on_the_driver = {"imagehash", "jinja2", "matplotlib", "rich", "typer"}
    # Spark's own Python part comes with its workers.
    assert set(muster.PACKAGES) == names - on_the_driver - {"pyspark"}
