"""pipeline.caption_overlap"""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from jobs import audit_captions
from jobs.audit_captions import Wanted
from pipeline import caption_overlap, caption_tables
from pipeline.caption_overlap import EvalCaption, keys_of, sought
from pipeline.text import normalise

_LONG = "a man in a red coat walks his two old dogs along the beach at dusk"


def test_captions_are_equal_when_their_words_are() -> None:
    own = keys_of("A dog, running!")[0]
    assert keys_of("a DOG running")[0] == own
    assert keys_of("a dog is running")[0] != own
    assert keys_of("...") == []


def test_only_long_captions_have_passages() -> None:
    twelve = " ".join("abcdefghijkl")
    assert len(keys_of(twelve)) == 1
    assert len(keys_of(f"{twelve} m")) == 2
    assert len(keys_of(f"{twelve} m n")) == 3


@given(st.lists(st.text("ab .", max_size=8), max_size=8), st.lists(st.text("ab .", max_size=8)))
def test_what_is_found_is_what_comparing_each_with_each_finds(
    evals: list[str], corpus: list[str]
) -> None:
    captions = [EvalCaption("set", str(n), None, text) for n, text in enumerate(evals)]
    what = sought(captions)
    pair_ids = [f"p{n}" for n in range(len(corpus))]
    columns = [pa.array(pair_ids, pa.string()), pa.array(corpus, pa.string())]
    batch = pa.RecordBatch.from_arrays(columns, ["pair_id", "caption"])
    hits = caption_overlap._hits_in(batch, what.keys).to_pylist()
    found = {(row["pair_id"], row["place"]) for row in hits}
    expected = {
        (pair_id, what.equal[n])
        for n, text in enumerate(evals)
        for pair_id, other in zip(pair_ids, corpus, strict=True)
        if normalise(text) and normalise(text) == normalise(other)
    }
    assert found == expected
    assert len(hits) == len(found)


def _corpus(folder: Path) -> list[Path]:
    """A caption that occurs thousands of times, one of two lines, a long one within another."""
    crowd = [f"A dog{'!' * (n % 7)}" for n in range(3000)]
    rows = [*crowd, "the first line\nNobody, knows!", f"photo: {_LONG}, 2019", None, "else"]
    table = pa.table({"id": [f"p{n:05d}" for n in range(len(rows))], "text": rows})
    pq.write_table(table, folder / "corpus.parquet", row_group_size=1000)
    (folder / "more.csv").write_text('id,caption\nq1,"a dog"\nq2,nobody knows\n')
    return [folder / "corpus.parquet", folder / "more.csv"]


def test_a_caption_is_found_however_often_it_occurs_and_wherever_it_is_read(
    spark: SparkSession, tmp_path: Path
) -> None:
    captions = [
        EvalCaption("coco", "c0", "1.jpg", "a dog"),
        EvalCaption("coco", "c1", "1.jpg", "not there at all"),
        EvalCaption("coco", "c2", "2.jpg", "Nobody knows."),
        EvalCaption("flickr", "f0", None, f"{_LONG} while it rains"),
        EvalCaption("flickr", "f1", None, "!?"),
    ]
    wanted = Wanted(captions, {"coco": {}, "flickr": {"a row without a caption": 2}})
    files = _corpus(tmp_path)
    contents = []
    for order, partitions in ((files, 2), (files[::-1], 5)):
        folder = tmp_path / f"out-{partitions}"
        folder.mkdir()
        corpus = caption_tables.of_tables(spark, order).repartition(partitions)
        audit_captions.look_for(wanted, corpus, folder, 0.995)
        contents.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert contents[0] == contents[1]

    found = pq.read_table(folder / audit_captions.FOUND).to_pylist()
    told = [(row["eval_id"], row["kind"], row["pairs"], row["pair_id"]) for row in found]
    assert told == [
        ("c0", "equal", 3001, "p00000"),
        ("c2", "equal", 2, "p03000"),
        ("f0", "near", 1, "p03001"),
    ]
    coco, flickr = json.loads((folder / audit_captions.TOLD).read_text())
    assert (coco["captions"], coco["distinct"], coco["found"], coco["pairs"]) == (3, 3, 2, 3003)
    assert (coco["images"]["images"], coco["images"]["found"]) == (2, 2)
    assert coco["long"] == {"captions": 0, "found": 0, "ratio": 0.0, "low": 0.0, "high": 1.0}
    assert (coco["corpus_captions"], coco["unread_of_corpus"]) == (
        3006,
        {"a row without a caption": 1},
    )
    assert (flickr["found"], flickr["near"], flickr["without_tokens"]) == (0, 1, 1)
    assert flickr["images"] is None
    pairs = pq.read_table(folder / audit_captions.PAIRS)
    assert pairs.num_rows == 3004
    kinds = Counter(pairs.column("kind").to_pylist())
    assert kinds == {"equal": 3003, "near": 1}
