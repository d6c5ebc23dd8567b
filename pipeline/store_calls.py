"""Store calls: what a store is asked, again where it is busy, and its errors in words."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from upath import UPath

from pipeline import store_errors

T = TypeVar("T")

TRIES = 5
FIRST_WAIT_SECONDS = 1.0
"""Twice as long before each further try: 15 seconds in all. In each the client of S3 asks five
times, within a second or two."""
_AT_ONCE = 16
"""Objects that are removed."""


def quietly(where: UPath, call: Callable[[Any, str], object]) -> None:
    """As `answer`; what is not there needs no call."""
    try:
        answer(where, call)
    except FileNotFoundError:
        return


def answer(where: UPath, call: Callable[[Any, str], T]) -> T:
    """What a store says, asked again where it is busy.

    Raises FileNotFoundError, and BadInput for what a person can mend.
    """
    for tried in range(1, TRIES + 1):
        try:
            return call(where.fs, where.path)
        except Exception as error:
            if store_errors.is_busy(error) and tried < TRIES:
                time.sleep(FIRST_WAIT_SECONDS * 2 ** (tried - 1))
                continue
            if isinstance(error, FileNotFoundError) and store_errors.code_of(error) != (
                "NoSuchBucket"
            ):
                raise
            known = store_errors.told(_in_words(error, where), str(where), tried)
            if known is None:
                raise
            raise known from error
    raise AssertionError("unreachable")


def _in_words(error: Exception, where: UPath) -> Exception:
    """An error with the store's code: answers to HEAD have no body, and no room for it."""
    if store_errors.code_of(error) not in ("400", "403"):
        return error
    try:
        where.fs.cat_file(where.path, start=0, end=1)
    except Exception as told:  # noqa: BLE001 -- the store told it already, in fewer words
        if store_errors.code_of(told) is not None:
            return told
    return error


def objects(folder: UPath) -> dict[str, Any]:
    """All objects below a folder, by name; none where there is no such folder."""

    def find(fs: Any, path: str) -> dict[str, Any]:
        fs.invalidate_cache()  # other processes may have written since it was asked last
        return cast(dict[str, Any], fs.find(path, detail=True))

    try:
        return answer(folder, find)
    except FileNotFoundError:
        return {}


def clear_objects(folder: UPath) -> None:
    """Remove all objects below a folder."""

    # One by one: s3fs takes `*` in a folder for a pattern, and what S3 answers to a request for
    # many at once is a success whatever becomes of each.
    begin = len(folder.path.rstrip("/")) + 1

    def remove(name: str) -> None:
        quietly(folder / name[begin:], lambda fs, _: fs.rm_file(name))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(remove, objects(folder)))
