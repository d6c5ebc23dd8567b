"""jobs.dist: what `make dist` made is all that a cluster needs of us. `make test-dist` runs it."""

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import psutil
import pyspark
import pytest

from jobs.dist import needed
from jobs.run import Run
from jobs.world import make_world
from tests.cluster.standalone import Cluster

_ROOT = Path(__file__).parents[2]
_SECONDS = 300.0


def test_the_environment_has_what_stages_import_and_no_torch() -> None:
    names = [re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in needed(_ROOT)]
    assert {"img2dataset", "lxml", "numba", "pyarrow", "pydantic", "s3fs"} <= set(names)
    assert not {"torch", "pyspark", "pytest", "mypy", "dataclasses"} & set(names)
    assert len(set(names)) == len(names) > 40


@pytest.mark.dist
def test_the_first_stages_run_from_elsewhere_by_spark_submit(tmp_path: Path) -> None:
    """From another folder, with an empty PYTHONPATH, on workers that have nothing of ours."""
    dist, driver = _ROOT / "dist", tmp_path / "unpacked"
    with tarfile.open(dist / "environment.tar.gz") as packed:
        packed.extractall(driver, filter="tar")
    script = tmp_path / "wit.py"
    script.write_bytes((dist / "wit.py").read_bytes())
    world = make_world(tmp_path / "web", 200)
    with Cluster(tmp_path / "cluster", workers=2) as cluster:
        submit = [
            str(Path(pyspark.__path__[0], "bin", "spark-submit")),
            *("--master", cluster.url),
            *("--archives", f"{dist / 'environment.tar.gz'}#environment"),
            *("--conf", "spark.pyspark.python=./environment/bin/python"),
            *("--conf", f"spark.pyspark.driver.python={driver / 'bin' / 'python'}"),
            *("--conf", "spark.driver.host=127.0.0.1"),
            *("--conf", "spark.driver.bindAddress=127.0.0.1"),
            *("--conf", "spark.ui.enabled=false"),
            *("--conf", "spark.sql.shuffle.partitions=3"),
            str(script),
        ]
        for verb in ("derive", "ingest", "match"):
            words = [verb, "--run", "run"]
            words += ["--config", str(world.settings)] if verb == "derive" else []
            told = _told([*submit, *words], tmp_path)
            assert "2 executors fit" in told, told
    # What is sent to a cluster has no torch.
    train = [str(driver / "bin" / "python"), str(script), "train", "--run", "run"]
    told = _told(train, tmp_path, code=2)
    assert told.splitlines()[-1].startswith("wit: train: a training wants torch"), told
    run = Run.open(tmp_path / "run", None, [])
    assert run.rows("matched") > 100
    manifest = json.loads((run.path("matched") / "_manifest.json").read_text())
    assert manifest["code"] == "0.1.0"  # the wheel's, and not a checkout's


def _told(command: list[str], folder: Path, code: int = 0) -> str:
    """What a command says, run in a folder, without anything of this environment."""
    spared = ("PYTHONPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "VIRTUAL_ENV")
    bare = {key: value for key, value in os.environ.items() if key not in spared}
    log = folder / "submit.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**bare, "PYTHONPATH": "", "SPARK_LOCAL_IP": "127.0.0.1"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            found = process.wait(_SECONDS)
        finally:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
                process.wait()
    assert found == code, log.read_text(errors="replace")[-8000:]
    return log.read_text(errors="replace")
