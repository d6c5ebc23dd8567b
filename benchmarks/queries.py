"""Queries: real pages to clean tokens, counted, beside mwparserfromhell and Spark's own counting.

The excerpts of Wikipedia are repeated to 200 MB of XML. Rates are of one core: CPU seconds of one
process, and of a session with one task at a time where Spark is in it.
"""

import bz2
import html
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mwparserfromhell
import numpy as np
import psutil
from pyspark import __version__ as spark_version
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from benchmarks.form import Figure, alternate, publish, spark_seconds
from benchmarks.reader import read
from jobs.spark import session
from pipeline import lexicon
from pipeline.settings import SparkSettings
from pipeline.text import tokens
from queries import bigrams, dump, ranges, words
from queries.wikitext import strip

_BYTES = 200_000_000
_MIN_COUNT = 100
_ROUNDS = 3
_WIKIPEDIA_BYTES, _WIKIPEDIA_TOKENS = 100e9, 4.5e9
"""Of all of English Wikipedia: XML, and words in its articles."""
_PARSER = f"mwparserfromhell {mwparserfromhell.__version__}, strip_code"


def main(data: Path) -> None:
    """Measure with the excerpts in `data`/wiki and publish."""
    packed = sorted((data / "wiki").glob("enwiki-2*-pages-articles.xml.bz2"))
    if not packed:
        print(f"{data}/wiki holds no enwiki-2*-pages-articles.xml.bz2: bench-queries is skipped")
        return
    with tempfile.TemporaryDirectory() as scratch:
        once, often = _dumps(packed, Path(scratch))
        texts = _wikitexts(once)
        figures = [*_reading(once, often, texts), *_counting(often, Path(scratch) / "spark")]
        figures += [_peak(once), _peak(often)]
    publish("queries", [*figures, *_quality(texts), *_wikipedia(figures)])


