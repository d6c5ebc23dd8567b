"""jobs.train_filter, pipeline.ingest.training"""

import json
import random
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.__main__ import app
from pipeline.errors import BadInput
from pipeline.ingest import training
from pipeline.ingest.model import Model
from pipeline.ingest.training import train

_COLOURS = ["red", "blue", "green", "grey"]
_THINGS = ["circle", "star", "square", "dog", "boat"]


def _captions() -> list[tuple[str, str]]:
    """Captions and labels: what is for sale is bad, and what is seen is good."""
    rng = random.Random(3)
    rows = []
    for number in range(150):
        what = f"{rng.choice(_COLOURS)} {rng.choice(_THINGS)}"
        rows.append((f"A {what}, lying in the grass no. {number}", "good"))
        rows.append((f"Buy {what} now! Item {number}", "bad"))
    return rows


def _lines(folder: Path, rows: list[tuple[str, str]], name: str = "labels.txt") -> str:
    path = folder / name
    path.write_text("".join(f"__label__{label} {caption}\n" for caption, label in rows))
    return str(path)


def test_a_model_tells_captions_like_the_labelled_ones(tmp_path: Path) -> None:
    out = tmp_path / "model.bin"
    report = train(_lines(tmp_path, _captions()), str(out))
    assert report.trained + report.held_out == 300
    assert [(line.label, line.recall, line.precision) for line in report.lines] == [
        ("bad", 1.0, 1.0),
        ("good", 1.0, 1.0),
    ]
    scores = Model.load(str(out)).scores(pa.array(["buy a red dog now", "a dog lying"]), "good")
    assert scores[0] < 0.5 < scores[1]


def test_fasttext_reads_the_model_and_says_the_same_to_the_bit(tmp_path: Path) -> None:
    out = str(tmp_path / "model.bin")
    train(_lines(tmp_path, _captions()), out)
    ours, theirs = Model.load(out), fasttext.load_model(out)
    texts = ["a red dog in the grass", "buy now", "", "unknown words", "buy buy buy a boat"]
    for label in ours.labels:
        scores = ours.scores(pa.array(texts), label)
        for text, score in zip(texts, scores, strict=True):
            labels, told = theirs.predict(text, k=-1)
            expected = dict(zip(labels, told, strict=True)).get(f"__label__{label}", 0.0)
            assert score == min(np.float32(expected), 1)


def test_the_order_of_the_captions_changes_no_byte_and_the_seed_does(tmp_path: Path) -> None:
    rows = _captions()
    models = []
    for number, (order, seed) in enumerate([(rows, 0), (rows[::-1], 0), (rows, 1)]):
        out = tmp_path / f"{number}.bin"
        train(_lines(tmp_path, order), str(out), seed)
        models.append(out.read_bytes())
    assert models[0] == models[1] != models[2]


def test_a_table_is_read_as_the_lines_are(tmp_path: Path) -> None:
    rows = _captions()
    captions, labels = zip(*rows, strict=True)
    table = pa.table({"id": np.arange(len(rows)), "label": labels, "caption": captions})
    pq.write_table(table, tmp_path / "t.parquet")
    quoted = "".join(f'{label},"{caption}"\n' for caption, label in rows)
    (tmp_path / "t.csv").write_text("label,caption\n" + quoted)
    tabbed = "".join(f"{label}\t{caption}\n" for caption, label in rows)
    (tmp_path / "t.tsv").write_text("label\tcaption\n" + tabbed)
    objects = "\n".join(json.dumps({"caption": c, "label": label}) for c, label in rows)
    (tmp_path / "t.jsonl").write_text(objects)
    _lines(tmp_path, rows, "t.txt")
    models = set()
    for name in ("t.parquet", "t.csv", "t.tsv", "t.jsonl", "t.txt"):
        train(str(tmp_path / name), str(tmp_path / "model.bin"))
        models.add((tmp_path / "model.bin").read_bytes())
    assert len(models) == 1


