"""The loop: it learns, stops when it must, and goes on as if it had never stopped."""

import json
import math
import pickle

import pytest
import torch
from checkpoint_files import vouched_for
from meters import Meter
from trainer_shards import COLOURS, jpeg, pairs, write_shards

from pipeline.errors import BadInput
from pipeline.settings import LoaderSettings, TrainSettings
from pipeline.tokenizer import Tokenizer, count_words, learn
from pipeline.trainer import (
    architectures,
    checkpoint,
    loop,
    model,
    optimizer,
    parallel,
    starting,
)
from pipeline.trainer.checkpoint import DamagedCheckpoint
from pipeline.trainer.feeding import normalised
from pipeline.trainer.pixels import centre_square
from pipeline.trainer.samples import Samples
from pipeline.trainer.sinks import METRICS

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = architectures.Architecture(16, 32, (1,), 64, 16, 64, 1, 32, learning_rate=1e-3)


@pytest.fixture(autouse=True)
def _small_model(monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "tiny", SMALL)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = write_shards(tmp_path_factory.mktemp("shards"), pairs(24))
    return Samples(folder, LoaderSettings(workers=0))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(learn(count_words(caption for _, _, caption in pairs(24)), 60))


def settings(**changes):
    fields = {
        "model": "tiny",
        "batch_size": 8,
        "epochs": 3.0,
        "warmup_steps": 2,
        "save_every_steps": 3,
        "log_every_steps": 2,
        "device": "cpu",
    }
    return TrainSettings(**(fields | changes))


def weights(folder):
    return checkpoint.load_model(checkpoint.latest(folder))[0].state_dict()


def steps_logged(folder):
    lines = (folder / METRICS).read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_the_learning_rate_rises_in_a_line_and_falls_in_a_cosine_to_nothing():
    rates = [optimizer.get_lr(step, steps=110, warmup=10, peak=1.0) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[110] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_gains_biases_and_the_logit_scale_are_not_decayed():
    built = model.build("tiny", 600, seed=0)
    built_for = optimizer.optimizer_of(built, SMALL, 0.2)
    names = {parameter: name for name, parameter in built.named_parameters()}
    decayed, kept = ({names[p] for p in group["params"]} for group in built_for.param_groups)
    assert decayed | kept == set(names.values())
    assert [group["weight_decay"] for group in built_for.param_groups] == [0.2, 0.0]
    assert "logit_scale" in kept
    assert all("ln_" not in name and not name.endswith("bias") for name in decayed)
    assert {"visual.conv1.weight", "visual.proj", "token_embedding.weight"} <= decayed


def test_resnets_and_vits_get_their_own_constants():
    resnet = optimizer.optimizer_of(torch.nn.Linear(2, 2), architectures.ARCHITECTURES["RN50"], 0.2)
    vit = optimizer.optimizer_of(
        torch.nn.Linear(2, 2), architectures.ARCHITECTURES["ViT-B/32"], 0.2
    )
    assert (resnet.defaults["betas"], resnet.defaults["eps"]) == ((0.9, 0.999), 1e-8)
    assert (vit.defaults["betas"], vit.defaults["eps"]) == ((0.9, 0.98), 1e-6)


def test_an_interrupted_training_ends_in_the_same_bits(tmp_path, samples, tokenizer):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    once = loop.train(whole, samples, tokenizer, settings(), Meter())
    for stop_after in (5, 8):
        with pytest.raises(KeyboardInterrupt):
            loop.train(broken, samples, tokenizer, settings(), Meter(stop_after))
    again = loop.train(broken, samples, tokenizer, settings(), Meter())
    expected, found = weights(whole), weights(broken)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert again.final_loss == once.final_loss
    assert steps_logged(broken) == steps_logged(whole) == [2, 4, 6, 8, 9]


def test_a_resumed_training_does_not_repeat_what_was_done(tmp_path, samples, tokenizer):
    with pytest.raises(KeyboardInterrupt):
        loop.train(tmp_path, samples, tokenizer, settings(), Meter(stop_after=8))
    (tmp_path / ".step_000000009").mkdir()
    assert checkpoint.latest(tmp_path).name == "step_000000006"
    meter = Meter()
    loop.train(tmp_path, samples, tokenizer, settings(), meter)
    assert meter.count == 9
    finished = loop.train(tmp_path, samples, tokenizer, settings(), Meter())
    assert finished.steps == 9
    assert math.isfinite(finished.final_loss)


def test_workers_do_not_change_what_is_learned(tmp_path, samples, tokenizer):
    for workers in (0, 3):
        folder = tmp_path / str(workers)
        folder.mkdir()
        those = Samples(samples.where, LoaderSettings(workers=workers))
        loop.train(folder, those, tokenizer, settings(epochs=1.0), Meter())
    first, second = weights(tmp_path / "0"), weights(tmp_path / "3")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_line_of_metrics_tells_all_that_is_watched(tmp_path, samples, tokenizer):
    loop.train(tmp_path, samples, tokenizer, settings(epochs=1.0), Meter())
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3]
    assert set(lines[0]) == {
        "step",
        "loss",
        "lr",
        "logit_scale",
        "grad_norm",
        "pairs_per_second",
        "mfu",
        "data_share",
        "peak_memory_bytes",
        "seconds",
    }
    assert all(line.pop("mfu") is None for line in lines)
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert 0 <= lines[0]["data_share"] <= 1


