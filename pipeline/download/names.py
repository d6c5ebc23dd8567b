"""Names: host names to numeric addresses, within a time limit, remembered for a while."""

import ipaddress
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from pipeline.download.reasons import FetchError

LookUp = Callable[[str], list[str]]
"""The numeric addresses of a host. Raises OSError, as socket.getaddrinfo does."""

_KEPT_SECONDS = 300.0
_FAILURE_KEPT_SECONDS = 30.0
_KEPT_HOSTS = 50_000
_NO_SUCH_HOST = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def system(host: str) -> list[str]:
    """The addresses of `host`, in the system's order of preference."""
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class Resolver:
    """Look-ups for the threads of one task: each host is asked for once, however many wait."""

    def __init__(self, threads: int, look_up: LookUp = system) -> None:
        self._look_up = look_up
        # getaddrinfo knows no time limit: a look-up that is given up keeps its thread for a
        # while, so there are more of these threads than fetches.
        self._pool = ThreadPoolExecutor(4 * threads, thread_name_prefix="dns")
        self._known: dict[str, tuple[float, Future[list[str]]]] = {}
        self._lock = Lock()

    def addresses(self, host: str, seconds: float) -> list[str]:
        """The addresses of `host`. Raises FetchError."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        try:
            return self._asked(host).result(timeout=seconds)
        except TimeoutError:
            raise FetchError("timeout", "dns", may_pass=True) from None
        except socket.gaierror as error:
            if error.errno in _NO_SUCH_HOST:
                raise FetchError("unknown host", error.strerror or "") from None
            raise FetchError("dns", error.strerror or "", may_pass=True) from None
        except UnicodeError:
            raise FetchError("bad url", "host is not a domain name") from None
        except OSError as error:
            raise FetchError("dns", error.strerror or str(error), may_pass=True) from None

    def _asked(self, host: str) -> "Future[list[str]]":
        with self._lock:
            since, known = self._known.get(host, (0.0, None))
            now = time.monotonic()
            if known is not None and (not known.done() or now - since < _kept_seconds(known)):
                return known
            if len(self._known) >= _KEPT_HOSTS:
                self._known.clear()
            future = self._pool.submit(self._look_up, host)
            self._known[host] = (now, future)
            return future

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _kept_seconds(known: "Future[list[str]]") -> float:
    """A failure is remembered for a shorter time than an address."""
    return _KEPT_SECONDS if known.exception() is None else _FAILURE_KEPT_SECONDS
