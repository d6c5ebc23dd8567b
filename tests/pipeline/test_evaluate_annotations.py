"""Annotations: classes and captions from wherever they stand."""

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from eval_files import evalset, folder, png, tar

from pipeline.errors import BadInput
from pipeline.evaluate import annotations


def test_vocs_lists_tell_several_classes_and_what_is_difficult(tmp_path):
    lists = [
        ("cat_test.txt", b"000001  1\n000002 -1\n000003  0\n"),
        ("dog_test.txt", b"000001  1\n000002  1\n000003 -1\n"),
        ("dog_train.txt", b"000009  1\n"),
    ]
    main = folder(tmp_path / "Main", lists)
    told = annotations.targets(evalset(tmp_path), str(main), "test")
    assert told.of("JPEGImages/000001.jpg") == {"cat": 1, "dog": 1}
    assert told.of("JPEGImages/000002.jpg") == {"dog": 1}
    assert told.of("JPEGImages/000003.jpg") == {"cat": -1}
    assert told.of("JPEGImages/000009.jpg") is None


def test_a_line_that_is_no_label_is_named(tmp_path):
    main = folder(tmp_path / "Main", [("cat_test.txt", b"000001 1\n000002 yes\n")])
    with pytest.raises(BadInput, match="line 2"):
        annotations.targets(evalset(tmp_path), str(main), "test")


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_table_tells_an_images_class_or_classes(tmp_path, form):
    path = tmp_path / f"labels.{form}"
    rows = [{"image": "a.jpg", "label": "cat"}, {"image": "a.jpg", "label": "dog"}]
    if form == "csv":
        path.write_text("image,label\na.jpg,cat\na.jpg,dog\n")
    elif form == "jsonl":
        path.write_text('{"image": "a.jpg", "label": ["cat", "dog"]}\n')
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    told = annotations.targets(evalset(tmp_path), str(path), "test")
    assert told.of("test/a.jpg") == {"cat": 1, "dog": 1}


def test_a_table_without_labels_is_refused(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image,colour\na.jpg,red\n")
    with pytest.raises(BadInput, match="labels need image and label"):
        annotations.targets(evalset(tmp_path), str(path), "test")


def test_a_file_name_that_two_images_have_is_not_guessed(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image,label\na.jpg,cat\n")
    told = annotations.targets(evalset(tmp_path), str(path), "test")
    assert told.of("one/a.jpg") == {"cat": 1}
    with pytest.raises(BadInput, match=r"`a\.jpg` .* could be one/a\.jpg or two/a\.jpg"):
        told.of("two/a.jpg")


def test_captions_of_a_table_name_images_by_file_or_by_number(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("image,caption\nx.jpg,one\nx.jpg,two\n42,three\n")
    told = annotations.captions_of(evalset(tmp_path, captions=str(path)), Counter())
    assert told.of("val/x.jpg") == ["one", "two"]
    assert told.of("COCO_val2014_000000000042.jpg") == ["three"]
    assert told.unused == 0


def test_captions_stand_on_the_lines_of_a_text_beside_the_image(tmp_path):
    members = [("0.jpg", png(1)), ("0.txt", b"one\ntwo\n"), ("1.jpg", png(2)), ("1.txt", b" \n")]
    tar(tmp_path / "a" / "test" / "0.tar", members)
    tar(tmp_path / "a" / "test" / "1.tar", [("0.jpg", png(3)), ("0.txt", b"three")])
    one = evalset(tmp_path / "a", format="webdataset")
    told = annotations.captions_of(one, Counter())
    assert told.of("test/0.tar/0.jpg") == ["one", "two"]
    assert told.of("test/1.tar/0.jpg") == ["three"]
    assert told.of("test/0.tar/1.jpg") is None


def test_captions_stand_in_a_column_beside_the_images(tmp_path):
    rows = [{"image": png(1), "caption": ["one", "two"]}, {"image": png(2), "caption": ["three"]}]
    path = tmp_path / "test.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    told = annotations.captions_of(evalset(path), Counter())
    assert told.of("test.parquet#0") == ["one", "two"]
    assert told.of("test.parquet#1") == ["three"]


def test_a_set_without_captions_is_refused(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("id,caption\n1,no image is told\n")
    unread = Counter()
    with pytest.raises(BadInput, match="holds no caption that tells its image"):
        annotations.captions_of(evalset(tmp_path, captions=str(path)), unread)
    assert unread["a caption of no image"] == 1
