"""Store environment: what a process needs from its environment to reach a store.

Secrets are left out: Spark's pages and event log show its configuration. Executors on other
machines find them as they do elsewhere: by a profile, a role of the machine, or an environment of
their own.
"""

import os
import re

_REACHING = re.compile(
    r"AWS_(ENDPOINT_URL|ENDPOINT_URL_S3|DEFAULT_REGION|REGION|PROFILE|CA_BUNDLE"
    r"|EC2_METADATA_DISABLED|S3_\w+)|FSSPEC_\w+|GOOGLE_CLOUD_PROJECT|STORAGE_EMULATOR_HOST"
)
_SECRET = re.compile("KEY|SECRET|TOKEN|PASSW|CREDENTIAL", re.IGNORECASE)


def options() -> dict[str, str]:
    """The options of a Spark session whose executors reach the stores that this process does."""
    return {
        f"spark.executorEnv.{name}": value
        for name, value in sorted(os.environ.items())
        if _REACHING.fullmatch(name) and not _SECRET.search(name)
    }
