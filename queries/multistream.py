"""Multistream: Wikimedia's index of a multistream dump, which tells how many pages the dump holds.

reads   the index beside a dump: lines of `offset:page_id:title`, plain or bz2
writes  the number of its pages
"""

import bz2
import re

from pipeline import inputs, storage
from pipeline.errors import BadInput
from queries.bzip2 import is_packed

_DUMP = re.compile(r"(.*-multistream)(\d*)\.xml(-p\d+p\d+)?(?:\.bz2)?")
_LINE = re.compile(rb"\d+:\d+:[^\n]+\n?")  # a title may hold colons
_LONGEST_LINE = 1 << 14
"""Bytes. A title has at most 255, each of which may be written as an entity."""


def index_of(dump: str) -> str | None:
    """The index beside a dump, packed or not; None where there is none."""
    path = storage.place(dump)
    name = _DUMP.fullmatch(path.name)
    if name is None:
        return None
    index = f"{name[1]}-index{name[2]}.txt{name[3] or ''}"
    beside = [path.with_name(index + ending) for ending in (".bz2", "")]
    return next((str(found) for found in beside if inputs.kind(found) == "file"), None)


def pages_listed(index: str) -> int:
    """How many pages an index lists. Raises BadInput for a file that is no whole index."""
    count = 0
    try:
        with (
            inputs.opened(index) as stored,
            bz2.open(stored) if is_packed(stored) else stored as lines,
        ):
            while line := lines.readline(_LONGEST_LINE):
                count += 1
                if _LINE.fullmatch(line) is None:
                    raise BadInput(
                        f"{index}: line {count} is not `offset:page_id:title`: "
                        "fetch the index again, or take it away to do without it"
                    )
    except (OSError, EOFError) as error:
        raise BadInput(f"{index} cannot be read ({error}): fetch it again") from None
    return count
