"""jobs.store_env"""

import pytest

from jobs import store_env


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("AWS_S3_USE_ARN_REGION", "true"),
        ("GOOGLE_CLOUD_PROJECT", "mine"),
        ("FSSPEC_S3_ANON", "true"),
        ("FSSPEC_s3_endpoint_url", "http://127.0.0.1:9000"),
        ("FSSPEC_AZ_ACCOUNT_NAME", "mine"),
        ("FSSPEC_GS_PROJECT", "mine"),
        ("FSSPEC_CONFIG_DIR", "/shared/fsspec"),
    ],
)
def test_executors_are_told_where_a_store_is(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert store_env.options()[f"spark.executorEnv.{name}"] == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SECRET_ACCESS_KEY", "hidden"),
        ("AWS_SESSION_TOKEN", "hidden"),
        ("FSSPEC_S3_SECRET", "hidden"),
        ("FSSPEC_AZ", '{"account_name": "mine", "account_key": "hidden"}'),
        ("FSSPEC_AZ_CONNECTION_STRING", "AccountName=mine;AccountKey=hidden"),
        ("FSSPEC_AZ_CREDENTIAL", "hidden"),
        ("FSSPEC_GS_TOKEN", "hidden"),
        ("FSSPEC_S3_CLIENT_KWARGS", '{"aws_secret_access_key": "hidden"}'),
        ("FSSPEC_S3_PROFILE", ' {"key": "hidden"}'),
        ("FSSPEC_ANON", "hidden"),
        ("FSSPEC_SMB_PASSWORD_ANON", "hidden"),
    ],
)
def test_what_spark_would_show_holds_no_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert f"spark.executorEnv.{name}" not in store_env.options()
