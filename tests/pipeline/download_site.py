"""A web server on loopback that answers each path as a test asks it to, well or badly."""

import io
import socketserver
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.download.fetch import Fetcher
from pipeline.download.reasons import REASONS, FetchError
from pipeline.schemas import DRAWN, IMAGES
from pipeline.settings import DownloadSettings

Answer = Callable[["Exchange"], None]


class Exchange(socketserver.StreamRequestHandler):
    """One request after another; an answer writes what it likes, and says if it can stay."""

    server: "_Server"
    stays = False

    def handle(self) -> None:
        with self.server.lock:
            self.server.connections.append(self.client_address[1])
        self.handle_one()
        while self.stays and self.headers.get("connection") == "keep-alive":
            self.stays = False
            self.handle_one()

    def handle_one(self) -> None:
        request = self.rfile.readline().decode("latin-1").split()
        if not request:
            return
        self.headers = {}
        while (line := self.rfile.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.lower()] = value.strip()
        path = request[1] if len(request) > 1 else "/"
        with self.server.lock:
            self.server.asked[path] += 1
            self.server.headers[path] = self.headers
        with suppress(OSError):  # when the client hangs up, which most of these tests are about
            self.server.answers.get(path, status(404))(self)

    def send(self, payload: bytes) -> None:
        self.wfile.write(payload)
        self.wfile.flush()

    def rest(self, seconds: float) -> None:
        """Do nothing, but end with the server."""
        self.server.over.wait(seconds)

    @property
    def is_over(self) -> bool:
        return self.server.over.is_set()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    block_on_close = False

    def __init__(self, certificate: str | None) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.scheme = "http"
        if certificate is not None:
            self.scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.answers: dict[str, Answer] = {}
        self.asked: Counter[str] = Counter()
        self.connections: list[int] = []
        self.headers: dict[str, dict[str, str]] = {}
        self.lock = threading.Lock()
        self.over = threading.Event()


class Site:
    """The server, as a test sees it."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.host = f"127.0.0.1:{server.server_address[1]}"
        self.asked = server.asked
        self.connections = server.connections
        self.headers = server.headers

    def at(self, path: str, answer: Answer) -> str:
        """Answer `path` so; its URL."""
        self._server.answers[path] = answer
        return f"{self._server.scheme}://{self.host}{path}"

    def settings(self, **changes: Any) -> DownloadSettings:
        """Settings that allow this site."""
        given: dict[str, Any] = {"allow_hosts": [self.host], "threads": 8, "retries": 0}
        return DownloadSettings(**(given | changes))


@contextmanager
def serving(certificate: str | None = None) -> Iterator[Site]:
    """A site on a port of its own; over TLS with a certificate."""
    with _Server(certificate) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield Site(server)
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def status(code: int, **headers: str) -> Answer:
    return body(b"", code, **headers)


def body(payload: bytes, code: int = 200, **headers: str) -> Answer:
    """A well-behaved answer; underscores in header names are dashes."""
    told = {"Content-Length": str(len(payload))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [f"HTTP/1.1 {code} Status", *(f"{name}: {value}" for name, value in told.items())]
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return lambda exchange: exchange.send(head + payload)


def raw(payload: bytes) -> Answer:
    """Exactly these bytes, then the end of the connection."""
    return lambda exchange: exchange.send(payload)


def staying(answer: Answer) -> Answer:
    """`answer`, and then the connection waits for another request."""

    def stay(exchange: Exchange) -> None:
        answer(exchange)
        exchange.stays = True

    return stay


def in_turn(*answers: Answer) -> Answer:
    """Another answer each time; the last one again and again."""
    left = list(answers)
    return lambda exchange: (left.pop(0) if len(left) > 1 else left[0])(exchange)


def dripping(head: bytes) -> Answer:
    """`head`, then a byte at a time, without end."""

    def answer(exchange: Exchange) -> None:
        exchange.send(head)
        while not exchange.is_over:
            exchange.send(b"x")
            exchange.rest(0.02)

    return answer


def stalling(head: bytes = b"") -> Answer:
    def answer(exchange: Exchange) -> None:
        exchange.send(head)
        exchange.rest(60)

    return answer


def endless(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while not exchange.is_over:
        exchange.send(bytes(65536))


def picture(
    kind: str = "JPEG", size: tuple[int, int] = (64, 48), seed: int = 0, **save: Any
) -> bytes:
    """A smooth picture that no two seeds share."""
    width, height = size
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 9 + p) + np.cos(y / 7 + p) for p in phase]
    pixels = ((np.stack(waves, -1) + 2) * 63).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **save)
    return file.getvalue()


def fetch_all(urls: list[str], settings: DownloadSettings, **with_: Any) -> list[str | bytes]:
    """What becomes of each: the bytes, or the reason. One thread, so that the order is known."""
    found: dict[int, str | bytes] = {}
    with Fetcher(settings, urls, **with_) as fetcher:
        for _ in urls:
            key, answer = fetcher.answer()
            found[key] = answer.reason if isinstance(answer, FetchError) else answer.read()
    return [found[key] for key in range(len(urls))]


def fetch(url: str, settings: DownloadSettings, **with_: Any) -> bytes:
    with Fetcher(settings, [url], **with_) as fetcher:
        key, answer = fetcher.answer()
    assert key == 0
    if isinstance(answer, FetchError):
        raise answer
    return answer.read()


def refusal(url: str, settings: DownloadSettings, **with_: Any) -> str:
    """Why there is no image; one of the known reasons."""
    with pytest.raises(FetchError) as caught:
        fetch(url, settings, **with_)
    assert caught.value.reason in REASONS
    return caught.value.reason


def drawn(urls: list[str], raw_shard: int = 0) -> pa.Table:
    """Rows of `drawn`, one for each URL, in this order of position."""
    rows = [
        {
            "pair_id": f"{raw_shard * 1000 + nth:032x}",
            "url": url,
            "caption": f"“caption” {nth}",
            "page_url": None,
            "language": "en",
            "language_score": 0.9,
            "query_ids": [1, 2],
            "drawn_for": [2],
            "round": 1,
            "raw_shard": raw_shard,
            "position": nth,
        }
        for nth, url in enumerate(urls)
    ]
    return pa.Table.from_pylist(rows, schema=DRAWN)


def pictures(site: Site, count: int, prefix: str = "") -> list[str]:
    return [site.at(f"/{prefix}{n}.jpg", body(picture(seed=n))) for n in range(count)]


def files(folder: Path) -> dict[str, bytes]:
    """The data of a folder: the statistics hold a duration."""
    return {
        file.name: file.read_bytes()
        for file in sorted(folder.iterdir())
        if file.suffix in (".tar", ".parquet")
    }


def images(folder: Path, raw_shard: int = 0) -> list[dict[str, Any]]:
    table = pq.ParquetFile(folder / f"{raw_shard:05d}.parquet").read()
    assert table.schema.equals(IMAGES)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
