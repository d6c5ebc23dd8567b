"""The demonstration's world: a few thousand drawings, and everything that can go wrong."""

import json
import random
from pathlib import Path

from jobs.world import draw
from jobs.world.captions import CROWDED_WORD
from jobs.world.crawl import write_table, write_wat
from jobs.world.draw import Drawing
from jobs.world.folder import PORT, World, begin, write_tar
from jobs.world.leaks import KINDS, leak
from jobs.world.plant import RETRIES, Planter
from jobs.world.wiki import DUMP, PAGEVIEWS, WORDNET, write_wiki
from pipeline.errors import BadInput

MIN_PAIRS = 150
_EVALSET = "shapes"
_TAR = f"evalsets/{_EVALSET}.tar"
_WAT = "crawl.wat.gz"
_TABLE = "pairs.parquet"


def make_world(folder: Path, pairs: int, seed: int = 0, port: int = PORT) -> World:
    """Write a world of `pairs` candidates into `folder`, which must be new or empty.

    The same arguments give the same bytes, but for the absolute paths in demo.toml.
    """
    if pairs < MIN_PAIRS:
        raise BadInput(f"a world of {pairs} pairs is too small: ask for {MIN_PAIRS} or more")
    building = begin(folder, port)
    rng = random.Random(f"{seed}:demo")
    queries = write_wiki(building.folder, seed)

    held_out = _held_out(seed, per_class=max(2, min(12, pairs // 300)))
    write_tar(building.folder / _TAR, ((name, data) for name, data, _ in held_out))

    planter = Planter(building, seed, rng)
    planter.trouble(pairs)
    tests = [image for image in held_out if image[0].startswith("test/")]
    leaked = rng.sample(tests, min(len(tests), len(KINDS) * max(1, pairs // 800)))
    leak(building, _EVALSET, ((name, data, planter.caption(shown)) for name, data, shown in leaked))
    planter.crowd(pairs // 5)
    planter.good(pairs - len(building.candidates))

    shuffled = rng.sample(building.candidates, len(building.candidates))
    half = len(shuffled) // 2
    rows = write_wat(building.folder / _WAT, shuffled[:half], building.base, rng)
    rows |= write_table(building.folder / _TABLE, shuffled[half:], building.base, rng)

    settings = building.folder / "demo.toml"
    settings.write_text(_toml(building.folder, port, pairs), encoding="utf-8")
    truth = building.finish(seed=seed, crowded_word=CROWDED_WORD, rows=rows, queries=queries)
    return World(building.folder, port, settings, truth)


def _held_out(seed: int, per_class: int) -> list[tuple[str, bytes, Drawing]]:
    """The evaluation set: drawings of every class that the web shows only where they leaked."""
    images = []
    for split, count in (("test", per_class), ("train", max(2, per_class // 2))):
        for colour in draw.COLOURS:
            for shape in draw.SHAPES:
                for number in range(1, count + 1):
                    name = f"{split}/{colour}_{shape}/{number:04d}.jpg"
                    key = f"{seed}:{_EVALSET}:{name}"
                    choice = draw.chance(f"{key}:choice")
                    drawing = Drawing(
                        key,
                        colour,
                        shape,
                        pattern=str(choice.choice(draw.PATTERNS)),
                        size=str(choice.choice(list(draw.SIZES))),
                        side=str(choice.choice(draw.SIDES)),
                        min_pixels=220,
                        square=False,
                    )
                    images.append((name, draw.jpeg(draw.render(drawing), 92), drawing))
    return sorted(images, key=lambda image: image[0])


def _toml(folder: Path, port: int, pairs: int) -> str:
    def path(name: str) -> str:
        return json.dumps(str(folder / name), ensure_ascii=False)

    cap = max(10, pairs * 3 // 40)
    per_shard = max(50, pairs // 8)
    return f"""\
# A run in the demonstration's world. Its server must be up: see jobs/world.

[derive]
dumps = [{path(DUMP)}]
pageviews = [{path(PAGEVIEWS)}]
wordnet = {path(WORDNET)}
min_word_count = 100
min_bigram_count = 50
min_title_views = 100

[ingest]
wats = [{path(_WAT)}]
tables = [{{path = {path(_TABLE)}, url = "url", caption = "caption"}}]

[balance]
max_pairs_per_query = {cap}
# Less than dead links cost: what is short after a round draws further pairs.
headroom = 1.1
pairs_per_raw_shard = {per_shard}

[download]
threads = 32
# One server is all hosts.
connections_per_host = 32
deadline_seconds = 3.0
max_body_bytes = 4000000
retries = {RETRIES}
allow_hosts = ["127.0.0.1:{port}"]

[dedup]
placeholder_urls = 20

[shard]
samples_per_shard = {per_shard}

[train]
model = "tiny-RN"
batch_size = 64
epochs = 10.0
cpu_threads = 1
warmup_steps = 50
merges = 2000
save_every_steps = 200

[[evalsets]]
name = "{_EVALSET}"
path = {path(_TAR)}
split = "test"
train_split = "train"
templates = ["a photo of a {{}}.", "a drawing of a {{}}.", "a {{}}."]
"""
