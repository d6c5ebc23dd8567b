"""The jobs train and evaluate, from shards to scores, without Spark."""

import json

import eval_files
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from trainer_shards import COLOURS, jpeg, pairs, shard_stage, vocabulary_stage

from jobs import evaluate, train, train_tokenizer, walk
from jobs.ledger import Ledger
from jobs.run import Run
from pipeline import tokenizer
from pipeline.errors import BadInput, MissingTable
from pipeline.schemas import AUDIT
from pipeline.settings import EvalSet, EvaluateSettings, Settings, TrainSettings
from pipeline.trainer import architectures, checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _small_model(monkeypatch):
    small = architectures.Architecture(16, 32, (1,), 64, 16, 64, 1, 32, learning_rate=1e-3)
    monkeypatch.setitem(architectures.ARCHITECTURES, "tiny", small)


@pytest.fixture
def run(tmp_path):
    images = [(f"{c}/{n}.jpg", jpeg(c, "left", noise=n)) for c in COLOURS for n in range(2)]
    eval_files.folder(tmp_path / "set" / "test", [*images, ("red/broken.jpg", b"")])
    settings = Settings(
        train=TrainSettings(
            model="tiny", batch_size=8, epochs=2.0, warmup_steps=1, save_every_steps=2, merges=20
        ),
        evaluate=EvaluateSettings(batch_size=4),
        evalsets=[
            EvalSet(name="things", path=str(tmp_path / "set")),
            EvalSet(name="only_audited", path="/nowhere", scored=False),
        ],
    )
    run = Run(tmp_path / "run", settings)
    shard_stage(run, pairs(24))
    return run


def audited(run, rows):
    columns = ("source", "eval_id", "verdict", "removed")
    full = [
        {"pair_id": "p", "variant": "original", "phash_distance": 0, "pdq_distance": 0}
        | dict(zip(columns, row, strict=True))
        for row in rows
    ]
    with run.stage("audit", {}, {}):
        folder = run.begin("audit")
        pq.write_table(pa.Table.from_pylist(full, AUDIT), folder / "part-0.parquet")
        run.finish("audit", Ledger(len(rows), len(rows)))


def trained(run):
    if run.find_manifest("vocabulary") is None:
        vocabulary_stage(run, 20)
    with run.stage("train", {}, {}):
        train.main(run)
    return run.path("checkpoints")


def evaluated(run):
    with run.stage("evaluate", {}, {}):
        evaluate.main(run)
    return json.loads((run.path("scores") / "scores.json").read_text())


def test_training_leaves_a_vocabulary_a_checkpoint_and_an_account(run):
    folder = trained(run)
    manifest = run.manifest("checkpoints")
    assert (manifest["rows_in"], manifest["rows"]) == (24, 24)
    assert manifest["notes"]["steps"] == 6
    assert manifest["notes"]["final_loss"] > 0
    assert checkpoint.latest(folder).name == "step_000000006"
    assert len(tokenizer.load(folder / train.VOCABULARY).merges) == 20
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1


def test_neither_job_starts_spark(run):
    trained(run)
    audited(run, [])
    evaluated(run)
    assert "spark" not in run.__dict__


def test_an_interrupted_job_goes_on_and_ends_in_the_same_bits(run, monkeypatch):
    folder = trained(run)
    whole = checkpoint.load_model(checkpoint.latest(folder))[0].state_dict()
    (folder / "_manifest.json").unlink()
    real = checkpoint.save

    def killed(place, built, optimizer, chance, state, keep, keep_every):
        real(place, built, optimizer, chance, state, keep, keep_every)
        if state.step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(run)
    assert run.find_manifest("checkpoints") is None
    monkeypatch.setattr(checkpoint, "save", real)
    trained(run)
    steps = [state.step for state in map(checkpoint.read_state, sorted(folder.glob("step_*")))]
    assert steps == [2, 4, 6]
    again = checkpoint.load_model(checkpoint.latest(folder))[0].state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def with_train_settings(run, **changes):
    train_settings = run.settings.train.model_copy(update=changes)
    run.settings = run.settings.model_copy(update={"train": train_settings})
    return run


def vocabulary_of(run):
    with run.stage("train-tokenizer", {}, {}):
        train_tokenizer.main(run)
    return tokenizer.load(run.path("vocabulary") / tokenizer.VOCABULARY)