def test_the_newest_checkpoints_are_kept_and_older_ones_removed(tmp_path, samples, tokenizer):
    changes = settings(save_every_steps=2, keep_checkpoints=2)
    loop.train(tmp_path, samples, tokenizer, changes, Meter())
    names = sorted(path.name for path in tmp_path.glob("*step_*"))
    assert names == ["step_000000008", "step_000000009"]


def test_logits_are_never_scaled_by_more_than_a_hundred(tmp_path, samples, tokenizer, monkeypatch):
    built = model.build("tiny", tokenizer.vocabulary, 0)
    with torch.no_grad():
        built.logit_scale.fill_(9.0)
    monkeypatch.setattr(starting, "build", lambda *_, **__: built)
    loop.train(tmp_path, samples, tokenizer, settings(epochs=1.0), Meter())
    assert built.logit_scale.exp().item() <= 100.001


def test_a_loss_that_is_no_number_stops_before_the_update_and_names_its_pairs(
    tmp_path, samples, tokenizer, monkeypatch
):
    built = model.build("tiny", tokenizer.vocabulary, 0)
    with torch.no_grad():
        built.text_projection.fill_(math.inf)
    before = built.visual.proj.detach().clone()
    monkeypatch.setattr(starting, "build", lambda *_, **__: built)
    with pytest.raises(loop.NotFinite, match=r"step 0: the loss is nan.*learning_rate") as told:
        loop.train(tmp_path, samples, tokenizer, settings(), Meter())
    noted = json.loads((tmp_path / "not_finite.json").read_text())
    assert noted["step"] == 0
    assert len(noted["pair_ids"]) == 8
    assert noted["pair_ids"][0] in str(told.value)
    assert torch.equal(built.visual.proj, before)


def test_a_device_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    assert parallel.device_of("auto").type == "cpu"
    with pytest.raises(BadInput, match="`cuda` was asked for"):
        parallel.device_of("cuda")


@pytest.fixture
def trained(tmp_path, samples, tokenizer):
    loop.train(tmp_path, samples, tokenizer, settings(epochs=1.0), Meter())
    return checkpoint.latest(tmp_path)


def test_a_checkpoint_gives_back_its_model_and_says_what_it_is(trained, tokenizer):
    built, state = checkpoint.load_model(trained)
    assert (state.step, state.model, state.samples) == (3, "tiny", 24)
    assert state.tokenizer == tokenizer.digest
    assert built.token_embedding.num_embeddings == tokenizer.vocabulary


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "pickle"])
def test_a_damaged_checkpoint_is_refused_and_named(trained, name, damage):
    file = trained / name
    data = file.read_bytes()
    middle = len(data) // 2
    damaged = {
        "cut": data[:middle],
        "flip": data[:20] + bytes([data[20] ^ 255]) + data[21:],
        "gone": b"",
        "pickle": pickle.dumps({"step": 3}),
    }
    file.write_bytes(damaged[damage])
    if damage == "gone":
        file.unlink()
    with pytest.raises(DamagedCheckpoint, match="cannot be used") as told:
        checkpoint.load_model(trained)
    assert str(trained) in str(told.value)
    assert "\n" not in str(told.value)


