"""Shards to batches: nothing lost, nothing twice, the same however it is read."""

import gc
import io
import json
import tarfile
from contextlib import closing, suppress
from itertools import chain

import fsspec
import numpy as np
import pytest
import torch
import webdataset
from trainer_shards import pairs, write_shards

from pipeline.errors import BadInput
from pipeline.settings import LoaderSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer.reading import Unreadable
from pipeline.trainer.samples import Batches, Samples


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards"), pairs(24))


def batches_of(folder, batch_size=6, seed=0, rank=0, ranks=1, **loader):
    samples = Samples(folder, LoaderSettings(**loader))
    return Batches(samples, Tokenizer([]), batch_size, 32, 32, seed, rank, ranks)


def same(first, second):
    return (
        (first.step, first.pair_ids, first.skipped)
        == (second.step, second.pair_ids, second.skipped)
        and torch.equal(first.image_BHWC, second.image_BHWC)
        and torch.equal(first.tokens_BL, second.tokens_BL)
    )


def test_every_sample_comes_once_in_an_epoch_also_where_batches_do_not_fill_it(shards):
    batches = batches_of(shards, batch_size=5)
    found = list(chain.from_iterable(batches.at(step).pair_ids for step in range(24)))
    keys = sorted(key for key, _, _ in pairs(24))
    for epoch in range(5):
        assert sorted(found[epoch * 24 : (epoch + 1) * 24]) == keys


def test_batches_are_equal_for_any_number_of_workers(shards):
    batches = batches_of(shards)
    alone = list(batches.between(0, 6, workers=0))
    for workers in (1, 3):
        together = list(batches.between(0, 6, workers))
        assert len(together) == 6
        assert all(same(a, b) for a, b in zip(alone, together, strict=True))


def test_batches_that_are_kept_keep_their_pixels(shards):
    batches = batches_of(shards, batches_ahead=1)
    kept = list(batches.between(0, 12, workers=2))  # many more than the ring has slots
    assert all(same(batch, batches.at(batch.step)) for batch in kept)


def test_memory_goes_back_to_the_ring_only_when_no_view_of_it_is_left(shards):
    batches = batches_of(shards, batches_ahead=1)
    with closing(batches.between(0, 8, workers=1)) as stream:
        view = next(stream).image_BHWC[2, 5:9].numpy()
        was = view.copy()
        for _ in stream:
            gc.collect()
        assert np.array_equal(view, was)


def test_batches_are_equal_when_begun_in_the_middle(shards):
    whole = list(batches_of(shards).between(0, 6, workers=2))
    resumed = list(batches_of(shards).between(4, 6, workers=2))
    assert all(same(a, b) for a, b in zip(whole[4:], resumed, strict=True))


@pytest.mark.parametrize("ranks", [2, 3, 6])
def test_the_parts_of_all_ranks_are_the_batch_of_one(shards, ranks):
    whole = batches_of(shards).at(5)
    parts = [batches_of(shards, rank=rank, ranks=ranks).at(5) for rank in range(ranks)]
    assert list(chain.from_iterable(part.pair_ids for part in parts)) == whole.pair_ids
    assert torch.equal(torch.cat([part.image_BHWC for part in parts]), whole.image_BHWC)


def test_ranks_that_cannot_share_a_batch_evenly_are_refused(shards):
    with pytest.raises(BadInput, match="take a multiple of 4"):
        batches_of(shards, rank=0, ranks=4)


