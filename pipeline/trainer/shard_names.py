"""Names of the files in a shards' folder: they come from anywhere, and lead nowhere else."""

import re
from collections.abc import Sequence

from pipeline.errors import BadInput

Wanted = tuple[str, int | None, str | None]
"""A shard's name, and its length and sha256 where they are known."""

MAX_SMALL_BYTES = 1 << 26
"""Of index.json or the places of a shard: an index of 100,000 shards has a quarter of this."""

_PLAIN = re.compile(r"\w[\w.-]*")
_MAX_NAME_BYTES = 200


def is_plain(name: str) -> bool:
    """Whether `name` can only be of a file that lies directly in the folder."""
    return bool(_PLAIN.fullmatch(name)) and len(name.encode("utf-8", "replace")) <= _MAX_NAME_BYTES


def checked(name: str) -> str:
    """`name`, or BadInput when it is not plain."""
    if not is_plain(name):
        raise BadInput(
            f"{name!r} is no name for a file in a folder of shards: rename it to letters, digits, "
            "'_', '-' and '.'"
        )
    return name


def tars_of(names: Sequence[str]) -> list[str]:
    """The shards among `names`, sorted."""
    # What begins with a dot is hidden, or in the making.
    shown = [name for name in names if name.endswith(".tar") and not name.startswith(".")]
    return sorted(map(checked, shown))
