"""Web: five hundred hosts on loopback, HTTP and HTTPS, that answer as a real download found them.

reads   photos/coco_mini_239.tar, captions/cc3m_val_first8000_with_http_status.parquet

What the parquet's downloader met is met again: its statuses, pages in place of pictures, an empty
body, and the share of each host (the 1,952 hosts share 500 addresses, the largest first). It wrote
408 for whatever raised an exception: seven of eight of those refuse the connection here, and one
hangs up after two quiet seconds, since a real stall would set the pace of a list this short.
"""

import asyncio
import json
import logging
import math
import random
import resource
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import certifi
import pyarrow.parquet as pq

HOSTS = [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(500)]
_HOSTS_PER_CERTIFICATE = 25
_PHOTOS = "photos/coco_mini_239.tar"
_RECORD = "captions/cc3m_val_first8000_with_http_status.parquet"
_FAILED = 408
_STALL_EVERY, _STALL_SECONDS = 8, 2.0
_MEDIAN_SECONDS, _SPREAD, _MOST_SECONDS = 0.1, 0.7, 2.0
"""Of a server's time to answer, lognormal."""
_PAGE = b"<!DOCTYPE html><html><body><h1>Not here</h1></body></html>"
_MEGABYTE = bytes(1 << 20)
_LARGE_MEGABYTES = 300
_HEAVY_BYTES = 10_000_000
_BOMB_SIDE, _BOMB_MEGABYTES = 25_000, 1024
HOSTILE = ("/bomb.png", "/bomb.gz", "/large.jpg", "/large-unannounced.jpg")
"""A picture of 1.9 GB of zeros, a body that unpacks to 1 GB, and two bodies of 300 MB."""


class Link(NamedTuple):
    number: int
    host: str
    caption: str
    status: int
    is_photo: bool
    is_empty: bool

    @property
    def is_refused(self) -> bool:
        return self.status == _FAILED and self.number % _STALL_EVERY > 0


def links(data: Path) -> list[Link]:
    """What the record tells of, in its order."""
    rows = pq.read_table(data / _RECORD).to_pylist()
    names = [urlsplit(row["url"]).hostname for row in rows]
    ranks = {name: rank for rank, (name, _) in enumerate(Counter(names).most_common())}
    found = []
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        host, status = HOSTS[ranks[name] % len(HOSTS)], row["http_status"]
        # The record's types were read off the files and not off the headers.
        is_photo = status == 200 and (row["content_type"] or "").startswith("image/")
        is_empty = status == 204 or row["bytes"] == 0
        found.append(Link(number, host, row["text"] or "", status, is_photo, is_empty))
    return found


def photos(data: Path) -> list[bytes]:
    """The files of real photos, in the order of their names."""
    with tarfile.open(data / _PHOTOS) as tar:
        members = sorted(tar.getmembers(), key=lambda member: member.name)
        files = [tar.extractfile(member) for member in members if member.isfile()]
        return [file.read() for file in files if file]


class Web(NamedTuple):
    """A web that runs: its ports, and a file of the authorities that its clients trust."""

    http: int
    https: int
    closed: int
    trust: Path

    def url(self, scheme: str, link: Link) -> str:
        port = self.closed if link.is_refused else getattr(self, scheme)
        return f"{scheme}://{link.host}:{port}/{link.number}.jpg"

    def at(self, scheme: str, path: str) -> str:
        host = HOSTS[zlib.crc32(path.encode()) % len(HOSTS)]
        return f"{scheme}://{host}:{getattr(self, scheme)}{path}"


@contextmanager
def serving(data: Path, folder: Path) -> Iterator[Web]:
    """A web in a process of its own, while the context lasts; certificates lie in `folder`."""
    trust = _certify(folder)
    command = [sys.executable, "-m", "benchmarks.web", str(data), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ports = process.stdout.readline()
        if not ports:
            raise SystemExit(f"{' '.join(command)} did not start")
        yield Web(**json.loads(ports), trust=trust)
        process.communicate()  # the end of its input ends it


def _certify(folder: Path) -> Path:
    """Make an authority and what it signs, by openssl; the file that trusts it and all others.

    The others matter: reading them is what a client pays that makes a context for each request.
    """
    if shutil.which("openssl") is None:
        raise SystemExit("no openssl: install it (apt-get install openssl)")
    ca, key = folder / "ca.pem", folder / "ca.key"
    usage = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
    _openssl(ca, key, "/CN=benchmark authority", *usage)
    for number, hosts in enumerate(_groups()):
        names = "subjectAltName=" + ",".join(f"IP:{host}" for host in hosts)
        leaf = folder / f"{number}.pem"
        signer = ("-CA", str(ca), "-CAkey", str(key))
        _openssl(leaf, folder / f"{number}.key", f"/CN=group {number}", names, signer=signer)
    trust = folder / "trust.pem"
    known = Path(ssl.get_default_verify_paths().cafile or certifi.where())
    trust.write_bytes(known.read_bytes() + b"\n" + ca.read_bytes())
    return trust


def _openssl(
    out: Path, key: Path, subject: str, *extensions: str, signer: tuple[str, ...] = ()
) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "7", "-subj", subject, "-keyout", str(key), "-out", str(out)]
    for extension in extensions:
        command += ["-addext", extension]
    subprocess.run([*command, *signer], check=True, capture_output=True)