def test_another_model_s_weights_are_refused(trained):
    vouched_for(trained, vocabulary=999)
    with pytest.raises(DamagedCheckpoint, match=r"another model's weights.*token_embedding"):
        checkpoint.load_model(trained)


@pytest.mark.parametrize("changes", [{"step": "3"}, {"model": ["tiny"]}, {"vocabulary": None}])
def test_a_state_of_the_wrong_kind_is_refused(trained, changes):
    vouched_for(trained, **changes)
    with pytest.raises(DamagedCheckpoint) as told:
        checkpoint.load_model(trained)
    assert "\n" not in str(told.value)


def test_a_state_that_claims_a_giant_model_is_refused_before_memory_is_taken(trained):
    vouched_for(trained, vocabulary=10**12)
    with pytest.raises(DamagedCheckpoint, match="another model's weights"):
        checkpoint.load_model(trained)


def test_weights_that_are_no_safetensors_are_refused_though_vouched_for(trained):
    (trained / "model.safetensors").write_bytes(pickle.dumps([1, 2, 3]))
    vouched_for(trained)
    with pytest.raises(DamagedCheckpoint, match=r"model\.safetensors"):
        checkpoint.load_model(trained)


def test_training_does_not_go_on_from_another_training(trained, samples, tokenizer):
    other = settings(epochs=1.0, learning_rate=0.1)
    with pytest.raises(BadInput, match=r"learning_rate was None and is 0\.1.*--again"):
        loop.train(trained.parent, samples, tokenizer, other, Meter())
    with pytest.raises(BadInput, match="tokenizer was"):
        loop.train(trained.parent, samples, Tokenizer([]), settings(epochs=1.0), Meter())


CLASSES = [(colour, side) for colour in COLOURS for side in ("left", "right")]


def test_a_small_model_learns_which_colour_is_on_which_side(tmp_path, monkeypatch):
    deeper = architectures.Architecture(16, 32, (3,), 64, 8, 64, 2, 32, learning_rate=1e-3)
    monkeypatch.setitem(architectures.ARCHITECTURES, "tiny", deeper)
    drawn = []
    for n in range(64):
        colour, side = CLASSES[n % 8]
        image = jpeg(colour, side, (64, 64), noise=n)
        drawn.append((f"{n:032x}", image, f"a {colour} thing on the {side}"))
    samples = Samples(write_shards(tmp_path / "shards", drawn))
    tokenizer = Tokenizer(learn(count_words(caption for _, _, caption in drawn), 100))
    told = settings(batch_size=16, epochs=60.0, warmup_steps=20, save_every_steps=1000)
    loop.train(tmp_path, samples, tokenizer, told, Meter())
    built, _ = checkpoint.load_model(checkpoint.latest(tmp_path))
    fresh = model.build("tiny", tokenizer.vocabulary, 0)
    assert _accuracy(built.eval(), tokenizer) >= 0.9
    assert _accuracy(fresh.eval(), tokenizer) <= 0.5


def _accuracy(built, tokenizer):
    """On new drawings of the eight classes; chance is an eighth."""
    prompts = [f"a {colour} thing on the {side}" for colour, side in CLASSES]
    squares = [
        torch.from_numpy(centre_square(jpeg(colour, side, (64, 64), 1000 + n), 32).copy())
        for colour, side in CLASSES
        for n in range(3)
    ]
    with torch.inference_mode():
        image = built.encode_image(normalised(torch.stack(squares), torch.device("cpu")))
        text = built.encode_text(torch.from_numpy(tokenizer.encode_batch(prompts, 32)))
        text = torch.nn.functional.normalize(text, dim=-1)
    right = (image @ text.T).argmax(dim=1) == torch.arange(8).repeat_interleave(3)
    return right.float().mean().item()