def test_a_vocabulary_that_is_given_is_taken_up_to_its_merges_without_spark(run, tmp_path):
    given = tokenizer.Tokenizer([("t", "h"), ("th", "e</w>"), ("a", "n")])
    given.save(tmp_path / "given.txt.gz")
    path = str(tmp_path / "given.txt.gz")
    with_train_settings(run, vocabulary=path, merges=2)
    assert vocabulary_of(run).merges == given.merges[:2]
    assert "short" not in run.manifest("vocabulary")["notes"]
    assert "spark" not in run.__dict__
    folder = trained(run)
    assert tokenizer.load(folder / train.VOCABULARY).merges == given.merges[:2]
    with_train_settings(run, merges=9)
    assert vocabulary_of(run).merges == given.merges
    assert "only 3 of 9 merges" in run.manifest("vocabulary")["notes"]["short"]


def test_a_given_file_that_is_no_vocabulary_leaves_the_old_one_alone(run, tmp_path):
    trained(run)
    (tmp_path / "given.txt.gz").write_bytes(b"no gzip")
    with_train_settings(run, vocabulary=str(tmp_path / "given.txt.gz"))
    with pytest.raises(BadInput, match="not a gzipped merges file"):
        vocabulary_of(run)
    assert run.find_manifest("vocabulary") is not None


def test_shards_of_others_without_captions_in_parquet_need_a_vocabulary(run, tmp_path):
    with_train_settings(run, shards=str(tmp_path))
    with pytest.raises(BadInput, match=r"name a merges file in train\.vocabulary"):
        vocabulary_of(run)


def test_only_overlaps_that_stayed_in_the_corpus_are_scored_apart(run):
    trained(run)
    audited(
        run,
        [
            ("things", "test/red/0.jpg", "overlap", False),
            ("things", "test/red/0.jpg", "overlap", False),
            ("things", "test/red/1.jpg", "overlap", True),
            ("things", "test/blue/0.jpg", "candidate", False),
            ("other", "test/blue/1.jpg", "overlap", False),
        ],
    )
    scores = evaluated(run)
    assert (scores["checkpoint"], scores["step"]) == ("step_000000006", 6)
    assert list(scores["sets"]) == ["things"]
    zero_shot = scores["sets"]["things"]["zero_shot"]
    assert (zero_shot["overlap"]["images"], zero_shot["clean"]["images"]) == (1, 7)


def test_the_account_of_the_scores_adds_up_with_what_could_not_be_read(run):
    trained(run)
    audited(run, [])
    evaluated(run)
    manifest = run.manifest("scores")
    assert (manifest["rows_in"], manifest["rows"], manifest["dropped"]) == (
        9,
        8,
        {"undecodable": 1},
    )
    assert manifest["notes"]["things"]["chance"] == 0.25


def test_without_a_checkpoint_the_next_step_is_named(run):
    run.path("checkpoints").mkdir(parents=True)
    with pytest.raises(MissingTable, match="run `wit train"):
        evaluated(run)


def test_another_vocabulary_than_the_model_s_is_refused(run):
    folder = trained(run)
    audited(run, [])
    tokenizer.Tokenizer([]).save(folder / train.VOCABULARY)
    with pytest.raises(BadInput, match="is not the vocabulary"):
        evaluated(run)


def test_an_older_checkpoint_is_evaluated_when_it_is_named(run):
    trained(run)
    audited(run, [])
    chosen = run.settings.evaluate.model_copy(update={"checkpoint": "step_000000002"})
    run.settings = run.settings.model_copy(update={"evaluate": chosen})
    assert evaluated(run)["step"] == 2
    other = chosen.model_copy(update={"checkpoint": "step_000000003"})
    run.settings = run.settings.model_copy(update={"evaluate": other})
    with pytest.raises(BadInput, match=r"no checkpoint `step_000000003`.* step_000000002, step_"):
        evaluated(run)


def test_a_model_of_shards_from_elsewhere_is_scored_without_an_audit(run):
    trained(run)
    with_train_settings(run, shards=str(run.path("shards")))
    told = evaluated(run)["sets"]["things"]["zero_shot"]
    assert told["note"].startswith("no audit tells")
    assert (told["all"]["images"], told["clean"]["images"]) == (8, 0)
    stage = walk.stage_of("evaluate")
    assert stage.tables(run.settings) == ("checkpoints",)
