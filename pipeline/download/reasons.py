"""Reasons: the closed list of answers to "why is there no image?"."""

import re

REASONS = (
    "bad url",
    "forbidden address",
    "unknown host",
    "dns",
    "connection",
    "tls",
    "timeout",
    "not found",
    "gone",
    "forbidden",
    "too many requests",
    "server error",
    "http error",
    "too many redirects",
    "opted out",
    "not an image",
    "too large",
    "incomplete",
    "truncated",
    "undecodable",
    "too many pixels",
    "too small",
    "aspect ratio",
    "unexpected",
)
"""In the order in which a download meets them. "unexpected" is an error that nobody foresaw."""

MAY_HEAL = frozenset(
    {
        "dns",
        "connection",
        "timeout",
        "too many requests",
        "server error",
        "incomplete",
        "unexpected",
    }
)
"""Those that say more of the moment than of the image: a later round may ask again."""

_MEMORY_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_MAX_DETAIL_CHARS = 200


class FetchError(Exception):
    """There is no image, for one of REASONS."""

    def __init__(
        self, reason: str, detail: str = "", *, may_pass: bool = False, wait_seconds: float = 0.0
    ) -> None:
        super().__init__(message(reason, detail))
        self.reason = reason
        self.detail = detail
        self.may_pass = may_pass
        """Whether another try can help."""
        self.wait_seconds = wait_seconds
        """How long the site asks to be left alone."""


def message(reason: str, detail: str = "") -> str:
    """The reason with its detail, in one line that is the same in every process."""
    # Some decoders name the object in memory that they could not read.
    detail = " ".join(_MEMORY_ADDRESS.sub("", detail).split())[:_MAX_DETAIL_CHARS]
    return f"{reason}: {detail}" if detail else reason


def reason_of(error_message: str) -> str:
    """The reason that begins an error message."""
    reason = error_message.partition(":")[0]
    return reason if reason in REASONS else "unexpected"


def describe(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__} {error}"
