"""The scores of somebody's weights, without a run: files, page, and the way back to the audit."""

import json

import eval_files
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import save_file
from trainer_shards import COLOURS, jpeg

from jobs import evaluate_weights
from pipeline.audit import predictions
from pipeline.errors import BadInput
from pipeline.schemas import AUDIT
from pipeline.tokenizer import Tokenizer
from pipeline.trainer.model import build

_SETTINGS = """
[evaluate]
batch_size = 5
probe_halvings = 2

[[evaluate.robustness]]
reference = "things"
shifted = ["shifted"]
baselines = "{root}/others.csv"

[[evalsets]]
name = "things"
path = "{root}/things"
train_split = "train"

[[evalsets]]
name = "shifted"
path = "{root}/shifted"
"""


@pytest.fixture
def theirs(tmp_path, one_thread):
    """A folder with evaluation sets, baselines, weights and their vocabulary."""
    for name, colours, splits in (
        ("things", list(COLOURS), ("test", "train")),
        ("shifted", ["red", "blue"], ("test",)),
    ):
        for split in splits:
            noise = 100 * len(split) + len(name)
            images = [
                (f"{split}/{colour}/{n}.jpg", jpeg(colour, "left", noise=noise + n))
                for colour in colours
                for n in range(5)
            ]
            eval_files.folder(tmp_path / name, images)
    rows = "\n".join(f"m{n},0.{n}5,0.{n}1" for n in range(1, 9))
    (tmp_path / "others.csv").write_text(f"model,reference,shifted\n{rows}\n")
    (tmp_path / "evals.toml").write_text(_SETTINGS.format(root=tmp_path))
    Tokenizer([("a", "n")]).save(tmp_path / "theirs.txt.gz")
    save_file(dict(build("tiny", 515, seed=0).state_dict()), tmp_path / "w-quickgelu.safetensors")
    return tmp_path


def evaluated(root, *, audit=None, vocabulary="theirs.txt.gz"):
    file = None if vocabulary is None else root / vocabulary
    evaluate_weights.main(
        root / "w-quickgelu.safetensors", file, root / "evals.toml", root / "out", audit
    )
    return json.loads((root / "out" / "scores.json").read_text())


def audited(root, names):
    folder = root / "audit"
    folder.mkdir()
    row = {"pair_id": "p", "variant": "original", "phash_distance": 0, "pdq_distance": 0}
    row |= {"source": "things", "verdict": "overlap", "removed": False}
    rows = [row | {"eval_id": name} for name in names]
    pq.write_table(pa.Table.from_pylist(rows, AUDIT), folder / "overlaps.parquet")
    return folder


def test_weights_are_scored_on_all_clean_and_overlap_in_one_command(theirs):
    overlaps = ["test/red/0.jpg", "test/red/1.jpg", "test/blue/0.jpg"]
    told = evaluated(theirs, audit=audited(theirs, overlaps))
    for way in ("zero_shot", "linear_probe"):
        found = told["sets"]["things"][way]
        assert [found[part]["images"] for part in ("all", "clean", "overlap")] == [20, 17, 3]
        assert 0 <= found["p_value"] <= 1
        assert found["level"] == 0.05 / 2
    assert told["sets"]["shifted"]["zero_shot"]["p_value"] is None
    assert told["tests"] == 2
    page = (theirs / "out" / "report.html").read_text()
    assert "linear probe, accuracy" in page
    assert "3 overlap" in page


def test_predictions_are_what_the_audit_reads(theirs):
    told = evaluated(theirs, audit=audited(theirs, ["test/red/0.jpg"]))
    file = theirs / "out" / "predictions.parquet"
    names = {
        "things": {f"test/{c}/{n}.jpg" for c in COLOURS for n in range(5)},
        "shifted": {f"test/{c}/{n}.jpg" for c in ("red", "blue") for n in range(5)},
    }
    read = predictions.read([str(file)], names)
    assert (read.rows, read.refused) == (50, {})
    for way in ("zero_shot", "linear_probe"):
        answers = read.right[way, "things"]
        share = sum(answers.values()) / len(answers)
        assert share == told["sets"]["things"][way]["all"]["accuracy"]
    rows = pq.read_table(file).to_pylist()
    assert {row["eval_id"] for row in rows if row["overlap"]} == {"test/red/0.jpg"}
    assert all(row["correct"] == (row["prediction"] == row["label"]) for row in rows)


def test_a_shifted_set_of_fewer_classes_is_compared_with_the_reference_s_images_of_those(theirs):
    told = evaluated(theirs)["robustness"][0]
    mean = told["mean"]
    assert mean["line"]["slope"] == pytest.approx(1.0, abs=0.2)
    assert mean["gap"] == pytest.approx(mean["reference_accuracy"] - mean["shifted_accuracy"])
    # Of ten images of two classes, told apart among those two.
    assert (mean["reference_accuracy"] * 10) % 1 == pytest.approx(0)
    assert "<svg" in (theirs / "out" / "report.html").read_text()


def test_robustness_names_sets_that_are_scored(theirs):
    file = theirs / "evals.toml"
    file.write_text(file.read_text().replace('shifted = ["shifted"]', 'shifted = ["other"]'))
    with pytest.raises(BadInput, match="other is not among the scored evaluation sets"):
        evaluated(theirs)


def test_weights_need_the_vocabulary_that_they_were_trained_with(theirs):
    with pytest.raises(BadInput, match=r"needs --vocabulary FILE"):
        evaluated(theirs, vocabulary=None)
    Tokenizer([]).save(theirs / "short.txt.gz")
    with pytest.raises(BadInput, match=r"has 514 tokens, and .* 515"):
        evaluated(theirs, vocabulary="short.txt.gz")


def test_a_folder_that_no_audit_wrote_is_refused(theirs):
    with pytest.raises(BadInput, match=r"holds no overlaps\.parquet"):
        evaluated(theirs, audit=theirs / "things")


def test_without_an_audit_scores_and_page_say_so_and_call_no_image_clean(theirs):
    found = evaluated(theirs)["sets"]["things"]["zero_shot"]
    assert found["note"] == "no audit tells which of its images the corpus holds"
    assert found["clean"]["images"] == 0
    page = (theirs / "out" / "report.html").read_text()
    assert "no audit tells which of its images" in page
    assert "as far as hashes tell" not in page
    rows = pq.read_table(theirs / "out" / "predictions.parquet").column("overlap")
    assert rows.null_count == len(rows)


def test_of_a_set_that_the_audit_did_not_look_for_nothing_is_claimed(theirs):
    folder = audited(theirs, [])
    (folder / "summary.json").write_text('{"sets": [{"evalset": "things"}]}')
    sets = evaluated(theirs, audit=folder)["sets"]
    assert "as far as hashes tell" in sets["things"]["zero_shot"]["note"]
    assert sets["shifted"]["zero_shot"]["note"].startswith("no audit tells")


def test_an_audit_that_calls_the_images_otherwise_is_told_of(theirs):
    told = evaluated(theirs, audit=audited(theirs, ["red/0.jpg"]))
    assert told["sets"]["things"]["overlaps_of_no_image"] == 1
    page = (theirs / "out" / "report.html").read_text()
    assert "1 overlaps of the audit are of no image that was scored" in page
