"""The server of a world: its files over HTTP/1.1 on loopback, and trouble where routes ask for it.

A route says what to `do` with a path: `status` (with `status`, and perhaps `file`, `type` and
`headers`), `redirect` (`to`), `flaky` (fails once, or as many `times`), `silent`, `stall`, `drip`,
`short`, `huge`, `gzip`. A path without a route is a file of the web, or a 404.
"""

import errno
import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from jobs.world.folder import ROUTES, WEB
from pipeline.errors import WitError

_STALL_SECONDS = 15.0
_MAX_CONNECTIONS = 512
_HUGE_BYTES = 24_000_000
_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}


class PortTaken(WitError):
    """Another server listens where the world's URLs point."""


@contextmanager
def serve(folder: Path, port: int) -> Iterator[str]:
    """Serve the world in `folder` while the block runs; its address."""
    try:
        server = _Server(folder, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortTaken(
            f"port {port} of 127.0.0.1 is taken: stop what listens there, or make the world with "
            "another port"
        ) from None
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="world", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # joined by server_close, once their sockets are shut
    request_queue_size = 128

    def __init__(self, folder: Path, port: int) -> None:
        self.web = (folder / WEB).resolve()
        routes = folder / ROUTES
        self.routes: dict[str, dict[str, Any]] = json.loads(routes.read_text(encoding="utf-8"))
        self.stopping = threading.Event()
        self.tries: dict[str, int] = {}
        self._free = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would ask DNS for the name of its own address.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(timeout=1.0):
            self.shutdown_request(request)
            return
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.discard(request)
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the world."""

    def count(self, path: str) -> int:
        """How often `path` was asked for before."""
        with self._lock:
            before = self.tries.get(path, 0)
            self.tries[path] = before + 1
            return before

    def stop(self) -> None:
        """End every connection, stalled ones too."""
        self.shutdown()
        self.stopping.set()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "world"
    sys_version = ""
    timeout = _STALL_SECONDS
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Silence."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        route = self.server.routes.get(path)
        if route is None:
            self._file(path)
            return
        do = getattr(self, f"_{route['do']}")
        do(path, route)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _file(self, path: str, headers: dict[str, str] | None = None, status: int = 200) -> None:
        data = self._read(path)
        if data is None:
            self._answer(404, b"not here\n", {"Content-Type": "text/plain"})
            return
        kind = _TYPES.get(Path(path).suffix.lower(), "application/octet-stream")
        self._answer(status, data, {"Content-Type": kind, **(headers or {})})

    def _read(self, path: str) -> bytes | None:
        file = (self.server.web / path.lstrip("/")).resolve()
        if not file.is_relative_to(self.server.web) or not file.is_file():
            return None
        return file.read_bytes()

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _status(self, path: str, route: dict[str, Any]) -> None:
        headers = dict(route.get("headers", {}))
        if "type" in route:
            headers["Content-Type"] = route["type"]
        status = int(route["status"])
        if route.get("empty"):
            self._answer(status, b"", headers)
        else:
            self._file(str(route.get("file", path)), headers, status)

    def _redirect(self, _: str, route: dict[str, Any]) -> None:
        self._answer(302, b"", {"Location": str(route["to"])})

    def _flaky(self, path: str, route: dict[str, Any]) -> None:
        if self.server.count(path) < int(route.get("times", 1)):
            self._answer(503, b"", {"Retry-After": "0"})
        else:
            self._file(path)

    def _gzip(self, path: str, _: dict[str, Any]) -> None:
        packed = gzip.compress(self._read(path) or b"", mtime=0)
        self._answer(200, packed, {"Content-Type": "image/jpeg", "Content-Encoding": "gzip"})

    def _silent(self, *_: Any) -> None:
        self.server.stopping.wait(_STALL_SECONDS)
        self.close_connection = True

    def _stall(self, *_: Any) -> None:
        self._head(50_000)
        self.server.stopping.wait(_STALL_SECONDS)

    def _drip(self, *_: Any) -> None:
        """A byte now and then: every read succeeds, and the image never comes."""
        self._head(50_000)
        for _second in range(int(_STALL_SECONDS * 2)):
            if self.server.stopping.wait(0.5):
                return
            self.wfile.write(b"\xff")
            self.wfile.flush()

    def _short(self, path: str, _: dict[str, Any]) -> None:
        """Half of the bytes that were promised, then the end of the connection."""
        data = self._read(path) or b""
        self._head(len(data))
        self.wfile.write(data[: len(data) // 2])

    def _huge(self, *_: Any) -> None:
        """A body without an announced end."""
        self._head(None)
        for _block in range(_HUGE_BYTES // 64_000):
            if self.server.stopping.is_set():
                return
            self.wfile.write(bytes(64_000))

    def _head(self, length: int | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
