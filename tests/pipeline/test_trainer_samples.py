"""Shards to batches: nothing lost, nothing twice, the same however it is read."""

import io
import json
import tarfile
from itertools import chain

import numpy as np
import pytest
import torch
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from trainer_shards import pairs, write_shards

from pipeline.errors import BadInput
from pipeline.trainer.order import batch_at, permuted, uniform
from pipeline.trainer.pixels import Undecodable, centre_square, normalised, random_square
from pipeline.trainer.samples import Batches, Samples
from pipeline.trainer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards"), pairs(24))


def batches_of(folder, batch_size=6, seed=0):
    return Batches(Samples(folder), Tokenizer([]), batch_size, side=32, context=32, seed=seed)


def same(first, second):
    return (
        (first.step, first.pair_ids, first.undecodable)
        == (second.step, second.pair_ids, second.undecodable)
        and torch.equal(first.image_BHWC, second.image_BHWC)
        and torch.equal(first.tokens_BL, second.tokens_BL)
    )


@given(st.integers(1, 500), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_is_a_permutation(samples, seed, epoch):
    order = permuted(np.arange(samples), samples, seed, epoch)
    assert sorted(order.tolist()) == list(range(samples))


def test_orders_differ_between_epochs_and_between_seeds():
    first, *others = (permuted(np.arange(99), 99, s, e) for s, e in [(0, 0), (0, 1), (1, 0)])
    assert all((first != other).mean() > 0.9 for other in others)


def test_an_order_mixes_neighbours_evenly():
    positions = np.arange(10_000)
    order = permuted(positions, 10_000, 0, 0)
    assert abs(np.corrcoef(positions, order)[0, 1]) < 0.03
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.03


def test_draws_are_spread_over_zero_to_one():
    draws = np.array([uniform(0, 0, i) for i in range(2000)])
    assert 0 <= draws.min() < 0.01
    assert 0.99 < draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.03


def test_every_sample_comes_once_in_an_epoch_and_the_next_epoch_brings_all_again(shards):
    batches = batches_of(shards)
    keys = sorted(key for key, _, _ in pairs(24))
    for epoch in (range(4), range(4, 8)):
        found = sorted(chain.from_iterable(batches.at(step).pair_ids for step in epoch))
        assert found == keys


def test_the_rest_that_fills_no_batch_is_left_out_and_no_sample_comes_twice():
    found = np.concatenate([batch_at(step, 5, 24, seed=0)[1] for step in range(4)])
    assert len(set(found.tolist())) == 20
    assert batch_at(4, 5, 24, seed=0)[0] == 1


def test_batches_are_equal_for_any_number_of_workers(shards):
    batches = batches_of(shards)
    alone = list(batches.between(0, 6, workers=0))
    for workers in (1, 3):
        together = list(batches.between(0, 6, workers))
        assert len(together) == 6
        assert all(same(a, b) for a, b in zip(alone, together, strict=True))


def test_batches_are_equal_when_begun_in_the_middle(shards):
    whole = list(batches_of(shards).between(0, 6, workers=2))
    resumed = list(batches_of(shards).between(4, 6, workers=2))
    assert all(same(a, b) for a, b in zip(whole[4:], resumed, strict=True))


def test_no_batches_are_made_between_a_step_and_itself(shards):
    assert list(batches_of(shards).between(3, 3, workers=2)) == []


def test_another_seed_gives_other_batches(shards):
    first, other = batches_of(shards).at(0), batches_of(shards, seed=1).at(0)
    assert first.pair_ids != other.pair_ids


def test_a_caption_stays_with_its_image(shards):
    captions = {key: caption for key, _, caption in pairs(24)}
    tokenizer = Tokenizer([])
    batch = batches_of(shards).at(2)
    for key, tokens in zip(batch.pair_ids, batch.tokens_BL.tolist(), strict=True):
        assert tokenizer.decode(tokens) == tokenizer.decode(
            tokenizer.encode_batch([captions[key]], 32)[0]
        )


def test_webdataset_sees_the_same_samples(shards):
    theirs = webdataset.WebDataset(
        [str(path) for path in sorted(shards.glob("*.tar"))], shardshuffle=False
    )
    ours = Samples(shards)
    found = [(s["__key__"], s["jpg"], s["txt"].decode()) for s in theirs]
    assert found == [(s.pair_id, s.image, s.caption) for s in (ours[i] for i in range(len(ours)))]


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_webdataset_of_another_maker_is_read_without_an_index(tmp_path, kind):
    long = "folder/" + "k" * 120
    with tarfile.open(tmp_path / "a.tar", "w", format=kind) as tar:
        for key, body in (("folder/a", b"1"), (long, b"22"), ("ü/b", b"333")):
            for suffix in ("jpg", "txt"):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size, member.mtime = len(body), 1.5
                tar.addfile(member, io.BytesIO(body))
    samples = Samples(tmp_path)
    found = [(samples[i].pair_id, samples[i].caption) for i in range(len(samples))]
    assert found == [("folder/a", "1"), (long, "22"), ("ü/b", "333")]


def _flip(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[: len(data) // 2], "damaged at byte"),
        (lambda data: _flip(data, 3), "damaged at byte 0: no tar header"),
        (lambda data: _flip(data, 130), "damaged at byte 0"),
        (lambda _: b"x" * 100, "damaged at byte 0: the archive ends in the middle"),
        (lambda _: b"", "is empty"),
        (lambda data: data.replace(b".txt\0", b".tx\0\0"), "damaged"),
    ],
)
def test_a_damaged_shard_is_refused_and_named(tmp_path, damage, says):
    write_shards(tmp_path, pairs(3), index=False)
    path = tmp_path / "000000.tar"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadInput, match=says) as told:
        Samples(tmp_path)
    assert str(path) in str(told.value)


