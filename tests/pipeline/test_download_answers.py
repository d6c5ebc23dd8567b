"""Answers: statuses, second tries, opt-outs and types."""

import time
from collections.abc import Iterator

import pytest
from download_site import (
    Site,
    body,
    fetch,
    in_turn,
    picture,
    raw,
    refusal,
    serving,
    status,
)

from pipeline.settings import DownloadSettings


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (401, "forbidden"),
        (403, "forbidden"),
        (404, "not found"),
        (410, "gone"),
        (418, "http error"),
        (204, "http error"),
    ],
)
def test_a_refusal_is_named_and_not_asked_again(site: Site, code: int, reason: str) -> None:
    path = f"/status-{code}"
    assert refusal(site.at(path, status(code)), site.settings(retries=3)) == reason
    assert site.asked[path] == 1


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_a_passing_failure_is_asked_again(site: Site, code: int) -> None:
    path = f"/passing-{code}"
    url = site.at(path, in_turn(status(code), body(b"x")))
    assert fetch(url, site.settings(retries=1)) == b"x"
    assert site.asked[path] == 2


def test_a_dropped_connection_is_asked_again(site: Site) -> None:
    url = site.at("/dropped", in_turn(raw(b""), body(b"x")))
    assert fetch(url, site.settings(retries=1)) == b"x"


@pytest.mark.parametrize(("code", "reason"), [(429, "too many requests"), (500, "server error")])
def test_a_lasting_failure_is_named(site: Site, code: int, reason: str) -> None:
    assert refusal(site.at("/lasting", status(code)), site.settings()) == reason


def test_a_wait_longer_than_the_deadline_is_not_waited_for(site: Site) -> None:
    url = site.at("/later", status(503, Retry_After="3600"))
    began = time.monotonic()
    assert refusal(url, site.settings(retries=3)) == "server error"
    assert time.monotonic() - began < 2
    assert site.asked["/later"] == 1


def test_a_wait_that_a_site_asks_for_is_kept(site: Site) -> None:
    url = site.at("/soon", in_turn(status(429, Retry_After="1"), body(b"x")))
    began = time.monotonic()
    assert fetch(url, site.settings(retries=1)) == b"x"
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize(
    ("header", "way"),
    [
        ({"X_Robots_Tag": "noai"}, "noai"),
        ({"X_Robots_Tag": "nofollow, NoImageAI"}, "noimageai"),
        ({"X_Robots_Tag": "noml"}, "noml"),
        ({"X_Robots_Tag": "noindex"}, "noindex"),
        ({"X_Robots_Tag": "noimageindex"}, "noimageindex"),
        ({"X_Robots_Tag": "none"}, "none"),
        ({"X_Robots_Tag": "webimagetext: noai"}, "noai"),
        ({"X_Robots_Tag": "otherbot: nofollow, webimagetext: noai"}, "noai"),
        ({"X_Robots_Tag": "unavailable_after: 25 Jun 2030 15:00:00 GMT, noai"}, "noai"),
        ({"tdm_reservation": "1"}, "tdm-reservation"),
    ],
)
def test_each_opt_out_is_honoured_unless_it_is_taken_out_of_the_list(
    site: Site, header: dict[str, str], way: str
) -> None:
    url = site.at("/reserved", body(picture(), **header))
    assert refusal(url, site.settings()) == "opted out"
    others = [each for each in DownloadSettings().opt_outs if each != way]
    assert fetch(url, site.settings(opt_outs=others)) == picture()


@pytest.mark.parametrize(
    "header",
    [
        {"X_Robots_Tag": "nofollow"},
        {"X_Robots_Tag": "otherbot: noindex, noai"},
        {"X_Robots_Tag": "max-image-preview: none"},
        {"tdm_reservation": "0"},
    ],
)
def test_what_reserves_nothing_from_us_is_no_opt_out(site: Site, header: dict[str, str]) -> None:
    url = site.at("/open", body(b"x", **header))
    assert fetch(url, site.settings()) == b"x"


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json", "video/mp4"])
def test_a_page_is_not_an_image(site: Site, kind: str) -> None:
    url = site.at("/page", body(b"<html>", Content_Type=kind))
    assert refusal(url, site.settings()) == "not an image"


def test_an_empty_body_is_not_an_image(site: Site) -> None:
    assert refusal(site.at("/empty", body(b"")), site.settings()) == "not an image"


def test_an_answer_that_is_not_http_is_named(site: Site) -> None:
    assert refusal(site.at("/gibberish", raw(b"SSH-2.0-x\r\n")), site.settings()) == "http error"


def test_a_closed_port_is_a_connection_that_failed() -> None:
    with serving() as gone:
        url, settings = gone.at("/", body(b"x")), gone.settings()
    assert refusal(url, settings) == "connection"