def _groups() -> list[list[str]]:
    """Hosts that share a certificate, as those of one network do."""
    size = _HOSTS_PER_CERTIFICATE
    return [HOSTS[start : start + size] for start in range(0, len(HOSTS), size)]


# -- the server ----------------------------------------------------------------------------


class _Site:
    def __init__(self, data: Path) -> None:
        self._links = links(data)
        self._photos = photos(data)
        self._bombs = {
            "/bomb.png": _answer(200, bomb_png(_BOMB_SIDE)),
            "/bomb.gz": _answer(200, bomb_gzip(_BOMB_MEGABYTES), "Content-Encoding: gzip"),
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer what one connection asks for until it closes."""
        with suppress(OSError, asyncio.IncompleteReadError):
            stays = True
            while stays:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode("latin-1")
                stays = b"\r\nconnection: close" not in head.lower()
                stays &= await self._respond(path, writer)
        writer.close()

    async def _respond(self, path: str, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may stay."""
        late = random.Random(path).lognormvariate(math.log(_MEDIAN_SECONDS), _SPREAD)
        await asyncio.sleep(min(late, _MOST_SECONDS))
        if path.startswith("/large"):
            return await _large(writer, is_announced="unannounced" not in path)
        if path in self._bombs:
            answer = self._bombs[path]
        elif path.startswith("/heavy-"):
            answer = _answer(200, _heavy(self._photos[len(path)]), "Content-Type: image/jpeg")
        else:
            link = self._links[int(path.strip("/").removesuffix(".jpg"))]
            if link.status == _FAILED:
                await asyncio.sleep(_STALL_SECONDS)
                return False
            answer = self._recorded(link)
        writer.write(answer)
        await writer.drain()
        return True

    def _recorded(self, link: Link) -> bytes:
        if link.is_photo:
            photo = self._photos[link.number % len(self._photos)]
            return _answer(link.status, photo, "Content-Type: image/jpeg")
        return _answer(link.status, b"" if link.is_empty else _PAGE, "Content-Type: text/html")


def _answer(status: int, body: bytes, header: str = "Server: benchmark") -> bytes:
    # An answer of status 204 has no length (RFC 9110, section 8.6).
    length = "" if status == 204 else f"Content-Length: {len(body)}\r\n"
    return f"HTTP/1.1 {status} Status\r\n{header}\r\n{length}\r\n".encode() + body


async def _large(writer: asyncio.StreamWriter, *, is_announced: bool) -> bool:
    length = f"Content-Length: {_LARGE_MEGABYTES << 20}\r\n" if is_announced else ""
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n{length}\r\n".encode())
    for _ in range(_LARGE_MEGABYTES):
        writer.write(_MEGABYTE)
        await writer.drain()
    return is_announced


def _heavy(photo: bytes) -> bytes:
    """The same picture behind comments of ten megabytes."""
    comment = b"\xff\xfe" + struct.pack(">H", 0xFFFF) + bytes(0xFFFF - 2)
    return photo[:2] + comment * (_HEAVY_BYTES // len(comment)) + photo[2:]


def deflated_zeros(count: int) -> bytes:
    """A raw deflate stream of zeros, put together from equal blocks."""

    def block(size: int) -> bytes:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        return deflate.compress(bytes(size)) + deflate.flush(zlib.Z_FULL_FLUSH)

    whole, rest = divmod(count, len(_MEGABYTE))
    return block(len(_MEGABYTE)) * whole + block(rest) + b"\x03\x00"


def bomb_png(side: int) -> bytes:
    """A black picture."""

    def chunk(kind: bytes, payload: bytes) -> bytes:
        crc = zlib.crc32(kind + payload)
        return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", crc)

    size = side * (1 + 3 * side)
    adler = (size % 65521) << 16 | 1  # of so many zeros
    pixels = b"\x78\x01" + deflated_zeros(size) + struct.pack(">I", adler)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def bomb_gzip(megabytes: int) -> bytes:
    """Zeros."""
    crc = 0
    for _ in range(megabytes):
        crc = zlib.crc32(_MEGABYTE, crc)
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    return head + deflated_zeros(megabytes << 20) + struct.pack("<II", crc, megabytes << 20)


async def _listen(site: _Site, folder: Path) -> None:
    """Serve on every host until the standard input ends; the ports go to the output."""
    ports = {}
    for scheme in ("http", "https"):
        ports[scheme] = _free_port()
        for number, hosts in enumerate(_groups()):
            context = _context(folder, number) if scheme == "https" else None
            await asyncio.start_server(
                site.serve, hosts, ports[scheme], ssl=context, backlog=1024, start_serving=True
            )
    with socket.socket() as closed:  # bound, so that nobody else gets it, and not listening
        closed.bind(("127.0.0.1", 0))
        print(json.dumps({**ports, "closed": closed.getsockname()[1]}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOSTS[0], 0))
        return int(probe.getsockname()[1])


def _context(folder: Path, number: int) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{number}.pem", folder / f"{number}.key")
    return context


def main(data: Path, folder: Path) -> None:
    """Serve."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # clients hang up in a handshake
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_listen(_Site(data), folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