def test_a_member_that_claims_more_than_the_archive_holds_is_refused(tmp_path):
    member = tarfile.TarInfo("a.jpg")
    member.size = 10**9
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    with pytest.raises(BadInput, match="a member longer than the archive"):
        Samples(tmp_path)


def test_a_link_in_a_shard_is_refused(tmp_path):
    member = tarfile.TarInfo("a.jpg")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    with pytest.raises(BadInput, match="where only files belong"):
        Samples(tmp_path)


def test_a_sample_without_a_caption_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("k.jpg"), io.BytesIO())
    with pytest.raises(BadInput, match=r"sample `k` has no \.txt"):
        Samples(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bytes": 7}, r"bytes long, but index\.json promises 7 bytes"),
        ({"samples": 5}, r"holds 3 samples, but index\.json promises 5"),
        ({"name": "../000000.tar"}, "which is no tar beside it"),
        ({"name": "000009.tar"}, "is missing, but"),
        ({"name": None}, "no tar beside it"),
        ({"bytes": "many"}, "is not an index of shards"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_refused(tmp_path, change, says):
    write_shards(tmp_path, pairs(3))
    index = json.loads((tmp_path / "index.json").read_text())
    index["shards"][0].update(change)
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput, match=says):
        Samples(tmp_path)


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(BadInput, match="holds no tar"):
        Samples(tmp_path)


def test_a_batch_larger_than_the_data_is_refused_with_both_numbers(shards):
    with pytest.raises(BadInput, match=r"24 samples do not fill one batch of 32: lower"):
        batches_of(shards, batch_size=32)


def test_an_undecodable_image_is_replaced_by_the_next_sample_and_told(tmp_path):
    samples = pairs(6)
    samples[2] = (samples[2][0], samples[2][1][:300], samples[2][2])
    write_shards(tmp_path, samples)
    batches = batches_of(tmp_path)
    found = list(batches.between(0, 2, workers=2))
    for batch in found:
        assert batch.undecodable == [samples[2][0]]
        assert batch.pair_ids.count(samples[3][0]) == 2
        assert samples[2][0] not in batch.pair_ids
    assert all(same(batch, batches.at(batch.step)) for batch in found)


def test_shards_without_any_image_are_refused(tmp_path):
    write_shards(tmp_path, [(key, b"no image", caption) for key, _, caption in pairs(6)])
    with pytest.raises(BadInput, match="these shards hold no images"):
        list(batches_of(tmp_path).between(0, 1, workers=2))


def _encoded(image, kind="PNG"):
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def test_a_random_square_moves_along_the_longer_side_from_end_to_end():
    pixels = np.zeros((32, 96, 3), np.uint8)
    pixels[:, :, 0] = np.arange(96)
    data = _encoded(Image.fromarray(pixels))
    assert random_square(data, 32, 0.0)[0, :, 0].tolist() == list(range(32))
    assert random_square(data, 32, 0.9999)[0, :, 0].tolist() == list(range(64, 96))


@pytest.mark.parametrize("size", [(32, 32), (300, 200), (20, 500), (1, 1), (33, 32)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_any_size_of_image_becomes_the_square_that_was_asked_for(size, kind):
    data = _encoded(Image.new("RGB", size, (200, 100, 50)), kind)
    for square in (random_square(data, 32, 0.5), centre_square(data, 32)):
        assert square.shape == (32, 32, 3)
        assert square.dtype == np.uint8
        assert np.abs(square.astype(int) - [200, 100, 50]).max() <= 3


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"x" * 50]
)
def test_bytes_that_are_no_image_are_undecodable(data):
    for square in (lambda: random_square(data, 32, 0.5), lambda: centre_square(data, 32)):
        with pytest.raises(Undecodable):
            square()


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded():
    data = _encoded(Image.new("1", (8_000, 8_000)))
    for square in (lambda: random_square(data, 32, 0.5), lambda: centre_square(data, 32)):
        with pytest.raises(Undecodable, match="8000x8000"):
            square()


def test_normalised_pixels_of_the_mean_colour_are_zero():
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]) * 255
    image = mean.round().to(torch.uint8).expand(1, 4, 4, 3)
    out = normalised(image, torch.device("cpu"))
    assert out.shape == (1, 3, 4, 4)
    assert out.abs().max() < 0.01
