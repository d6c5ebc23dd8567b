"""A meter that counts the steps of a training, and stops it where a test wants it stopped."""

from collections.abc import Callable


def interrupt() -> None:
    raise KeyboardInterrupt


class Meter:
    """Calls `stop` when `stop_after` steps are done."""

    def __init__(self, stop_after: int = -1, stop: Callable[[], object] = interrupt) -> None:
        self.count, self.stop_after, self.stop = 0, stop_after, stop

    def advance(self, count: int = 1) -> None:
        self.count += count
        if self.count == self.stop_after:
            self.stop()
