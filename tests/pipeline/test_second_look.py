"""pipeline.second_look"""

import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image, ImageDraw
from pyspark.errors import PythonException
from pyspark.sql import DataFrame

from pipeline.schemas import DROPPED, OVERLAPS
from pipeline.second_look import confirmed, needs_look, second_look, verdict
from pipeline.settings import DedupSettings
from pipeline.similarity import look
from tests.pipeline.pictures import noise


def _encoded(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _logo(colour: str) -> Image.Image:
    image = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(image).ellipse((20, 20, 108, 108), fill=colour)
    return image


@pytest.mark.parametrize(
    ("by_hashes", "found", "told"),
    [
        ("candidate", 0.71, "overlap"),
        ("candidate", 0.69, "candidate"),
        ("overlap", 0.0, "candidate"),
        ("overlap", None, "overlap"),
        ("candidate", None, "candidate"),
    ],
)
def test_a_second_look_decides_where_there_is_something_to_see(
    by_hashes: str, found: float | None, told: str
) -> None:
    assert verdict(by_hashes, found, DedupSettings()) == told


def test_equal_files_flat_pictures_and_confirmed_photos_need_none() -> None:
    photo, logo = look(noise(1, (300, 200))), look(_logo("orange"))

    def needed(verdict: str, similarity: float | None, known: bytes) -> bool:
        return needs_look({"verdict": verdict, "similarity": similarity}, known)

    assert needed("candidate", None, photo)
    assert needed("overlap", None, logo)
    assert not needed("overlap", 1.0, logo)
    assert not needed("overlap", None, photo)
    assert not needed("undecidable", None, photo)


def _asked(overlaps: DataFrame, count: Any) -> DataFrame:
    """The same overlaps; `count` grows with each that Spark asks for."""

    def ask(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            count.add(batch.num_rows)
            yield batch

    return overlaps.mapInArrow(ask, overlaps.schema)


def test_copies_are_told_from_others_and_what_is_unreadable_stays(spark, tmp_path) -> None:
    photo, other = noise(1, (300, 200)), noise(2, (300, 200))
    stored = {
        "cropped": _encoded(photo.crop((8, 2, 296, 194))),
        "other": _encoded(other),
        "orange": _encoded(_logo("orange")),
        "blue": _encoded(_logo("blue")),
        "broken": b"no image",
    }
    tar, offsets, at = tmp_path / "0.tar", {}, 0
    tar.write_bytes(b"".join(stored.values()))
    for name, data in stored.items():
        offsets[name] = at
        at += len(data)
    places: list[Any] = [(name, str(tar), offsets[name], len(stored[name])) for name in stored]
    places += [("gone", str(tmp_path / "1.tar"), 0, 9)]
    rows = [
        ("cropped", "photos", "a.jpg", "crop90", 6, 60, None, "candidate"),
        ("other", "photos", "a.jpg", "original", 8, 80, None, "candidate"),
        ("other", "photos", "b.jpg", "original", 8, 80, None, "candidate"),
        ("orange", "logos", "c.png", "original", 2, 4, None, "overlap"),
        ("blue", "logos", "c.png", "original", 2, 8, None, "overlap"),
        ("broken", "photos", "a.jpg", "original", 8, 80, None, "candidate"),
        ("gone", "photos", "a.jpg", "original", 8, 80, None, "candidate"),
        ("nowhere", "photos", "a.jpg", "original", 8, 80, None, "candidate"),
        ("flat", "photos", "a.jpg", "original", 0, 0, None, "undecidable"),
    ]
    known = [
        ("a.jpg", "photos", "original", look(photo)),
        ("a.jpg", "photos", "crop90", None),
        ("a.jpg", "corpus", "original", None),
        ("c.png", "logos", "original", look(_logo("orange"))),
        ("b.jpg", "photos", "original", None),
    ]
    told = []
    for partitions in (1, 5):
        ddl = (
            "pair_id string, source string, eval_id string, variant string, "
            "phash_distance int, pdq_distance int, similarity float, verdict string"
        )
        asked = spark.sparkContext.accumulator(0)
        found = second_look(
            _asked(spark.createDataFrame(rows, ddl).repartition(partitions), asked),
            spark.createDataFrame(places, "pair_id string, path string, offset long, bytes long"),
            spark.createDataFrame(known, "id string, source string, variant string, look binary"),
            DedupSettings(),
        )
        assert found.columns == OVERLAPS.names
        told.append(sorted((tuple(row) for row in found.collect()), key=lambda row: row[:3]))
        spark.catalog.clearCache()
        # What finds the overlaps has searched the corpus: once is enough.
        assert asked.value == len(rows)
    assert told[0] == told[1]
    by_pair = {row[:3:2]: (row[7], row[6]) for row in told[0]}
    assert len(told[0]) == len(rows)
    assert by_pair["cropped", "a.jpg"][0] == "overlap"
    assert by_pair["cropped", "a.jpg"][1] > 0.8
    assert by_pair["other", "a.jpg"][0] == "candidate"
    assert by_pair["other", "a.jpg"][1] < 0.5
    assert by_pair["orange", "c.png"][0] == "overlap"
    assert by_pair["blue", "c.png"] == ("candidate", 0.0)
    unseen = [("other", "b.jpg"), ("broken", "a.jpg"), ("gone", "a.jpg"), ("nowhere", "a.jpg")]
    assert {by_pair[pair] for pair in unseen} == {("candidate", None)}
    assert by_pair["flat", "a.jpg"] == ("undecidable", None)


def test_a_tar_that_is_there_and_cannot_be_read_ends_the_task(spark, tmp_path) -> None:
    (tar := tmp_path / "0.tar").mkdir()
    ddl = (
        "pair_id string, source string, eval_id string, variant string, "
        "phash_distance int, pdq_distance int, similarity float, verdict string"
    )
    row = ("own", "photos", "a.jpg", "original", 8, 80, None, "candidate")
    photo = ("a.jpg", "photos", "original", look(noise(1, (300, 200))))
    place: Any = [("own", str(tar), 0, 9), ("rival", str(tar), 9, 9)]
    places = spark.createDataFrame(place, "pair_id string, path string, offset long, bytes long")
    found = second_look(
        spark.createDataFrame([row], ddl),
        places,
        spark.createDataFrame([photo], "id string, source string, variant string, look binary"),
        DedupSettings(),
    )
    with pytest.raises(PythonException, match="Is a directory"):
        found.collect()
    spark.catalog.clearCache()

    ddl = (
        "pair_id string, reason string, rival string, source string, variant string, "
        "phash_distance int, pdq_distance int"
    )
    near = ("own", "near duplicate", "rival", "corpus", None, 1, 9)
    with pytest.raises(PythonException, match="Is a directory"):
        confirmed(spark.createDataFrame([near], ddl), places).collect()


def test_pictures_of_other_light_or_colour_are_no_near_duplicates(spark, tmp_path) -> None:
    photo, orange = noise(1, (300, 200)), _logo("orange")
    stored = {
        "photo": _encoded(photo),
        "photo again": _encoded(photo.resize((150, 100))),
        "orange": _encoded(orange),
        "orange again": _encoded(orange.resize((96, 96))),
        "blue": _encoded(_logo("blue")),
        "teal": _encoded(_logo("teal")),
        "purple": _encoded(_logo("#6f4290")),
        "broken": b"no image",
    }
    tar, places, at = tmp_path / "0.tar", [], 0
    tar.write_bytes(b"".join(stored.values()))
    for name, data in stored.items():
        places.append((name, str(tar), at, len(data)))
        at += len(data)
    rivals = {
        "photo again": "photo",
        "orange again": "orange",
        "blue": "orange",
        "purple": "teal",
        "broken": "orange",
        "nowhere": "orange",
    }
    rows = [(name, "near duplicate", rival, "corpus", None, 1, 9) for name, rival in rivals.items()]
    ddl = (
        "pair_id string, reason string, rival string, source string, variant string, "
        "phash_distance int, pdq_distance int"
    )
    found = confirmed(
        spark.createDataFrame(rows, ddl),
        spark.createDataFrame(places, "pair_id string, path string, offset long, bytes long"),
    )
    assert found.columns == DROPPED.names
    assert {row["pair_id"] for row in found.collect()} == rivals.keys() - {"blue", "purple"}
