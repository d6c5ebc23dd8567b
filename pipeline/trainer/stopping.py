"""Stopping: a request to stop, heard between two steps.

SIGTERM is how a cluster or a shell asks; SIGUSR1 is what batch systems send some time before they
kill, when they are told to. The loop then saves and ends, and a later process goes on.
"""

import signal
import threading
from types import FrameType
from typing import Any

HEARD = (signal.SIGTERM, signal.SIGUSR1)


class Stopping:
    """Listens inside `with`; afterwards the signals mean what they meant before.

    A thread that is not the main one cannot listen: there it is never asked to stop.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        """The name of the signal that asked."""
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> bool:
        return self.signal is not None

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():
            for number in HEARD:
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None is a handler that was not set from Python, and cannot be put back from it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal = signal.Signals(number).name