def test_rows_that_cannot_be_learnt_from_are_counted(tmp_path: Path) -> None:
    path = Path(_lines(tmp_path, _captions()))
    more = "no label at all\n__label__good\n__label__good ...\n__label__ nothing\n\n"
    first = _captions()[0][0]
    twice = f"__label__good {first}!\n__label__good a cat\n__label__bad A cat\n__label__bad a CAT\n"
    path.write_bytes((path.read_text() + more + twice).encode() + b"__label__bad \xff\x00\n")
    report = train(str(path), str(tmp_path / "model.bin"))
    assert report.dropped == {"duplicate": 1, "no label": 2, "no words": 3, "two labels": 3}
    assert report.trained + report.held_out == 300


def test_labels_are_kept_as_far_as_fasttext_can_hold_them(tmp_path: Path) -> None:
    odd = {"good": "so\x00 so", "bad": "cut \ud83d"}
    rows = [{"caption": caption, "label": odd[label]} for caption, label in _captions()]
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = train(str(tmp_path / "l.jsonl"), str(tmp_path / "model.bin"))
    assert [(line.label, line.recall) for line in report.lines] == [
        ("cut-\ufffd", 1.0),
        ("so-so", 1.0),
    ]


def test_a_line_with_two_labels_teaches_neither(tmp_path: Path) -> None:
    path = Path(_lines(tmp_path, _captions()))
    path.write_text(path.read_text() + "__label__good __label__bad a boat\n__label__good A boat!\n")
    assert train(str(path), str(tmp_path / "model.bin")).dropped == {"two labels": 3}


def test_a_model_of_which_fasttext_says_something_else_is_refused(tmp_path: Path) -> None:
    for seed in (0, 1):
        train(_lines(tmp_path, _captions()), str(tmp_path / f"{seed}.bin"), seed)
    texts = ["a red dog", "buy now"]
    model = Model.load(str(tmp_path / "0.bin"))
    best, scores = model.best(pa.array(texts))
    told = [model.labels[place] for place in best]
    training._prove(str(tmp_path / "0.bin"), texts, told, scores)
    with pytest.raises(BadInput, match=r"scores 'a red dog' otherwise .*fasttext-predict"):
        training._prove(str(tmp_path / "1.bin"), texts, told, scores)
    (tmp_path / "0.bin").write_bytes(b"no model")
    with pytest.raises(BadInput, match=r"does not read the model .*fasttext-predict"):
        training._prove(str(tmp_path / "0.bin"), texts, told, scores)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("l.txt", b"", "has no labelled caption"),
        ("l.txt", b"__label__good a red circle\n" * 9, "has the label 'good' alone"),
        ("l.txt", b"__label__a one\n__label__b two\n", "has 1 captions labelled 'a': label at"),
        ("l.csv", b"text,label\na,b\n", "no column caption .it has text, label"),
        ("l.jsonl", b'{"caption": "a"}\n', "no column label"),
        ("l.jsonl", b"[" * 100_000, "line 1 is no object"),
        ("l.jsonl", b"{", "cannot be read"),
        ("l.csv", b'caption,label\n"' + b"x" * 200_000, "cannot be read"),
        ("l.parquet", b"PAR1", "cannot be read"),
    ],
)
def test_labels_that_cannot_be_used_are_named(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput, match=rf"--labels .*{name}.* ?{told}"):
        train(str(path), str(tmp_path / "model.bin"))
    assert not (tmp_path / "model.bin").exists()


def test_a_file_that_cannot_be_written_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--out .*nowhere"):
        train(_lines(tmp_path, _captions()), str(tmp_path / "nowhere" / "model.bin"))


def test_the_command_tells_how_well_each_label_is_found(tmp_path: Path) -> None:
    labels, out = _lines(tmp_path, _captions()), tmp_path / "model.bin"
    told = CliRunner().invoke(app, ["train-filter", "--labels", labels, "--out", str(out)])
    assert "good: precision 1.000, recall 1.000" in told.output
    assert out.exists()