@pytest.mark.parametrize(("rank", "ranks"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_beyond_the_last_one_is_refused(shards, rank, ranks):
    with pytest.raises(BadInput, match="numbered from 0"):
        batches_of(shards, rank=rank, ranks=ranks)


def test_no_batches_are_made_between_a_step_and_itself(shards):
    assert list(batches_of(shards).between(3, 3, workers=2)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_knows_where_each_of_its_texts_ends(shards, workers):
    for batch in batches_of(shards).between(0, 4, workers):
        assert batch.lengths_B.dtype == np.int64
        for tokens, length in zip(batch.tokens_BL.tolist(), batch.lengths_B, strict=True):
            assert tokens[length - 1] == Tokenizer([]).end
            assert set(tokens[length:]) <= {0}


def test_a_stream_that_is_left_early_leaves_no_process_and_no_file_behind(shards):
    import psutil

    own = psutil.Process()
    before, files = len(own.children()), own.num_fds()
    samples = Samples(shards)
    batches = Batches(samples, Tokenizer([]), 6, 32, 32, 0)
    with closing(batches.between(0, 100, workers=2)) as stream:
        next(stream)
        assert len(own.children()) == before + 2
    samples.close()
    gc.collect()
    assert len(own.children()) == before
    assert own.num_fds() == files


def test_another_seed_gives_other_batches(shards):
    first, other = batches_of(shards).at(0), batches_of(shards, seed=1).at(0)
    assert first.pair_ids != other.pair_ids


def test_another_epoch_crops_a_sample_at_another_place(shards):
    batches = batches_of(shards)
    first = {k: i for s in range(4) for k, i in _by_key(batches.at(s))}
    second = {k: i for s in range(4, 8) for k, i in _by_key(batches.at(s))}
    differ = [not torch.equal(first[key], second[key]) for key in first]
    assert sum(differ) > 12  # those that are square have one place only


def _by_key(batch):
    return zip(batch.pair_ids, batch.image_BHWC, strict=True)


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


# -- what cannot be read -------------------------------------------------------------------


def _changed(folder, number, change):
    path = folder / f"{number:06d}.tar"
    path.write_bytes(change(path.read_bytes()))


def _broken_image(samples, number):
    key, image, caption = samples[number]
    return [*samples[:number], (key, image[:300], caption), *samples[number + 1 :]]


def test_an_undecodable_image_is_replaced_by_another_sample_and_told(tmp_path):
    samples = _broken_image(pairs(12), 2)
    broken = samples[2][0]
    write_shards(tmp_path, samples)
    batches = batches_of(tmp_path)
    found = list(batches.between(0, 4, workers=2))
    for epoch in (found[:2], found[2:]):
        assert [skipped for batch in epoch for skipped in batch.skipped] == [(broken, "truncated")]
        assert all(len(batch.pair_ids) == 6 for batch in epoch)
    assert all(broken not in batch.pair_ids for batch in found)
    assert all(same(batch, batches.at(batch.step)) for batch in found)


def test_an_undecodable_image_ends_the_run_where_none_may_be_skipped(tmp_path):
    samples = _broken_image(pairs(12), 2)
    write_shards(tmp_path, samples)
    batches = batches_of(tmp_path, damaged="refuse")
    for workers in (0, 2):
        with pytest.raises(BadInput, match=f"sample {samples[2][0]} cannot be read"):
            list(batches.between(0, 2, workers))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "shard missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-700]), "shard other length"),
    ],
)
def test_the_samples_of_a_lost_shard_are_replaced_and_the_others_stay_in_their_places(
    tmp_path, damage, reason
):
    write_shards(tmp_path, pairs(24))
    whole = [batches_of(tmp_path).at(step) for step in range(4)]
    lost = {key for key, _, _ in pairs(24)[8:16]}
    damage(tmp_path / "000001.tar")
    found = list(batches_of(tmp_path).between(0, 4, workers=2))
    told = [skipped for batch in found for skipped in batch.skipped]
    assert {why for _, why in told} == {reason}
    assert len(told) >= 8
    for before, after in zip(whole, found, strict=True):
        pixels = zip(before.image_BHWC, after.image_BHWC, strict=True)
        for was, now, (old, new) in zip(before.pair_ids, after.pair_ids, pixels, strict=True):
            assert now not in lost
            if was not in lost:
                assert was == now
                assert torch.equal(old, new)
    assert all(same(batch, batches_of(tmp_path).at(batch.step)) for batch in found)


def test_a_shard_whose_bytes_moved_is_noticed_though_it_is_as_long(tmp_path):
    write_shards(tmp_path, pairs(24))
    assert Samples(tmp_path)[9]  # its places are known from now on
    _changed(tmp_path, 1, lambda data: data[512:] + data[:512])
    with pytest.raises(Unreadable) as told:
        Samples(tmp_path)[9]
    assert told.value.reason in ("changed shard", "caption is no UTF-8")


def test_a_header_with_digits_that_are_no_octal_ones_costs_its_sample_and_not_the_run(tmp_path):
    write_shards(tmp_path, pairs(24))
    assert Samples(tmp_path)[0]  # its places are known from now on
    _changed(tmp_path, 0, lambda data: data[:124] + b"9" * 11 + data[135:])
    with pytest.raises(Unreadable, match="changed shard"):
        Samples(tmp_path)[0]


def test_a_flipped_byte_is_found_where_checksums_are_asked_for(tmp_path):
    write_shards(tmp_path, pairs(24))
    _changed(tmp_path, 0, lambda data: data[:700] + bytes([data[700] ^ 1]) + data[701:])
    found = batches_of(tmp_path, check_sums=True).at(0)
    assert {why for _, why in found.skipped} == {"shard other checksum"}


def test_a_caption_that_is_no_utf_8_is_skipped_with_its_reason(tmp_path):
    samples = pairs(12)
    write_shards(tmp_path, samples)
    caption = samples[3][2].encode()
    _changed(tmp_path, 0, lambda data: data.replace(caption, b"\xff" * len(caption)))
    batches = batches_of(tmp_path)
    told = [skipped for step in range(2) for skipped in batches.at(step).skipped]
    assert told == [(samples[3][0], "caption is no UTF-8")]


def test_a_blank_caption_is_skipped_with_its_reason(tmp_path):
    samples = [
        (key, image, " \n" if n == 3 else text) for n, (key, image, text) in enumerate(pairs(12))
    ]
    batches = batches_of(write_shards(tmp_path, samples))
    told = [skipped for step in range(2) for skipped in batches.at(step).skipped]
    assert told == [(samples[3][0], "no caption")]


def test_shards_without_any_image_are_refused(tmp_path):
    write_shards(tmp_path, [(key, b"no image", caption) for key, _, caption in pairs(6)])
    for workers in (0, 2):
        with pytest.raises(BadInput, match="these shards hold no images"):
            list(batches_of(tmp_path).between(0, 1, workers))


def test_an_index_of_hostile_names_is_refused(tmp_path):
    write_shards(tmp_path, pairs(3))
    index = json.loads((tmp_path / "index.json").read_text())
    index["shards"][0]["name"] = "../000000.tar"
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput, match=r"\.\./000000"):
        Samples(tmp_path)


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"tar"):
        Samples(tmp_path)


