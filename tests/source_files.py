"""Every kind of source that settings may name: its files, and what is read of them."""

import bz2
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import evalsets
from pipeline.ingest import blocklists, sources
from pipeline.ingest.rows import Part, batches_in
from pipeline.settings import EvalSet, IngestSettings, TableSource
from queries import blocklist, multistream, pageviews, ranges, wordnet
from tests.pipeline import eval_files
from tests.queries.wiki import HEAD, page, write_wordnet

_ROWS = [
    (
        f"http://{'ab'[n % 9 == 0]}.example/{n}.jpg",
        f"a photograph of a small red house, caf\u00e9 number {n}",
    )
    for n in range(700)
]
_RANDOM = random.Random(9)


class Kind(NamedTuple):
    """How a source is written into a folder, which returns its name there, and read."""

    write: Callable[[Path], str]
    read: Callable[[str], Any]


def _put(name: str, data: bytes) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        (folder / name).write_bytes(data)
        return name

    return write


# -- derive --------------------------------------------------------------------------------

_PAGES = [page(f"Title {n}", _RANDOM.randbytes(400).hex()) for n in range(120)]
_XML = (HEAD + "".join(_PAGES)).encode()
_STREAMS = [
    (HEAD + "".join(_PAGES[:60])).encode(),
    "".join(_PAGES[60:]).encode(),
]
_VIEWS = "".join(f"en Title_{n} {n} 0\n" for n in range(4000)).encode()


def _dump(where: str) -> list[Any]:
    return [list(ranges.pages_in(part)) for part in ranges.ranges([where], 30_001)]


def _views(where: str) -> list[Any]:
    pageviews.check([where])
    return list(pageviews._lines(where))


def _index(folder: Path) -> str:
    name = "enwiki-20240101-pages-articles-multistream.xml.bz2"
    (folder / name).write_bytes(b"BZh9")
    lines = "".join(f"{n * 7}:{n}:Title: {n}\n" for n in range(3000))
    index = "enwiki-20240101-pages-articles-multistream-index.txt.bz2"
    (folder / index).write_bytes(bz2.compress(lines.encode()))
    return name


def _listed(where: str) -> int:
    index = multistream.index_of(where)
    assert index is not None
    return multistream.pages_listed(index)


def _wordnet(folder: Path) -> str:
    write_wordnet(folder / "wordnet", *(f"word_{n}" for n in range(600)))
    return "wordnet"


# -- ingest --------------------------------------------------------------------------------


def _record(kind: str, target: str, block: bytes) -> bytes:
    head = [
        *("WARC/1.0", f"WARC-Type: {kind}", f"WARC-Target-URI: {target}"),
        *("Content-Type: application/http", f"Content-Length: {len(block)}", "", ""),
    ]
    return gzip.compress("\r\n".join(head).encode() + block + b"\r\n\r\n")


def wat(pages: int) -> bytes:
    found = []
    for n in range(pages):
        links = [{"path": "IMG@/src", "url": f"{n}.jpg", "alt": _RANDOM.randbytes(300).hex()}]
        envelope = {
            "WARC-Header-Metadata": {"WARC-Target-URI": f"http://a.example/{n}"},
            "Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": {"Links": links}}},
        }
        found.append(_record("metadata", f"{n}", json.dumps({"Envelope": envelope}).encode()))
    return b"".join(found)


def _warc() -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    return b"".join(
        _record(
            "response",
            f"http://a.example/{n}",
            head + f'<img src="{n}.jpg" alt="{_RANDOM.randbytes(300).hex()}">'.encode(),
        )
        for n in range(120)
    )


def _crawl(form: str) -> Callable[[str], Any]:
    return lambda where: list(batches_in(sources.crawl_parts(form, [where])[0]))


def _parquet(folder: Path) -> str:
    (folder / "table").mkdir()
    table = pa.table({"url": [u for u, _ in _ROWS], "text": [c for _, c in _ROWS]})
    for n in range(2):
        pq.write_table(table, folder / "table" / f"{n}.parquet", row_group_size=100)
    (folder / "table" / "_SUCCESS").write_bytes(b"")
    return "table"


