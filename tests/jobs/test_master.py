"""--master, and what of a session's size is ours."""

import socket
from pathlib import Path

import pytest

from jobs.options import on_master
from jobs.run import Run
from jobs.spark import _does_not_start, session, sizes_of
from pipeline.errors import BadInput
from pipeline.settings import Settings, SparkSettings

_GATEWAY = "PYSPARK_GATEWAY_PORT"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(_GATEWAY, raising=False)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")


@pytest.mark.parametrize(
    "master",
    ["local", "local[*]", "local[2,4]", "yarn", "spark://head:7077", "spark://a:1,b:2", "k8s://x"],
)
def test_a_master_is_laid_over_the_settings_of_this_call_alone(master: str, tmp_path: Path) -> None:
    run = Run(tmp_path, Settings())
    laid = on_master(run, master)
    assert laid.settings.spark.master == master
    assert run.settings.spark.master == "local[*]"
    assert laid.root == run.root
    assert on_master(run, None) is run


@pytest.mark.parametrize("master", ["", "head:7077", "spark://head", "mesos://head:5050", "locals"])
def test_a_master_that_spark_does_not_know_is_refused(master: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is none that Spark knows: local"):
        on_master(Run(tmp_path, Settings()), master)


def test_under_spark_submit_a_master_is_given_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(_GATEWAY, "1")
    with pytest.raises(BadInput, match="give it before the script"):
        on_master(Run(tmp_path, Settings()), "local[2]")


def test_a_master_that_is_not_there_is_told_from_one_that_does_not_take_us() -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        port = there.getsockname()[1]
        why = {
            master: str(_does_not_start(master, RuntimeError("stopped"), Path("scratch")))
            for master in (f"spark://127.0.0.1:{port}", f"spark://a..b:1,127.0.0.1:{port}", "yarn")
        }
    gone = _does_not_start(f"spark://127.0.0.1:{port}", RuntimeError("stopped"), Path("scratch"))
    assert f"on spark://127.0.0.1:{port} (nobody answers there)" in str(gone)
    assert all("(stopped)" in told for told in why.values()), why


def test_a_master_is_asked_at_an_address_of_the_sixth_version_too() -> None:
    try:
        there = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no ::1")
    with there:
        master = f"spark://[::1]:{there.getsockname()[1]}"
        assert "(stopped)" in str(_does_not_start(master, RuntimeError("stopped"), Path("scratch")))


@pytest.mark.parametrize("key", ["spark.sql.session.timeZone", "spark.sql.ansi.enabled"])
def test_what_decides_the_result_is_not_free(key: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"spark.conf: {key} decides what is made"):
        session(SparkSettings(conf={key: "x"}), tmp_path)


@pytest.mark.parametrize(
    ("master", "bound", "scratch"),
    [
        ("local[2]", True, True),
        ("spark://127.0.0.1:7077", True, False),
        ("spark://localhost:7077", True, False),
        ("spark://127.0.0.1.example.org:7077", False, False),
        ("spark://head:7077", False, False),
        ("k8s://https://127.0.0.1:6443", False, False),
        ("yarn", False, False),
    ],
)
def test_only_what_stays_on_this_machine_is_bound_to_it(
    master: str, bound: bool, scratch: bool, tmp_path: Path
) -> None:
    sizes = sizes_of(SparkSettings(master=master), tmp_path)
    assert (sizes.get("spark.driver.bindAddress") == "127.0.0.1") is bound
    assert (sizes.get("spark.driver.host") == "127.0.0.1") is bound
    # A folder of the driver's is nothing for other machines.
    assert ("spark.local.dir" in sizes) is scratch
    assert sizes["spark.driver.memory"] == "4g"


def test_executors_are_as_large_as_the_settings_say(tmp_path: Path) -> None:
    sizes = sizes_of(SparkSettings(executor_memory="12g", executor_cores=4), tmp_path)
    assert (sizes["spark.executor.memory"], sizes["spark.executor.cores"]) == ("12g", "4")
    assert (
        not {"spark.executor.memory", "spark.executor.cores"}
        & sizes_of(SparkSettings(), tmp_path).keys()
    )