def test_a_batch_larger_than_the_data_is_refused_with_both_numbers(shards):
    with pytest.raises(BadInput, match=r"24 samples do not fill one batch of 32: lower"):
        batches_of(shards, batch_size=32)


# -- shards elsewhere ----------------------------------------------------------------------


@pytest.fixture
def elsewhere(shards):
    """The same shards, at an address that this process alone can read."""
    name = "memory://loader-test"
    memory = fsspec.filesystem("memory")
    for path in shards.iterdir():
        memory.pipe_file(f"{name}/{path.name}", path.read_bytes())
    yield name
    memory.rm(name, recursive=True)


def test_fetched_shards_give_the_same_batches_as_local_ones(shards, elsewhere, tmp_path):
    theirs = batches_of(elsewhere, cache=str(tmp_path), workers=0)
    ours = batches_of(shards, workers=0)
    pairs_of = zip(theirs.between(0, 5), ours.between(0, 5), strict=True)
    assert all(same(one, other) for one, other in pairs_of)


def test_a_cache_too_small_for_the_window_is_refused_with_a_window_that_fits(elsewhere, tmp_path):
    shards = Samples(elsewhere, LoaderSettings(cache=str(tmp_path))).index.shards
    room = max(shard.bytes for shard in shards) * 2
    with pytest.raises(BadInput, match=r"lower loader\.window to 1$"):
        batches_of(elsewhere, cache=str(tmp_path), cache_bytes=room, window=2)
    batches = batches_of(elsewhere, cache=str(tmp_path), cache_bytes=room, window=1, workers=0)
    assert len(list(batches.between(0, 8))) == 8
    kept = 0
    for path in tmp_path.glob("shards/*/*"):
        with suppress(FileNotFoundError):  # what is fetched ahead may be moved meanwhile
            kept += path.stat().st_size
    assert kept <= room
