"""Alone: a call in a process of its own, whose death is seen and told.

A decoder that crashes takes its process with it. Where that process is a worker of Spark's, nobody
is left to say which shard it was.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")


class Died(Exception):
    """The process ended without an answer."""


def alone(work: Callable[..., T], *arguments: Any) -> T:
    """What `work` returns or raises, in a process of its own. Raises Died."""
    # Forked ones would share the threads' locks of this process.
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(other, work, arguments), daemon=True)
    process.start()
    # Else the pipe would stay open when the process is gone.
    other.close()
    try:
        is_made, made = pipe.recv()
    except (EOFError, OSError):  # it may end in the middle of a word
        process.join()
        raise Died(f"its process ended with {ending(process.exitcode)}") from None
    finally:
        process.kill()
        process.join()
        pipe.close()
    if is_made:
        answer: T = made
        return answer
    raise made


def ending(code: int | None) -> str:
    """How a process ended, for people."""
    if code is not None and code < 0:
        return f"signal {-code} ({signal.strsignal(-code)})"
    return f"exit code {code}"


def _work(pipe: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # Who asked may be killed, and then nobody waits.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        told = True, work(*arguments)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is raised on the other side
        told = False, error
    try:
        pipe.send(told)
    except Exception as error:  # noqa: BLE001 -- not every exception can travel
        pipe.send((False, RuntimeError(f"{type(told[1]).__name__}: {told[1]} ({error})")))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
