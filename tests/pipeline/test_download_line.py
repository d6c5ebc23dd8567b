"""Line: which image is asked for next."""

import threading
import time

import pytest

from pipeline.download.addresses import parse
from pipeline.download.line import Ask, Line
from pipeline.download.reasons import FetchError


def line(*urls: str, per_host: int = 6, max_wait_seconds: float = 30.0) -> Line:
    return Line([f"http://{url}" for url in urls], 5.0, per_host, max_wait_seconds)


def taken(waiting: Line, count: int) -> list[Ask]:
    return [waiting.take() for _ in range(count)]


def finish(waiting: Line, *asks: Ask) -> None:
    for ask in asks:
        waiting.finish(ask)


def test_images_are_asked_for_in_their_order() -> None:
    asks = taken(line("a/1", "b/1", "c/1"), 3)
    assert [ask.key for ask in asks] == [0, 1, 2]


def test_a_crowded_host_lets_others_go_first() -> None:
    waiting = line("a/1", "a/2", "a/3", "b/1", per_host=2)
    asks = taken(waiting, 3)
    assert [ask.url for ask in asks] == ["http://a/1", "http://a/2", "http://b/1"]
    finish(waiting, asks[0])
    assert waiting.take().url == "http://a/3"


def test_no_host_ever_has_more_connections_than_it_may() -> None:
    """Sixteen threads and three hosts; each counts who is there when it comes."""
    waiting = line(*[f"{host}/{n}" for n in range(60) for host in "abc"], per_host=2)
    there, most, lock = dict.fromkeys("abc", 0), dict.fromkeys("abc", 0), threading.Lock()

    def work() -> None:
        while True:
            try:
                ask = waiting.take()
            except IndexError:
                return
            with lock:
                there[ask.host] += 1
                most[ask.host] = max(most[ask.host], there[ask.host])
            time.sleep(0.001)
            with lock:
                there[ask.host] -= 1
            waiting.finish(ask)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert most == dict.fromkeys("abc", 2)


def test_a_further_try_waits_in_the_line_while_others_go() -> None:
    waiting = line("a/1", "b/1")
    first = waiting.take()
    waiting.put_off(first, 0.05)
    second = waiting.take()
    assert second.key == 1
    finish(waiting, second)
    began = time.monotonic()
    assert waiting.take() is first
    assert time.monotonic() - began > 0.01


def test_a_host_that_is_held_is_not_asked_until_then() -> None:
    waiting = line("a/1", "a/2", "b/1")
    first = waiting.take()
    waiting.hold("a", 0.1)
    held_until = time.monotonic() + 0.09
    waiting.put_off(first, 0.0)
    assert waiting.take().url == "http://b/1"
    assert {ask.url for ask in taken(waiting, 2)} == {"http://a/1", "http://a/2"}
    assert time.monotonic() >= held_until


def test_a_host_that_is_held_for_too_long_is_given_up() -> None:
    waiting = line("a/1", "a/2", max_wait_seconds=1.0)
    first = waiting.take()
    waiting.hold("a", 3600.0)
    finish(waiting, first)
    second = waiting.take()
    assert second.error is not None
    assert second.error.reason == "too many requests"


def test_a_host_that_never_answers_is_given_up_after_some_images() -> None:
    waiting = line(*[f"dead/{n}" for n in range(8)], "alive/1", per_host=2)
    error = FetchError("timeout", "connect")
    for _ in range(6):
        ask = waiting.take()
        assert ask.error is None
        waiting.silence(ask.host, error)
        finish(waiting, ask)
    last = taken(waiting, 3)
    assert [(ask.host, ask.error) for ask in last] == [
        ("dead", error),
        ("dead", error),
        ("alive", None),
    ]


def test_a_host_that_answered_once_is_not_given_up() -> None:
    waiting = line(*[f"slow/{n}" for n in range(9)])
    waiting.heard("slow")
    for _ in range(8):
        ask = waiting.take()
        waiting.silence(ask.host, FetchError("timeout", "answer"))
        finish(waiting, ask)
    assert waiting.take().error is None


def test_after_a_redirect_the_limit_is_that_of_the_other_host() -> None:
    waiting = line("a/1", "b/1", "b/2", "c/1", per_host=1)
    first, second = taken(waiting, 2)
    waiting.redirect(first, parse("http://b/moved"))
    assert waiting.take().url == "http://c/1"
    finish(waiting, second)
    assert waiting.take() is first


def test_a_host_goes_on_while_others_of_it_wait() -> None:
    waiting = line("a/1", "b/1", "a/2")
    first, second = taken(waiting, 2)
    assert (waiting.goes_on("a"), waiting.goes_on("b")) == (True, False)
    finish(waiting, first, second, waiting.take())
    assert not waiting.goes_on("a")


def test_what_is_no_url_goes_through_the_line_with_its_reason() -> None:
    ask = Line(["ftp://a/1"], 5.0, 1, 1.0).take()
    assert ask.error is not None
    assert ask.error.reason == "bad url"


def test_a_line_whose_images_are_all_finished_says_so() -> None:
    waiting = line("a/1")
    finish(waiting, waiting.take())
    with pytest.raises(IndexError):
        waiting.take()
