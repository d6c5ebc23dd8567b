"""Wire: connections that stay, and what must not come over them."""

import time
from collections.abc import Iterator

import pytest
from download_site import (
    Exchange,
    Site,
    body,
    endless,
    fetch_all,
    in_turn,
    picture,
    raw,
    serving,
    status,
    staying,
)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


def test_a_connection_stays_for_the_next_image_of_its_host(site: Site) -> None:
    images = [picture(seed=n) for n in range(5)]
    urls = [site.at(f"/{n}", staying(body(image))) for n, image in enumerate(images)]
    assert fetch_all(urls, site.settings()) == images
    assert len(site.connections) == 1


def test_the_last_image_of_a_host_closes_its_connection(site: Site) -> None:
    urls = [site.at(f"/{n}", staying(body(b"x"))) for n in range(2)]
    fetch_all(urls, site.settings())
    told = [site.headers[f"/{n}"]["connection"] for n in range(2)]
    assert told == ["keep-alive", "close"]


def test_an_answer_without_an_image_lets_the_connection_stay(site: Site) -> None:
    urls = [
        site.at("/gone", staying(body(b"<p>gone</p>" * 99, 404))),
        site.at("/moved", staying(status(302, Location="/there"))),
        site.at("/page", staying(body(b"<html>", Content_Type="text/html"))),
        site.at("/there", staying(body(b"x"))),
    ]
    assert fetch_all(urls, site.settings()) == ["not found", b"x", "not an image", b"x"]
    assert len(site.connections) == 1


def test_a_body_that_was_not_read_to_its_end_closes_the_connection(site: Site) -> None:
    urls = [site.at("/endless", staying(endless)), site.at("/x", staying(body(b"x")))]
    assert fetch_all(urls, site.settings(max_body_bytes=10**6)) == ["too large", b"x"]
    assert len(site.connections) == 2


def test_a_connection_that_the_host_closed_meanwhile_is_replaced(site: Site) -> None:
    def stay_and_hang_up(exchange: Exchange) -> None:
        body(b"x")(exchange)  # says nothing of closing, and closes

    urls = [site.at(f"/{n}", stay_and_hang_up) for n in range(3)]
    assert fetch_all(urls, site.settings()) == [b"x"] * 3
    assert [site.asked[f"/{n}"] for n in range(3)] == [1, 1, 1]


def test_a_connection_that_breaks_at_the_next_request_costs_no_try(site: Site) -> None:
    """The host hangs up in the very moment in which it is asked again."""

    def hang_up_when_asked(exchange: Exchange) -> None:
        body(b"x")(exchange)
        exchange.rfile.readline()

    urls = [site.at("/first", hang_up_when_asked), site.at("/second", body(b"y"))]
    assert fetch_all(urls, site.settings(retries=0)) == [b"x", b"y"]
    assert len(site.connections) == 2


def test_what_a_host_says_beyond_its_answer_is_not_the_next_image(site: Site) -> None:
    planted = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
    urls = [site.at("/two", staying(raw(head + planted))), site.at("/next", body(b"next"))]
    assert fetch_all(urls, site.settings()) == [b"good", b"next"]
    assert len(site.connections) == 2


def test_what_a_host_says_unasked_is_not_the_next_image(site: Site) -> None:
    def speak_later(exchange: Exchange) -> None:
        body(b"good")(exchange)
        exchange.rest(0.1)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        exchange.rest(5)

    def slow(exchange: Exchange) -> None:
        exchange.rest(0.3)
        body(b"slow")(exchange)

    with serving() as other:
        urls = [site.at("/two", speak_later), other.at("/slow", slow)]
        urls.append(site.at("/next", body(b"next")))
        settings = site.settings(allow_hosts=[site.host, other.host])
        assert fetch_all(urls, settings) == [b"good", b"slow", b"next"]
    assert len(site.connections) == 2


def test_an_answer_that_is_announced_is_waited_for(site: Site) -> None:
    """Early hints, and only later the image: not the answer to what is asked next."""

    def hint(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x.css>\r\n\r\n")
        exchange.rest(0.1)
        body(b"x")(exchange)

    urls = [site.at("/hinted", staying(hint)), site.at("/next", body(b"y"))]
    assert fetch_all(urls, site.settings()) == [b"x", b"y"]
    assert len(site.connections) == 1


def test_a_site_that_asks_for_fewer_requests_gets_none_for_so_long(site: Site) -> None:
    crowded = in_turn(status(429, Retry_After="1"), body(b"x"))
    urls = [site.at("/crowded", crowded), site.at("/other", body(b"y"))]
    began = time.monotonic()
    assert fetch_all(urls, site.settings(retries=1)) == [b"x", b"y"]
    assert time.monotonic() - began >= 1
    assert site.asked == {"/crowded": 2, "/other": 1}


def test_a_site_that_asks_to_be_left_alone_is_left_alone(site: Site) -> None:
    urls = [site.at("/crowded", status(429, Retry_After="3600"))]
    urls += [site.at(f"/{n}", body(b"x")) for n in range(3)]
    assert fetch_all(urls, site.settings(retries=1)) == ["too many requests"] * 4
    assert site.asked == {"/crowded": 1}
