"""Wire: connections that end at a deadline, and are kept for the next image of their host."""

import http.client
import io
import select
import socket
import ssl
import time
from contextlib import suppress
from functools import cache
from threading import Lock
from typing import Any

from pipeline.download.addresses import Target
from pipeline.download.reasons import FetchError

_BUFFER_BYTES = 1 << 16
_HEAD_BYTES = 1 << 17
_MAX_ADDRESSES = 4
_IDLE_SECONDS = 10.0


class Deadline:
    """The moment by which an image is here, whatever happens on the way."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def seconds(self) -> float:
        """Time left; negative when there is none."""
        return self._end - time.monotonic()

    def left(self, step: str) -> float:
        """Time left. Raises FetchError when there is none."""
        seconds = self.seconds()
        if seconds <= 0:
            raise FetchError("timeout", step)
        return seconds


class Wire(io.RawIOBase):
    """A connection as http.client reads it; each read and write ends at the deadline.

    A socket's own time limit is one per read: a server that sends a byte a second never meets it.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock
        self._deadline: Deadline | None = None
        self._reader = _Reader(self, _BUFFER_BYTES)
        self._is_in_head = False
        self.received_bytes = 0
        """Of this exchange."""

    def begin(self, request: bytes, deadline: Deadline) -> http.client.HTTPResponse:
        """Send a request; its answer, whose body is still to be read."""
        self._deadline = deadline
        self.received_bytes = 0
        self._sock.settimeout(deadline.left("answer"))
        self._sock.sendall(request)
        self._is_in_head = True
        is_interim = True
        while is_interim:
            response = http.client.HTTPResponse(self, method="GET")  # type: ignore[arg-type]
            response.begin()
            is_interim = response.status < 200  # RFC 9110 15.2; http.client knows 100 alone
        self._is_in_head = False
        return response

    def makefile(self, _mode: str) -> io.BufferedReader:
        return self._reader

    def hurry(self, seconds: float) -> None:
        """Give what is still to come at most so many seconds."""
        if self._deadline is not None:
            self._deadline = Deadline(min(seconds, self._deadline.seconds()))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is None:
            return None
        # http.client takes 6 MB of headers, and 6 s of CPU to parse those that are made for it.
        if self._is_in_head and self.received_bytes > _HEAD_BYTES:
            raise FetchError("http error", "headers are too long")
        self._sock.settimeout(self._deadline.left("answer"))
        count = self._sock.recv_into(buffer)
        self.received_bytes += count
        return count

    def readall(self) -> bytes:
        """Raises FetchError: http.client reads without a limit only where a chunk has length -1."""
        raise FetchError("http error", "chunk of negative length")

    def is_spent(self) -> bool:
        """Whether the last answer left nothing behind that the next one would begin with."""
        self._deadline = None  # to look at what is buffered, and not to read on
        return not self._reader.peek(1)

    def is_quiet(self) -> bool:
        """Whether the other side has neither hung up nor spoken unasked."""
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return False
        watch = select.poll()
        watch.register(self._sock, select.POLLIN)
        return not watch.poll(0)

    def hang_up(self) -> None:
        with suppress(OSError):
            self._sock.close()

    def close(self) -> None:
        """Nothing: http.client closes what it has read to its end; `hang_up` closes."""


class _Reader(io.BufferedReader):
    def close(self) -> None:
        """Nothing: the next answer is read from it too."""


class Wires:
    """Connections that wait for the next image of their host."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[Wire, tuple[Target, float]] = {}
        self._at: dict[tuple[str, str, int], list[Wire]] = {}
        self._lock = Lock()

    def get(self, target: Target) -> Wire | None:
        """A connection to the target's host that is still good, if there is one."""
        while True:
            with self._lock:
                wires = self._at.get(target.place)
                if not wires:
                    return None
                wire = wires[-1]
                until = self._forget(wire)
            if time.monotonic() < until and wire.is_quiet():
                return wire
            wire.hang_up()

    def keep(self, target: Target, wire: Wire) -> None:
        """Keep a connection for a while; the oldest go when there are too many."""
        now = time.monotonic()
        with self._lock:
            self._waiting[wire] = target, now + _IDLE_SECONDS
            self._at.setdefault(target.place, []).append(wire)
            while self._waiting:
                oldest = next(iter(self._waiting))
                if len(self._waiting) <= self._most and now < self._waiting[oldest][1]:
                    break
                self._forget(oldest)
                oldest.hang_up()

    def close(self) -> None:
        """Hang up all."""
        with self._lock:
            for wire in self._waiting:
                wire.hang_up()
            self._waiting.clear()
            self._at.clear()

    def _forget(self, wire: Wire) -> float:
        target, until = self._waiting.pop(wire)
        wires = self._at[target.place]
        wires.remove(wire)
        if not wires:
            del self._at[target.place]
        return until


_making = Lock()


def tls() -> ssl.SSLContext:
    """One for the process: making it reads every certificate authority, 20 ms of CPU."""
    with _making:  # or all threads make their own, the first time
        return authorities()


@cache
def authorities() -> ssl.SSLContext:
    """The system's, or those of SSL_CERT_FILE."""
    return ssl.create_default_context()


def connected(addresses: list[str], port: int, seconds: float) -> socket.socket:
    """A socket to the first address that answers. Raises FetchError, OSError."""
    addresses = addresses[:_MAX_ADDRESSES]
    end = time.monotonic() + seconds
    for left in reversed(range(len(addresses))):
        address = addresses[-left - 1]
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            sock.settimeout(max((end - time.monotonic()) / (left + 1), 0.001))
            sock.connect((address, port))
        except OSError:
            sock.close()
            if not left:
                raise
        else:
            return sock
    raise FetchError("unknown host", "no address")


def secured(sock: socket.socket, target: Target, deadline: Deadline) -> socket.socket:
    """The socket inside TLS, its certificate checked for the host. Raises OSError."""
    # The handshake's own time limit is one for all of its messages.
    sock.settimeout(deadline.left("handshake"))
    return tls().wrap_socket(sock, server_hostname=target.host.removesuffix("."))
