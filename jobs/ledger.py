"""Ledger: what a stage says of its rows. Rows in are rows out and the dropped, or the run stops."""

from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import WitError

TRIED_AGAIN = "tried again"
"""Why a row of images is no image, where a later round asked for its pair once more."""


class CountsDisagree(WitError):
    """Rows went missing: rows in are not rows out and the dropped."""


@dataclass
class Ledger:
    """What a stage says of its rows when it is done."""

    rows_in: int
    rows_out: int
    dropped: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    content: str = ""
    """What the table is known by, where its inputs and settings do not fix its content: a download
    depends on the web, a training on the machine."""

    def check(self, table: str) -> None:
        told = self.rows_out + sum(self.dropped.values())
        if self.rows_in != told:
            raise CountsDisagree(
                f"{table}: {self.rows_in} rows came in, but {self.rows_out} went out and "
                f"{self.dropped} were dropped: this is a bug, please report it with the run's log"
            )
