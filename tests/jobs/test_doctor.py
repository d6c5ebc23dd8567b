"""jobs.doctor"""

from pathlib import Path

import pytest

from jobs.doctor import s3a


def _home(folder: Path, *jars: str, conf: str = "") -> Path:
    (folder / "jars").mkdir()
    (folder / "conf").mkdir()
    for jar in jars:
        (folder / "jars" / jar).touch()
    (folder / "conf" / "spark-defaults.conf").write_text(conf)
    return folder


_HADOOP = ("hadoop-client-api-3.4.1.jar", "hadoop-client-runtime-3.4.1.jar", "parquet-hadoop-1.jar")
_PACKAGE = "org.apache.hadoop:hadoop-aws:3.4.1"


@pytest.mark.parametrize(
    ("jars", "conf", "mark", "words"),
    [
        ((), "", "warn", f"no hadoop-aws beside Spark's Hadoop 3.4.1|--packages {_PACKAGE}"),
        (("hadoop-aws-3.4.1.jar", "bundle-2.29.52.jar"), "", "ok", "hadoop-aws 3.4.1"),
        (("hadoop-aws-3.4.1.jar",), "", "warn", "lacks the AWS SDK"),
        (("hadoop-aws-3.3.4.jar",), "", "warn", "3.3.4 does not fit Spark's Hadoop 3.4.1"),
        ((), f"spark.jars.packages a:b:1,{_PACKAGE}", "ok", "hadoop-aws 3.4.1"),
        ((), f"# spark.jars.packages {_PACKAGE}", "warn", "no hadoop-aws"),
        ((), "spark.jars=/opt/hadoop-aws-3.4.1.jar, /opt/bundle-2.jar", "ok", "hadoop-aws 3.4.1"),
    ],
)
def test_the_jars_of_s3a_are_found_or_the_way_to_get_those_that_fit_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    jars: tuple[str, ...],
    conf: str,
    mark: str,
    words: str,
) -> None:
    monkeypatch.delenv("SPARK_CONF_DIR", raising=False)
    found, name, told = s3a(_home(tmp_path, *_HADOOP, *jars, conf=conf))
    assert (found, name) == (mark, "s3a")
    for word in words.split("|"):
        assert word in told
    assert ("only Spark's own reading of s3a:// needs it" in told) == (mark == "warn")


def test_a_spark_without_hadoop_is_told(tmp_path: Path) -> None:
    assert s3a(tmp_path)[0] == "warn"
