"""Store environment: what a process needs from its environment to reach a store.

Secrets are left out: Spark's pages and event log show its configuration. Executors on other
machines find them as they do elsewhere: by a profile, a role of the machine, or an environment of
their own.
"""

import os
import re

_REACHING = re.compile(
    r"AWS_(ENDPOINT_URL|ENDPOINT_URL_S3|DEFAULT_REGION|REGION|PROFILE|CA_BUNDLE"
    r"|EC2_METADATA_DISABLED|S3_\w+)|GOOGLE_CLOUD_PROJECT|STORAGE_EMULATOR_HOST"
)
# FSSPEC_<PROTOCOL>_<OPTION>, by the options of s3fs, gcsfs, adlfs and hdfs: others, such as
# CONNECTION_STRING, hold a secret under a harmless name.
_OPTION = re.compile(
    r"FSSPEC_(CONFIG_DIR|[A-Z0-9]+_(ANON|ENDPOINT_URL|REGION|PROFILE|USE_SSL|REQUESTER_PAYS"
    r"|PROJECT|ACCESS|DEFAULT_LOCATION|ACCOUNT_NAME|ACCOUNT_HOST|LOCATION_MODE|HOST|PORT|USER))",
    re.IGNORECASE,
)
_SECRET = re.compile("KEY|SECRET|TOKEN|PASSW|CREDENTIAL", re.IGNORECASE)


def options() -> dict[str, str]:
    """The options of a Spark session whose executors reach the stores that this process does."""
    return {
        f"spark.executorEnv.{name}": value
        for name, value in sorted(os.environ.items())
        if _is_told(name, value)
    }


def _is_told(name: str, value: str) -> bool:
    is_reaching = _REACHING.fullmatch(name) or _OPTION.fullmatch(name)
    # A dictionary, which fsspec takes for any option, may hold a key.
    is_secret = _SECRET.search(name) or value.lstrip().startswith(("{", "["))
    return bool(is_reaching and not is_secret)
