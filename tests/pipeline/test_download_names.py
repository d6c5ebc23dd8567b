"""Names: what a name server says, when it says nothing, and when it changes its mind."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address

import pytest
from download_site import Site, body, fetch, fetch_all, refusal, serving

from pipeline.download.names import Resolver
from pipeline.download.reasons import FetchError
from pipeline.settings import DownloadSettings

PUBLIC = "1.1.1.1"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def resolver() -> Iterator[Callable[..., Resolver]]:
    made: list[Resolver] = []

    def make(look_up: Callable[[str], list[str]]) -> Resolver:
        made.append(Resolver(4, look_up))
        return made[-1]

    yield make
    for each in made:
        each.close()


# An audit hook stays for good: this one is only asked while a test listens.
_listening: list[Callable[[tuple[object, ...]], None]] = []


def _hook(event: str, args: tuple[object, ...]) -> None:
    if event == "socket.connect" and _listening:
        _listening[-1](args)


sys.addaudithook(_hook)


@pytest.fixture
def connects() -> Iterator[list[str]]:
    """Where was connected to. What is not loopback is stopped before a packet leaves."""
    tried: list[str] = []

    def listen(args: tuple[object, ...]) -> None:
        address = str(args[1][0])  # type: ignore[index]
        tried.append(address)
        if not address.startswith("127."):
            raise OSError("stopped by the test")

    _listening.append(listen)
    yield tried
    _listening.pop()


def test_a_host_is_looked_up_once(resolver) -> None:
    asked: list[str] = []

    def look_up(host: str) -> list[str]:
        asked.append(host)
        return [PUBLIC]

    names = resolver(look_up)
    assert [names.addresses("a.example", 1) for _ in range(3)] == [[PUBLIC]] * 3
    assert asked == ["a.example"]


def test_threads_that_wait_for_one_host_share_its_look_up(resolver) -> None:
    asked, answer = [], threading.Event()

    def look_up(host: str) -> list[str]:
        asked.append(host)
        answer.wait(10)
        return [PUBLIC]

    names = resolver(look_up)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(names.addresses, "a.example", 10) for _ in range(8)]
        answer.set()
        assert [each.result() for each in waiting] == [[PUBLIC]] * 8
    assert asked == ["a.example"]


def test_a_name_that_does_not_exist_is_not_asked_for_again(resolver) -> None:
    asked: list[str] = []

    def look_up(host: str) -> list[str]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    names = resolver(look_up)
    for _ in range(3):
        with pytest.raises(FetchError) as caught:
            names.addresses("gone.example", 1)
        assert (caught.value.reason, caught.value.may_pass) == ("unknown host", False)
    assert asked == ["gone.example"]


def test_a_name_server_in_trouble_is_another_failure_than_an_unknown_host(resolver) -> None:
    def look_up(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.raises(FetchError) as caught:
        resolver(look_up).addresses("a.example", 1)
    assert (caught.value.reason, caught.value.may_pass) == ("dns", True)


def test_a_name_server_that_is_slow_for_one_host_answers_for_others(resolver) -> None:
    over = threading.Event()

    def look_up(host: str) -> list[str]:
        if host == "slow.example":
            over.wait(30)
        return [PUBLIC]

    names = resolver(look_up)
    try:
        with pytest.raises(FetchError, match="timeout: dns"):
            names.addresses("slow.example", 0.05)
        assert names.addresses("fast.example", 5) == [PUBLIC]
    finally:
        over.set()


def test_an_answer_of_the_name_server_is_checked_and_not_only_the_name(site: Site) -> None:
    url = site.at("/inside", body(b"x")).replace("127.0.0.1", "images.example")
    link_local = str(IPv4Address(0xA9FE0001))
    for inside in ("127.0.0.1", "10.0.0.1", "::1", link_local, "::ffff:127.0.0.1"):
        settings = site.settings(allow_hosts=[])
        assert refusal(url, settings, look_up=lambda _, a=inside: [a]) == "forbidden address"
    assert site.asked["/inside"] == 0


def test_a_name_that_moves_inside_after_the_check_is_not_followed(site: Site, connects) -> None:
    """DNS rebinding: a public address for the check, loopback for the connection."""
    answers = iter([[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]])
    url = site.at("/rebound", body(b"x")).replace("127.0.0.1", "images.example")
    settings = site.settings(allow_hosts=[], retries=0)
    assert refusal(url, settings, look_up=lambda _: next(answers)) == "connection"
    assert connects == [PUBLIC]
    assert site.asked["/rebound"] == 0


def test_a_name_that_moves_inside_later_is_checked_again(site: Site, monkeypatch, connects) -> None:
    monkeypatch.setattr("pipeline.download.names._KEPT_SECONDS", 0.0)
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    urls = [site.at(path, body(b"x")).replace("127.0.0.1", "a.example") for path in ("/1", "/2")]
    settings = site.settings(allow_hosts=[])
    found = fetch_all(urls, settings, look_up=lambda _: next(answers))
    assert found == ["connection", "forbidden address"]
    assert connects == [PUBLIC]


def test_the_next_address_is_tried_when_the_first_does_not_answer(site: Site) -> None:
    port = int(site.host.split(":")[1])
    url = f"http://images.example:{port}/second"
    site.at("/second", body(b"x"))
    settings = DownloadSettings(allow_hosts=["images.example"], retries=0)
    assert fetch(url, settings, look_up=lambda _: ["127.0.0.2", "127.0.0.1"]) == b"x"


def test_a_host_that_never_accepts_meets_the_deadline() -> None:
    """Its queue of connections is full: the first packet of another is not answered."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    host = f"127.0.0.1:{full.getsockname()[1]}"
    waiting = [socket.socket() for _ in range(4)]
    try:
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        time.sleep(0.05)
        settings = DownloadSettings(allow_hosts=[host], deadline_seconds=0.4, retries=0)
        began = time.monotonic()
        assert refusal(f"http://{host}/", settings) == "timeout"
        assert time.monotonic() - began < 2
    finally:
        for each in (*waiting, full):
            each.close()
