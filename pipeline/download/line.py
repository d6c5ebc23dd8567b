"""Line: which image is asked for next, so that no host is asked too much and no thread waits.

A host with as many connections as it may have, or one that asked to be left alone, lets others go
first. A further try waits here, and not in a thread.
"""

import heapq
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Condition

from pipeline.download.addresses import Target, parse
from pipeline.download.reasons import FetchError

_SHORTEST_WAIT = 0.001
_PATIENCE = 6
"""Images in vain, after which a host that never said a word is given up."""


@dataclass(eq=False)
class Ask:
    """One image that is asked for."""

    key: int
    url: str
    target: Target | None
    """Where it is asked for now: after a redirect, elsewhere."""
    seconds: float
    """Time left for all of its tries."""
    error: FetchError | None = None
    """Why there is nothing to ask for."""
    tries: int = 0
    redirects: int = 0

    @property
    def host(self) -> str:
        return self.target.host if self.target is not None else ""


class Line:
    """The images of one task, in their order."""

    def __init__(
        self, urls: Iterable[str], seconds: float, per_host: int, max_wait_seconds: float
    ) -> None:
        self._per_host, self._max_wait = per_host, max_wait_seconds
        self._ready = deque(_ask(key, url, seconds) for key, url in enumerate(urls))
        self._left = Counter(ask.host for ask in self._ready)
        self._unfinished = len(self._ready)
        self._parked: dict[str, deque[Ask]] = defaultdict(deque)
        self._later: list[tuple[float, int, Ask]] = []
        self._busy: Counter[str] = Counter()
        self._held: dict[str, float] = {}
        self._spoke: set[str] = set()
        self._silent: Counter[str] = Counter()
        self._given_up: dict[str, FetchError] = {}
        self._changed = Condition()

    def take(self) -> Ask:
        """The next one; waits until there is one. It is given back with one of the next three.

        Raises IndexError when all are finished.
        """
        with self._changed:
            while self._unfinished:
                now = time.monotonic()
                while self._later and self._later[0][0] <= now:
                    self._ready.append(heapq.heappop(self._later)[2])
                while self._ready:
                    ask = self._ready.popleft()
                    if self._may_go(ask, now):
                        return ask
                self._changed.wait(self._seconds_to_next(now))
        raise IndexError("nothing is left to ask for")

    def finish(self, ask: Ask) -> None:
        """It has its answer."""
        with self._changed:
            self._unfinished -= 1
            self._leave(ask.host)
            if not self._unfinished:
                self._changed.notify_all()

    def redirect(self, ask: Ask, target: Target) -> None:
        """It is to be asked for at `target`."""
        with self._changed:
            self._leave(ask.host)
            ask.target = target
            ask.redirects += 1
            self._left[ask.host] += 1
            self._ready.appendleft(ask)
            self._changed.notify()

    def put_off(self, ask: Ask, seconds: float) -> None:
        """It is to be tried again after so many seconds."""
        with self._changed:
            self._leave(ask.host)
            self._left[ask.host] += 1
            heapq.heappush(self._later, (time.monotonic() + seconds, ask.key, ask))
            # Whoever waits longest may wait for a later one.
            self._changed.notify_all()

    def hold(self, host: str, seconds: float) -> None:
        """Let nobody ask `host` for so many seconds."""
        with self._changed:
            self._held[host] = max(self._held.get(host, 0.0), time.monotonic() + seconds)

    def heard(self, host: str) -> None:
        """It answers."""
        self._spoke.add(host)

    def silence(self, host: str, error: FetchError) -> None:
        """It did not answer in time. Who never does would keep a few threads busy for hours: after
        some images the others have the same `error`, and a later round may ask again."""
        with self._changed:
            self._silent[host] += 1
            if self._silent[host] >= _PATIENCE:
                self._given_up[host] = error

    def goes_on(self, host: str) -> bool:
        """Whether others of `host` are still to be asked for."""
        return self._left[host] > self._busy[host]

    def _may_go(self, ask: Ask, now: float) -> bool:
        """Take `ask`, or put it where it is found again."""
        host = ask.host
        if host in self._given_up and host not in self._spoke:
            ask.error = self._given_up[host]
        held = self._held.get(host, 0.0) - now
        if held > self._max_wait and ask.error is None:
            ask.error = FetchError("too many requests", "the site asked to be left alone")
        if ask.error is None:
            if held > 0:
                heapq.heappush(self._later, (now + held, ask.key, ask))
                return False
            if self._busy[host] >= self._per_host:
                self._parked[host].append(ask)
                return False
        self._busy[host] += 1
        return True

    def _leave(self, host: str) -> None:
        self._busy[host] -= 1
        self._left[host] -= 1
        if host not in self._parked:
            return
        parked = self._parked[host]
        free = min(self._per_host - self._busy[host], len(parked))
        if free > 0:
            self._ready.extendleft(reversed([parked.popleft() for _ in range(free)]))
            self._changed.notify(free)

    def _seconds_to_next(self, now: float) -> float | None:
        if not self._later:
            return None
        return max(self._later[0][0] - now, _SHORTEST_WAIT)


def _ask(key: int, url: str, seconds: float) -> Ask:
    try:
        return Ask(key, url, parse(url), seconds)
    except FetchError as error:
        return Ask(key, url, None, seconds, error)