def _dumps(packed: list[Path], folder: Path) -> tuple[Path, Path]:
    """A dump of the excerpts' pages, and one that repeats them to 200 MB, packed too."""
    raw = [bz2.decompress(path.read_bytes()) for path in packed]
    head = raw[0][: raw[0].index(b"<page>")]
    pages = b"".join(text[text.index(b"<page>") : text.rindex(b"</page>") + 8] for text in raw)
    once, often = folder / "once.xml", folder / "often.xml"
    once.write_bytes(head + pages)
    often.write_bytes(head + pages * -(-_BYTES // len(pages)))
    _packed(often).write_bytes(bz2.compress(often.read_bytes()))
    return once, often


def _packed(dump: Path) -> Path:
    return dump.with_suffix(".xml.bz2")


def _wikitexts(path: Path) -> list[str]:
    """The wikitext of every article, found by other means than ours."""
    pages = path.read_text(encoding="utf-8").split("</page>")[:-1]
    articles = [page for page in pages if "<ns>0</ns>" in page and "<redirect" not in page]
    bodies = (page.split("<text")[1].split(">", 1)[1].split("</text>")[0] for page in articles)
    return [html.unescape(body) for body in bodies]


def _tokens_of(path: Path) -> int:
    """Read a dump to its end and count its tokens, as a task does."""
    found, counts = lexicon.empty(1 << 20, 1 << 24), np.zeros(1 << 20, np.int64)
    for page in ranges.pages_in(ranges.Range(str(path), 0, path.stat().st_size)):
        text = None if isinstance(page, ranges.Problem) else dump.parse(page).text
        if text is not None:
            lexicon.count(found, np.frombuffer(text.encode(), np.uint8), 0, counts)
    return int(counts.sum())


def _unpack(path: Path) -> None:
    with bz2.open(path) as stream:
        while stream.read(1 << 20):
            pass


def _reading(once: Path, often: Path, texts: list[str]) -> list[Figure]:
    small, large = once.stat().st_size / 1e6, often.stat().st_size / 1e6
    _tokens_of(once)  # compiles
    seconds = alternate(
        {
            "ours": lambda: _tokens_of(often),
            "strip_code": lambda: [mwparserfromhell.parse(text).strip_code() for text in texts],
            "ours, packed": lambda: _tokens_of(_packed(often)),
            "bz2": lambda: _unpack(_packed(often)),
        },
        rounds=_ROUNDS,
    )
    ours, theirs = large / seconds["ours"], small / seconds["strip_code"]
    packed, alone = large / seconds["ours, packed"], large / seconds["bz2"]
    return [
        Figure("XML to clean tokens", ours, "MB of XML/s", theirs, _PARSER, goal=12),
        Figure("bz2 to clean tokens", packed, "MB of XML/s", alone, "bz2, unpacking alone"),
    ]


def _counting(dump_path: Path, scratch: Path) -> list[Figure]:
    settings = SparkSettings(master="local[1]", partitions=4, driver_memory="4g")
    spark = session(settings, scratch)
    pages = dump.pages(spark, [str(dump_path)], "enwiki", 1 << 25)
    texts = words.texts(pages).persist(StorageLevel.DISK_ONLY)
    results: dict[str, Any] = {}

    def ours() -> None:
        counts = words.words(texts).cache()
        total, _ = words.total(counts)
        vocabulary = words.frequent(counts, _MIN_COUNT)
        pairs = bigrams.bigrams(texts, vocabulary, _MIN_COUNT)
        table = bigrams.scored(pairs, vocabulary, total)
        found = zip(table["bigram"].to_pylist(), table["count"].to_pylist(), strict=True)
        results["ours"] = total, vocabulary, dict(found)
        counts.unpersist()

    def explode() -> None:
        results["explode"] = _exploded(texts)

    ours(), explode()  # text is unpacked, code is compiled
    assert results["ours"] == results["explode"], "the two count differently"
    seconds = alternate({"ours": ours, "explode": explode}, rounds=_ROUNDS, measure=spark_seconds)
    total = results["ours"][0]
    peak = max(_peak_bytes(p) for p in psutil.Process().children(recursive=True) if _is_python(p))
    spark.stop()
    return [
        Figure(
            "words and bigrams counted",
            total / seconds["ours"] / 1e6,
            "M tokens/s",
            total / seconds["explode"] / 1e6,
            f"Spark {spark_version}, explode and groupBy",
            goal=1.5,
        ),
        Figure("peak memory of a task that counts", peak / 2**20, "MiB"),
    ]


def _exploded(texts: DataFrame) -> tuple[int, dict[str, int], dict[str, int]]:
    """The same counts, of strings alone."""
    line = F.explode(F.split("text", "\n")).alias("line")
    word_list = F.filter(F.split("line", r"[^\p{L}\p{N}\p{M}]+"), lambda word: word != "")
    lines = texts.select(line).select(word_list.alias("words")).where(F.size("words") > 0)
    counts = lines.select(F.explode("words").alias("word")).groupBy("word").count().cache()
    total = counts.agg(F.sum("count")).collect()[0][0]
    known = counts.where(F.col("count") >= _MIN_COUNT)
    vocabulary = {row["word"]: row["count"] for row in known.orderBy("word").collect()}
    second = F.slice("words", 2, F.size("words"))
    pairs = F.arrays_zip(F.col("words").alias("first"), second.alias("second"))
    neighbours = lines.select(F.explode(pairs).alias("pair")).select("pair.first", "pair.second")
    for side in ("first", "second"):
        side_known = F.broadcast(known.select(F.col("word").alias(side)))
        neighbours = neighbours.join(side_known, on=side, how="left_semi")
    counted = neighbours.groupBy("first", "second").count().where(F.col("count") >= _MIN_COUNT)
    found = {f"{row['first']} {row['second']}": row["count"] for row in counted.collect()}
    counts.unpersist()
    return total, vocabulary, found


def _is_python(process: psutil.Process) -> bool:
    return process.name().startswith("python")


def _peak_bytes(process: psutil.Process) -> int:
    return _high_water(Path(f"/proc/{process.pid}/status").read_text())


def _high_water(status: str) -> int:
    # The usage that a process reports of itself may be that of the parent it was forked from.
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _peak(path: Path) -> Figure:
    """Of one process that reads a dump to its end, from its birth."""
    code = (
        "import sys; from pathlib import Path; from benchmarks.queries import _tokens_of;"
        "_tokens_of(Path(sys.argv[1])); print(Path('/proc/self/status').read_text())"
    )
    command = [sys.executable, "-c", code, str(path)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    megabytes = path.stat().st_size / 1e6
    return Figure(
        f"peak memory of a task over {megabytes:.0f} MB of XML", _high_water(told) / 2**20, "MiB"
    )


def _quality(texts: list[str]) -> list[Figure]:
    """The share of our tokens that are theirs, and of theirs that are ours, page by page."""
    ours = [Counter(tokens(strip(text))) for text in texts]
    readers: dict[str, Callable[[str], str]] = {
        "as a reader sees it": read,
        "strip_code as it is": lambda text: str(mwparserfromhell.parse(text).strip_code()),
    }
    figures = []
    for name, reader in readers.items():
        theirs = [Counter(tokens(reader(text))) for text in texts]
        common = sum((a & b).total() for a, b in zip(ours, theirs, strict=True))
        is_goal = reader is read
        precision = common / sum(count.total() for count in ours)
        recall = common / sum(count.total() for count in theirs)
        figures += [
            Figure(f"precision, {name}", precision, "of tokens", goal=0.999 if is_goal else None),
            Figure(f"recall, {name}", recall, "of tokens", goal=0.95 if is_goal else None),
        ]
    return figures


def _wikipedia(figures: list[Figure]) -> list[Figure]:
    rate = {figure.figure: figure.ours for figure in figures}
    reading = _WIKIPEDIA_BYTES / 1e6 / rate["bz2 to clean tokens"] / 3600
    counting = _WIKIPEDIA_TOKENS / 1e6 / rate["words and bigrams counted"] / 3600
    return [
        Figure("all of English Wikipedia, reading", reading, "core hours"),
        Figure("all of English Wikipedia, counting", counting, "core hours"),
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