def _table(where: str) -> list[Any]:
    # None of them is so large that a session is asked for.
    parts = sources.table_parts(None, TableSource(path=where))  # type: ignore[arg-type]
    large = sources.are_large(parts)
    columns = [[column.tolist() for column in c] for part in parts for c in _columns(part)]
    return [len(parts), large, columns]


def _columns(part: Part) -> Any:
    return ([pa.array(c, pa.string()).to_numpy(False) for c in b] for b in batches_in(part))


_CSV = "url,caption\n" + "".join(f'{u},"{c}"\n' for u, c in _ROWS[:200])
_TSV = "url\tcaption\n" + "".join(f"{u}\t{c}\n" for u, c in _ROWS)
_JSON = "".join(json.dumps({"url": u, "caption": c}) + "\n" for u, c in _ROWS)


def _packed(text: str, packing: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, packing) as out:
        out.write(text.encode())
    return bytes(sink.getvalue())


def _blocked(where: str) -> Any:
    found = blocklists.load(IngestSettings(blocked_domains=[where]))
    return found.domains.tolist()


# -- evaluation sets -----------------------------------------------------------------------

_PICTURES = [(f"test/{n % 3}/{n:03}.png", eval_files.png(n)) for n in range(40)]


def _folder(folder: Path) -> str:
    eval_files.folder(folder / "set", _PICTURES)
    return "set"


def _tar(name: str, mode: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        eval_files.tar(folder / name, _PICTURES, mode)
        return name

    return write


def _hugging_face(folder: Path) -> str:
    images = [(data, n % 2) for n, (_, data) in enumerate(_PICTURES)]
    eval_files.hugging_face(folder / "set" / "test-0.parquet", images, ["cat", "dog"])
    return "set"


def _cifar(folder: Path) -> str:
    eval_files.cifar(folder / "set", eval_files.noise(1, 5, 32, 32, 3), [0, 1, 0, 1, 1], 4)
    return "set"


def _hashes(where: str) -> Any:
    return list(evalsets.hashes(EvalSet(name="things", path=where)))


def _images(where: str) -> Any:
    evalset = EvalSet(name="things", path=where)
    names = [image.name for image in evalsets.images(evalset)]
    return [*evalsets.images(evalset), *evalsets.find(evalset, names[::3])]


_HASHES = "".join(f"{n:064x}\n" for n in range(900)).encode()

KINDS = {
    "dump": Kind(_put("d.xml", _XML), _dump),
    "packed dump": Kind(_put("d.xml.bz2", b"".join(map(bz2.compress, _STREAMS))), _dump),
    "pageviews": Kind(_put("views", _VIEWS), _views),
    "packed pageviews": Kind(_put("views.gz", gzip.compress(_VIEWS)), _views),
    "index of a dump": Kind(_index, _listed),
    "wordnet": Kind(_wordnet, wordnet.synset_names),
    "blocklist": Kind(_put("blocked.txt", b"one\n* two *\n"), blocklist.load),
    "wat": Kind(_put("x.wat.gz", wat(120)), _crawl("wat")),
    "warc": Kind(_put("x.warc.gz", _warc()), _crawl("warc")),
    "parquet": Kind(_parquet, _table),
    "csv": Kind(_put("t.csv", _CSV.encode()), _table),
    "tsv in parts": Kind(_put("t.tsv", _TSV.encode()), _table),
    "csv.gz": Kind(_put("t.csv.gz", _packed(_CSV, "gzip")), _table),
    "jsonl in parts": Kind(_put("t.jsonl", _JSON.encode()), _table),
    "jsonl.zst": Kind(_put("t.jsonl.zst", _packed(_JSON, "zstd")), _table),
    "blocked domains": Kind(_put("d.txt", b"a.example\nb.example\n"), _blocked),
    "packed domains": Kind(_put("d.txt.gz", gzip.compress(b"a.example\nb.example\n")), _blocked),
    "pictures": Kind(_folder, _images),
    "tar of pictures": Kind(_tar("set.tar", "w"), _images),
    "packed tar of pictures": Kind(_tar("set.tar.gz", "w:gz"), _images),
    "table of pictures": Kind(_hugging_face, _images),
    "cifar": Kind(_cifar, _images),
    "list of hashes": Kind(_put("pdq.txt", _HASHES), _hashes),
}
