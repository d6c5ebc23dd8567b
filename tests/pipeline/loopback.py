"""A server of this machine with whims, and the filesystem of fsspec that reads it.

fsspec's own http needs a package that the tests do without.
"""

import json
import re
import threading
import urllib.request
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError

import fsspec
from fsspec.spec import AbstractFileSystem


class Server(ThreadingHTTPServer):
    """Serves `files`, each by its name."""

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = dict(files)
        self.whims = defaultdict(list)
        """What the next requests of a file get instead of it: a status, or `cut`."""
        self.held = {}
        """Files that stop half way until their event is set."""
        self.asked = Counter()
        """GET requests of each file."""
        self._changed = threading.Condition()

    @property
    def where(self):
        return f"loopback://127.0.0.1:{self.server_port}/shards"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *_):
        for event in self.held.values():
            event.set()
        self.shutdown()
        self.server_close()

    def note(self, name):
        with self._changed:
            self.asked[name] += 1
            self._changed.notify_all()

    def await_request(self, name, count=1):
        """Until `name` was asked for so often, and half of it was sent where it is held."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.asked[name] >= count, 30), name


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        whims = self.server.whims[name]
        whim = whims.pop(0) if whims else None
        if name == "":
            body = json.dumps({name: len(body) for name, body in self.server.files.items()})
            self._answer(body.encode(), whim)
        elif name in self.server.files:
            self._answer(self.server.files[name], whim)
        else:
            self.server.note(name)
            self.send_error(404)

    do_HEAD = do_GET

    def _answer(self, body, whim):
        name = self.path.rpartition("/")[2]
        if isinstance(whim, int):
            self.server.note(name)
            self.send_error(whim)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(body) // 2
        self.wfile.write(body[:half])
        self.wfile.flush()
        self.server.note(name)
        if name in self.server.held:
            self.server.held[name].wait(60)
        if whim != "cut":
            self.wfile.write(body[half:])

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            """The reader was killed, or had enough."""

    def log_message(self, *_):
        """Nothing."""


class LoopbackFileSystem(AbstractFileSystem):
    protocol = "loopback"
    serves_parts = True

    @classmethod
    def _strip_protocol(cls, path):
        return re.sub("^[^/]*@", "", super()._strip_protocol(path))

    def ls(self, path, detail=True, **_):
        with _opened(f"{path}/") as answer:
            sizes = json.loads(answer.read())
        return [
            {"name": f"{path}/{name}", "size": size, "type": "file"} for name, size in sizes.items()
        ]

    def info(self, path, **_):
        try:
            with _opened(path, method="HEAD") as answer:
                size = int(answer.headers["Content-Length"])
        except HTTPError as error:
            # As fsspec's http does, whatever the status is.
            raise FileNotFoundError(path) from error
        return {"name": path, "size": size, "type": "file"}

    def _open(self, path, mode="rb", **_):
        return _opened(path)

    def open(self, path, mode="rb", block_size=None, **_):
        if block_size != 0 and not self.serves_parts:
            raise ValueError("The HTTP server doesn't appear to support range requests.")
        return self._open(path)


def _opened(path, method="GET"):
    request = urllib.request.Request(f"http://{path.lstrip('/')}", method=method)
    return urllib.request.urlopen(request, timeout=60)  # noqa: S310 - http, as written above


fsspec.register_implementation("loopback", LoopbackFileSystem, clobber=True)
