"""Fetch: the bytes behind a URL, within a time, a size and an address policy, or the reason."""

import errno
import hashlib
import http.client
import io
import ssl
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from tempfile import SpooledTemporaryFile
from threading import Lock
from typing import IO, Self
from urllib.parse import urljoin

from pipeline.download import answers
from pipeline.download.addresses import Target, is_public, parse
from pipeline.download.line import Ask, Line
from pipeline.download.names import LookUp, Resolver, system
from pipeline.download.reasons import FetchError, describe
from pipeline.download.wire import Deadline, Wire, Wires, connected, secured
from pipeline.settings import DownloadSettings
from pipeline.staged import scratch_folder

_BLOCK_BYTES = 1 << 16
_IN_MEMORY_BYTES = 1 << 20
_DRAINED_BYTES = 1 << 16
_DRAIN_SECONDS = 1.0
_BACK_OFF_SECONDS = 0.5
_OUR_OWN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})
_ACCEPT = "image/jpeg,image/png,image/webp,image/gif,image/*;q=0.8,*/*;q=0.5"

Body = IO[bytes]
"""The bytes of an image; a large one lies on the disk, so that many of them fit."""


class Fetcher:
    """Fetches the images of one task, for as many threads as call `answer`."""

    def __init__(
        self, settings: DownloadSettings, urls: Iterable[str], look_up: LookUp = system
    ) -> None:
        self._settings = settings
        self._line = Line(
            urls,
            settings.deadline_seconds,
            settings.connections_per_host,
            settings.max_wait_seconds,
        )
        self._resolver = Resolver(settings.threads, look_up)
        self._wires = Wires(2 * settings.threads)
        contact = f" (+{settings.contact})" if settings.contact else ""
        self._headers = (
            f"User-Agent: {settings.user_agent}{contact}\r\n"
            f"Accept: {_ACCEPT}\r\nAccept-Encoding: identity\r\n"
        )
        self._told: Counter[str] = Counter()
        self._telling = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wires.close()
        self._resolver.close()

    @property
    def pace(self) -> dict[str, int]:
        """What was done so far: requests, connections, retries, redirects, received_bytes."""
        names = ("requests", "connections", "retries", "redirects", "received_bytes")
        return {name: self._told[name] for name in names}

    def answer(self) -> tuple[int, Body | FetchError]:
        """The next image that has come or will not come, by its place in the list of URLs.

        To be called once for each URL, by any thread.
        """
        while True:
            ask = self._line.take()
            try:
                answer = self._answer(ask)
            except Exception as error:  # noqa: BLE001 - one URL may not end a shard of thousands
                answer = FetchError("unexpected", describe(error))
            if answer is not None:
                self._line.finish(ask)
                return ask.key, answer

    def _answer(self, ask: Ask) -> Body | FetchError | None:
        """One request for `ask`: its answer, or None when it is in the line again."""
        if ask.target is None or ask.error is not None:
            return ask.error
        deadline = Deadline(ask.seconds)
        try:
            found = self._found(ask.target, deadline, self._settings.retries - ask.tries)
            if not isinstance(found, Target):
                return found
            if ask.redirects == self._settings.max_redirects:
                raise FetchError("too many redirects", f"more than {ask.redirects}")
        except FetchError as error:
            return self._refused(ask, error, deadline)
        ask.seconds = deadline.seconds()
        self._tell(redirects=1)
        self._line.redirect(ask, found)
        return None

    def _refused(self, ask: Ask, error: FetchError, deadline: Deadline) -> FetchError | None:
        """The error, or None when another try may help."""
        wait = max(error.wait_seconds, _back_off_seconds(ask.url, ask.tries + 1))
        if error.reason == "too many requests":
            self._line.hold(ask.host, wait)
        elif error.reason == "timeout":
            self._line.silence(ask.host, error)
        ask.seconds = deadline.seconds()
        is_last = ask.tries >= self._settings.retries or ask.seconds <= 0
        if is_last or not error.may_pass or wait > self._settings.max_wait_seconds:
            return error
        ask.tries += 1
        self._tell(retries=1)
        self._line.put_off(ask, wait)
        return None

    def _found(self, target: Target, deadline: Deadline, tries_left: int) -> Body | Target:
        """What one request finds: a body, or where to ask next. Raises FetchError."""
        request = self._request(target)
        wire = self._wires.get(target)
        if wire is not None:
            try:
                return self._exchanged(wire, request, target, deadline)
            except _Stale:
                pass  # the host hung up meanwhile, as it may
        wire = self._connected(target, deadline, tries_left)
        return self._exchanged(wire, request, target, deadline, is_new=True)

    def _request(self, target: Target) -> bytes:
        stays = "keep-alive" if self._line.goes_on(target.host) else "close"
        head = f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\n"
        return f"{head}{self._headers}Connection: {stays}\r\n\r\n".encode("latin-1")

    def _connected(self, target: Target, deadline: Deadline, tries_left: int) -> Wire:
        # A name server or host that does not answer at all leaves time for another try.
        share = 1.0 / (tries_left + 1)
        addresses = self._checked_addresses(target, deadline.left("dns") * share)
        with _named("connect"):
            sock = connected(addresses, target.port, deadline.left("connect") * share)
        self._tell(connections=1)
        if target.scheme == "https":
            try:
                with _named("handshake"):
                    sock = secured(sock, target, deadline)
            except BaseException:
                sock.close()
                raise
        return Wire(sock)

    def _checked_addresses(self, target: Target, seconds: float) -> list[str]:
        """Numeric addresses that may be connected to: a later DNS answer changes nothing."""
        addresses = self._resolver.addresses(target.host, seconds)
        if not target.is_among(self._settings.allow_hosts) and not all(map(is_public, addresses)):
            raise FetchError("forbidden address", target.host)
        return addresses

    def _exchanged(
        self, wire: Wire, request: bytes, target: Target, deadline: Deadline, is_new: bool = False
    ) -> Body | Target:
        """One exchange on `wire`, which is kept for the next one if it can be."""
        may_stay = False
        try:
            with _named("answer"):
                try:
                    response = wire.begin(request, deadline)
                except (OSError, http.client.HTTPException) as error:
                    is_stale = not is_new and not wire.received_bytes
                    if is_stale and not isinstance(error, TimeoutError):
                        raise _Stale from None
                    raise
                self._line.heard(target.host)
                try:
                    return self._read(response, target, wire)
                finally:
                    may_stay = response.isclosed() and not response.will_close
        finally:
            self._tell(requests=1, received_bytes=wire.received_bytes)
            if may_stay and self._line.goes_on(target.host) and wire.is_spent():
                self._wires.keep(target, wire)
            else:
                wire.hang_up()

    def _read(
        self, response: http.client.HTTPResponse, target: Target, wire: Wire
    ) -> Body | Target:
        headers, settings = response.headers, self._settings
        try:
            answers.check_status(response.status, headers)
            answers.check_opt_out(headers, settings.user_agent, settings.opt_outs)
            if response.status in answers.REDIRECTS:
                found = _redirected(target, headers.get("Location"))
                self._drain(response, target, wire)
                return found
            answers.check_type(headers)
        except FetchError:
            self._drain(response, target, wire)
            raise
        return self._body(response)

    def _drain(self, response: http.client.HTTPResponse, target: Target, wire: Wire) -> None:
        """Read the rest of a short answer that nobody wants, so that its connection can stay."""
        is_short = response.length is not None and response.length <= _DRAINED_BYTES
        if is_short and self._line.goes_on(target.host):
            # What matters of the answer is known already; the time is for what comes after it.
            wire.hurry(_DRAIN_SECONDS)
            with suppress(FetchError, OSError, http.client.HTTPException):
                response.read()

    def _body(self, response: http.client.HTTPResponse) -> Body:
        limit, length = self._settings.max_body_bytes, response.length
        if length is not None and length > limit:
            raise FetchError("too large", f"{length} bytes")
        decoder = answers.decoder(response.headers, limit)
        if decoder is None and length is not None and length <= _IN_MEMORY_BYTES:
            whole = response.read(length)  # at a stroke, and never copied again
            _check_length(len(whole), length)
            return io.BytesIO(whole)
        body: Body = SpooledTemporaryFile(  # noqa: SIM115 - closed by its reader
            _IN_MEMORY_BYTES, dir=scratch_folder()
        )
        try:
            count = 0
            while block := response.read(_BLOCK_BYTES):
                count += len(block)
                if count > limit:
                    raise FetchError("too large", f"more than {limit} bytes")
                body.write(block if decoder is None else decoder.feed(block))
            _check_length(count, length)
            if decoder is not None:
                decoder.finish()
            if not body.tell():
                raise FetchError("not an image", "empty body")
        except BaseException:
            body.close()
            raise
        body.seek(0)
        return body

    def _tell(self, **counts: int) -> None:
        with self._telling:
            self._told.update(counts)


class _Stale(Exception):
    """A connection that was kept is of no use any more; nothing was answered on it."""


def _check_length(count: int, length: int | None) -> None:
    # http.client ends quietly when a body is shorter than its Content-Length.
    if length is not None and count < length:
        raise FetchError("incomplete", f"{count} of {length} bytes", may_pass=True)
    if not count:
        raise FetchError("not an image", "empty body")


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
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        raise FetchError("connection", "closed", may_pass=True) from None
    except ssl.SSLError as error:
        raise FetchError("tls", error.reason or str(error)) from None
    except ConnectionRefusedError as error:
        raise FetchError("connection", error.strerror or "refused") from None
    except ConnectionError as error:
        detail = error.strerror or str(error)
        raise FetchError("connection", detail, may_pass=True) from None
    except OSError as error:
        if error.errno in _OUR_OWN:
            raise
        raise FetchError("connection", error.strerror or str(error)) from None
    except http.client.IncompleteRead:
        raise FetchError("incomplete", "chunked body", may_pass=True) from None
    except http.client.HTTPException as error:
        raise FetchError("http error", describe(error)) from None
