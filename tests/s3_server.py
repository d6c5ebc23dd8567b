"""A server of the S3 protocol on loopback (moto's), which can be told to refuse and to be slow."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from s3fs import S3FileSystem
from werkzeug.serving import make_server

from pipeline import store_calls

BUCKET = "corpus"
_XML = "<?xml version='1.0'?><Error><Code>{0}</Code><Message>{0}</Message></Error>"


@dataclass
class Fault:
    """What is answered instead: to requests that `fits`, so many times (or always)."""

    status: int
    code: str
    fits: Callable[[str, str], bool] = lambda method, path: True
    times: int | None = None
    met: int = 0
    cuts: str | None = None
    """`off`: half of the true answer comes, and then the connection ends; `short`: half of it comes
    as if it were all."""


@dataclass
class S3Server:
    """Where it listens, what it was asked, and the faults that are planted in it."""

    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    """That each answer waits."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def refuse(
        self,
        times: int | None,
        status: int = 503,
        code: str = "SlowDown",
        fits: Callable[[str, str], bool] = lambda method, path: True,
    ) -> Fault:
        """Answer the next `times` requests that fit with an error; all of them for None."""
        fault = Fault(status, code, fits, times)
        with self.lock:
            self.faults.append(fault)
        return fault

    def cut(
        self,
        times: int | None,
        how: str = "off",
        fits: Callable[[str, str], bool] = lambda method, path: method == "GET",
    ) -> Fault:
        """Give half of the next `times` answers that fit."""
        fault = Fault(0, "", fits, times, cuts=how)
        with self.lock:
            self.faults.append(fault)
        return fault

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.asked.append((method, path))
            for fault in self.faults:
                if fault.fits(method, path) and (fault.times is None or fault.met < fault.times):
                    fault.met += 1
                    return fault
        return None


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server with one empty bucket, gone afterwards with all that it held."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from moto.s3.models import s3_backends
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # clients that know a server which was before
    app = DomainDispatcherApplication(create_backend_app)
    told = S3Server()

    def faulty(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        # A copy, with which a rename would begin, is a PUT for all that its address tells.
        is_copy = "HTTP_X_AMZ_COPY_SOURCE" in environ
        method = "COPY" if is_copy else environ["REQUEST_METHOD"]
        path = environ["PATH_INFO"] + "?" + environ.get("QUERY_STRING", "")
        fault = told.fault_for(method, path)
        if told.seconds:
            time.sleep(told.seconds)
        if fault is None:
            answer: Iterable[bytes] = app(environ, start)
            return answer
        if fault.cuts is not None:
            return _halved(app, environ, start, fault.cuts)
        body = _XML.format(fault.code).encode() if method != "HEAD" else b""
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        head = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        start(f"{fault.status} Refused", head)
        return [body]

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        told.port = probe.getsockname()[1]
    server = make_server("127.0.0.1", told.port, faulty, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].reset()
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(BUCKET, "us-east-1")
        yield told
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].reset()
        S3FileSystem.clear_instance_cache()


def _halved(
    app: Any, environ: dict[str, Any], start: Callable[..., Any], how: str
) -> Iterable[bytes]:
    told: list[Any] = []
    body = b"".join(app(environ, lambda *answer: told.extend(answer[:2])))
    status, head = told
    half = body[: len(body) // 2]
    if how == "short":
        head = [pair for pair in head if pair[0].lower() != "content-length"]
        head.append(("Content-Length", str(len(half))))
    start(status, head)
    return [half]


@contextmanager
def served() -> Iterator[S3Server]:
    """A server that this process, and those that it starts, take for S3; nobody waits long."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        # A client goes on with the address that it was made with.
        S3FileSystem.clear_instance_cache()
        for name, value in server.environment.items():
            patch.setenv(name, value)
        patch.setattr(store_calls, "FIRST_WAIT_SECONDS", 0.01)
        yield server
