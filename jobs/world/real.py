"""A world of real photographs and captions, on loopback: no address of the data is asked for.

Pictures of the data are served as they are. Captions whose pictures we do not have keep their
text; their addresses become ours, and answer what the real ones answered, where that is known.
"""

import json
import random
from collections.abc import Iterable
from pathlib import Path

from jobs.world import draw, photos
from jobs.world.crawl import write_table, write_wat
from jobs.world.folder import (
    DROPPED,
    FAILS,
    ONE_STAYS,
    PORT,
    SERVED,
    Building,
    World,
    begin,
)
from jobs.world.leaks import KINDS, leak
from jobs.world.photos import Picture, RealCaption
from pipeline.errors import BadInput

WORDNET = Path("/usr/share/wordnet")
"""Where Debian's wordnet-base puts it."""

_LEAKED = 5 * len(KINDS)
_WAT = "crawl.wat.gz"
_TABLE = "pairs.parquet"
_CAPTIONS = "captions.parquet"
_PLACEHOLDER = "/img/not-here.jpg"
_PAGE = "/img/not-here.html"
_DUMPS = (
    "enwiki-20220720-sample-pages-articles.xml.bz2",
    "enwiki-20160501-shortened-pages-articles.xml.bz2",
)
_PAGEVIEWS = "pageviews-format-202306-enwiki-top10k.gz"


def make_real(
    folder: Path,
    data: Path,
    port: int = PORT + 1,
    *,
    captions_limit: int | None = None,
    wordnet: Path = WORDNET,
    seed: int = 0,
) -> World:
    """Write a world into `folder`, which must be new or empty, from a folder of data."""
    settings = _toml(folder.resolve(), data.resolve(), wordnet.resolve(), port)
    building = begin(folder, port)
    rng = random.Random(f"{seed}:real")

    for picture in photos.coco(data):
        _show(building, "coco", ONE_STAYS, picture)
    for picture in photos.clothing(data, "train", rng):
        _show(building, "clothing", SERVED, picture)
    for picture in photos.emoji(data, rng):
        _show(building, "emoji", SERVED, picture)
    _leak(building, "clothing", photos.clothing(data, "test", rng), rng)
    _leak(building, "imagenet_sample", photos.imagenet(data, rng), rng)

    shuffled = rng.sample(building.candidates, len(building.candidates))
    half = len(shuffled) // 2
    rows = write_wat(building.folder / _WAT, shuffled[:half], building.base, rng)
    rows |= write_table(building.folder / _TABLE, shuffled[half:], building.base, rng)

    ours = len(building.candidates)
    _rot(building, photos.real_captions(data, captions_limit, seed))
    more = write_table(building.folder / _CAPTIONS, building.candidates[ours:], building.base, rng)
    rows |= {f"captions_{name}": count for name, count in more.items()}

    toml = building.folder / "real.toml"
    toml.write_text(settings, encoding="utf-8")
    truth = building.finish(seed=seed, rows=rows)
    return World(building.folder, port, toml, truth)


def _show(building: Building, kind: str, expect: str, picture: Picture) -> None:
    path = f"/img/{kind}/{picture.name}"
    building.put(path, picture.data)
    for caption in picture.captions:
        building.plant(kind, expect, path, caption)


def _leak(
    building: Building, evalset: str, pictures: Iterable[Picture], rng: random.Random
) -> None:
    """Some of an evaluation set; most of it stays out of the web."""
    held_out = list(pictures)
    leaked = rng.sample(held_out, min(_LEAKED, len(held_out) // 4))
    leak(building, evalset, ((image.name, image.data, image.captions[0]) for image in leaked))


def _rot(building: Building, captions: Iterable[RealCaption]) -> None:
    """Captions without pictures: a 200 of the past is a placeholder now."""
    building.put(_PLACEHOLDER, draw.jpeg(draw.flat((230, 230, 230)), 90))
    building.put(_PAGE, b"<!doctype html><title>Not here</title>\n")
    for caption in captions:
        path = f"/rot/{caption.key}.jpg"
        status = 404 if caption.status is None else caption.status
        kind, expect = f"rot_{status}", FAILS
        if status == 200 and str(caption.content_type).startswith("image/"):
            expect = DROPPED
            building.route(path, "status", status=200, file=_PLACEHOLDER)
        elif status == 200:
            kind = "rot_page"
            building.route(path, "status", status=200, file=_PAGE, type="text/html")
        elif status != 404:
            building.route(path, "status", status=status, empty=True)
        building.plant(kind, expect, path, caption.text)


def _toml(folder: Path, data: Path, wordnet: Path, port: int) -> str:
    """The settings; every file of others that they name must be there."""
    if not (wordnet / "data.noun").is_file():
        raise BadInput(f"{wordnet} holds no data.noun: install wordnet-base or give its path")

    def text(path: Path) -> str:
        return json.dumps(str(path), ensure_ascii=False)

    dumps = ", ".join(text(photos.needed(data, "wiki", name)) for name in _DUMPS)

    return f"""\
# A run among real photographs and captions. Its server must be up: see jobs/world.

[derive]
dumps = [{dumps}]
pageviews = [{text(photos.needed(data, "wiki", _PAGEVIEWS))}]
wordnet = {text(wordnet)}
min_word_count = 20
min_bigram_count = 10

[ingest]
wats = [{text(folder / _WAT)}]
tables = [
    {{path = {text(folder / _TABLE)}, url = "url", caption = "caption"}},
    {{path = {text(folder / _CAPTIONS)}, url = "url", caption = "caption"}},
]

[balance]
max_pairs_per_query = 100
pairs_per_raw_shard = 5000

[download]
threads = 32
connections_per_host = 32
deadline_seconds = 5.0
allow_hosts = ["127.0.0.1:{port}"]

[shard]
samples_per_shard = 1000

[train]
model = "tiny-RN"
batch_size = 64
epochs = 10.0
cpu_threads = 1
warmup_steps = 50
merges = 4000
save_every_steps = 200

[[evalsets]]
name = "clothing"
path = {text(photos.clothing_tar(data))}
split = "test"
train_split = "train"
templates = ["a photo of a {{}}.", "one {{}} from my wardrobe.", "a {{}}."]

[[evalsets]]
name = "imagenet_sample"
path = {text(photos.imagenet_tar(data))}
scored = false
"""
