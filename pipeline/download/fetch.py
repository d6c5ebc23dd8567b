"""Fetch: the bytes behind one URL, within a time, a size and an address policy, or the reason."""

import hashlib
import http.client
import io
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from typing import Any, Self
from urllib.parse import urljoin

from pipeline.download import answers
from pipeline.download.addresses import Resolver, Target, is_public, parse
from pipeline.download.reasons import FetchError, describe
from pipeline.settings import DownloadSettings

_BLOCK_BYTES = 1 << 16
_MAX_ADDRESSES = 4
_BACK_OFF_SECONDS = 0.5
_ACCEPT = "image/jpeg,image/png,image/webp,image/gif,image/*;q=0.8,*/*;q=0.5"


class Fetcher:
    """Fetches for the threads of one task."""

    def __init__(self, settings: DownloadSettings) -> None:
        self._settings = settings
        self._resolver = Resolver(settings.threads)
        contact = f" (+{settings.contact})" if settings.contact else ""
        self._headers = {
            "User-Agent": settings.user_agent + contact,
            "Accept": _ACCEPT,
            "Accept-Encoding": "identity",
            "Connection": "close",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._resolver.close()

    def fetch(self, url: str) -> bytes:
        """The bytes behind `url`. Raises FetchError."""
        deadline = _Deadline(self._settings.deadline_seconds)
        tries = self._settings.retries + 1
        for left in reversed(range(1, tries)):
            try:
                return self._follow(url, deadline, tries_left=left)
            except FetchError as error:
                wait = max(error.wait_seconds, _back_off_seconds(url, tries - left))
                if not error.may_pass or wait >= deadline.seconds():
                    raise
            time.sleep(wait)
        return self._follow(url, deadline, tries_left=0)

    def _follow(self, url: str, deadline: "_Deadline", tries_left: int) -> bytes:
        """One try: the request and its redirects, each checked as the first."""
        target = parse(url)
        for _ in range(self._settings.max_redirects + 1):
            answer = self._ask(target, deadline, tries_left)
            if isinstance(answer, bytes):
                return answer
            target = answer
        raise FetchError("too many redirects", f"more than {self._settings.max_redirects}")

    def _ask(self, target: Target, deadline: "_Deadline", tries_left: int) -> bytes | Target:
        """One request: the body, or where to ask next."""
        # A name server or host that does not answer at all leaves time for another try.
        share = 1.0 / (tries_left + 1)
        addresses = self._checked_addresses(target, deadline.left("dns") * share)
        with _named("connect"):
            sock = _connected(addresses, target.port, deadline.left("connect") * share)
        with closing(sock):
            if target.scheme == "https":
                with _named("handshake"):
                    # The handshake's own time limit is one for all of its messages.
                    sock.settimeout(deadline.left("handshake"))
                    host = target.host.removesuffix(".")
                    sock = tls().wrap_socket(sock, server_hostname=host)
            with closing(sock), _named("answer"):
                return self._answer(sock, target, deadline)

    def _checked_addresses(self, target: Target, seconds: float) -> list[str]:
        """Numeric addresses that may be connected to: a later DNS answer changes nothing."""
        addresses = self._resolver.addresses(target.host, seconds)
        if not target.is_among(self._settings.allow_hosts) and not all(map(is_public, addresses)):
            raise FetchError("forbidden address", target.host)
        return addresses

    def _answer(self, sock: socket.socket, target: Target, deadline: "_Deadline") -> bytes | Target:
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.sock = _Wire(sock, deadline)
        headers = {"Host": target.authority, **self._headers}
        connection.request("GET", target.path, headers=headers)
        with closing(connection.getresponse()) as response:
            answers.check_status(response.status, response.headers)
            settings = self._settings
            answers.check_opt_out(response.headers, settings.user_agent, settings.opt_outs)
            if response.status in answers.REDIRECTS:
                return _redirected(target, response.headers.get("Location"))
            answers.check_type(response.headers)
            body = self._body(response)
        body = answers.decoded(body, response.headers, self._settings.max_body_bytes)
        if not body:
            raise FetchError("not an image", "empty body")
        return body

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        limit, length = self._settings.max_body_bytes, response.length
        if length is not None and length > limit:
            raise FetchError("too large", f"{length} bytes")
        body = bytearray()
        while block := response.read(_BLOCK_BYTES):
            body += block
            if len(body) > limit:
                raise FetchError("too large", f"more than {limit} bytes")
        # http.client ends quietly when a body is shorter than its Content-Length.
        if length is not None and len(body) < length:
            raise FetchError("truncated", f"{len(body)} of {length} bytes")
        return bytes(body)


class _Deadline:
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


class _Wire:
    """A socket as http.client sees it; each read and write ends at the deadline.

    A socket's own time limit is one per read: a server that sends a byte a second never meets it.
    """

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def sendall(self, payload: bytes) -> None:
        self._sock.settimeout(self._deadline.left("answer"))
        self._sock.sendall(payload)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._sock, self._deadline), _BLOCK_BYTES)

    def close(self) -> None:
        """Nothing: http.client closes before the body is read, `Fetcher._ask` afterwards."""


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.left("answer"))
        return self._sock.recv_into(buffer)


@cache
def tls() -> ssl.SSLContext:
    """One for the process: making it reads every certificate authority, 20 ms of CPU."""
    return ssl.create_default_context()


def _connected(addresses: list[str], port: int, seconds: float) -> socket.socket:
    """A socket to the first address that answers."""
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
    raise FetchError("dns", "no address")


def _redirected(target: Target, location: str | None) -> Target:
    if not location:
        raise FetchError("http error", "redirect without a location")
    # http.client reads headers as latin-1; sites write UTF-8.
    raw = location.encode("latin-1", errors="replace")
    try:
        return parse(urljoin(target.url, raw.decode("utf-8", errors="replace")))
    except ValueError as error:
        raise FetchError("bad url", str(error)) from None


def _back_off_seconds(url: str, nth: int) -> float:
    """Doubles with each try; the jitter is the URL's own, so that two runs wait alike."""
    digest = hashlib.sha256(f"{nth} {url}".encode(errors="surrogatepass")).digest()
    jitter = int.from_bytes(digest[:4]) / 2**32
    return _BACK_OFF_SECONDS * 2.0 ** (nth - 1) * (0.5 + jitter)


@contextmanager
def _named(step: str) -> Iterator[None]:
    """Errors of the network, by their reason."""
    try:
        yield
    except TimeoutError:
        raise FetchError("timeout", step, may_pass=True) from None
    except ssl.SSLError as error:
        raise FetchError("tls", error.reason or str(error)) from None
    except ConnectionRefusedError as error:
        raise FetchError("connection", error.strerror or "refused") from None
    except ConnectionError as error:
        detail = error.strerror or str(error)
        raise FetchError("connection", detail, may_pass=True) from None
    except OSError as error:
        raise FetchError("connection", error.strerror or str(error)) from None
    except http.client.IncompleteRead:
        raise FetchError("truncated", "chunked body") from None
    except http.client.HTTPException as error:
        raise FetchError("http error", describe(error)) from None
