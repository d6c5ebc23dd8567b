"""Retrieval: ranks against brute force, and recalls by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluate import retrieval


def brute(near_NT, image_T):
    """Ranks by sorting everything."""
    text_rank, image_rank = [], []
    for image, row in enumerate(near_NT):
        order = sorted(range(len(row)), key=lambda text: (-row[text], text))
        text_rank.append(next(at for at, text in enumerate(order) if image_T[text] == image))
    for text, column in enumerate(near_NT.T):
        order = sorted(range(len(column)), key=lambda image: (-column[image], image))
        image_rank.append(order.index(image_T[text]))
    return text_rank, image_rank


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 40), st.integers(2, 4))
def test_ranks_are_those_of_sorting_everything_whatever_the_tile(seed, images, tile, values):
    chance = np.random.default_rng(seed)
    image_T = chance.permutation(np.repeat(np.arange(images), chance.integers(1, 4, images)))
    # Few different whole numbers: many are equally near, and sums are exact.
    image_NE = chance.integers(0, values, (images, 3)).astype(np.float32)
    text_TE = chance.integers(0, values, (len(image_T), 3)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "_TILE", tile)
        found = retrieval.ranks(image_NE, text_TE, image_T)
    wanted = brute(image_NE @ text_TE.T, image_T)
    assert [part.tolist() for part in found] == list(wanted)


def told(text_rank, image_rank, image_T, overlaps):
    arrays = [np.array(part, np.int64) for part in (text_rank, image_rank, image_T)]
    return retrieval.recalls(*arrays, np.array(overlaps, bool))


def test_an_image_is_found_by_its_best_caption_and_each_caption_for_itself():
    found = told([0, 4], [0, 7, 20], [0, 0, 1], [False, False])["all"]["measures"]
    values = {name: one["value"] for name, one in found.items()}
    assert [values[f"image_to_text_{k}"] for k in (1, 5, 10)] == [0.5, 1.0, 1.0]
    assert [values[f"text_to_image_{k}"] for k in (1, 5, 10)] == pytest.approx(
        [1 / 3, 1 / 3, 2 / 3]
    )
    assert values["recall_at_1"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_overlapping_images_and_their_captions_are_told_apart():
    found = told([0, 0, 9, 9], [0, 0, 9, 9], [0, 1, 2, 3], [True, False, False, False])
    assert found["overlap"]["score"]["value"] == 1.0
    assert found["clean"]["score"]["value"] == pytest.approx(1 / 3)
    assert found["all_minus_clean"] == pytest.approx(1 / 2 - 1 / 3)


def test_captions_of_one_image_stand_or_fall_together_in_the_interval():
    # Ten captions of each of six images, all found or none: six draws, and not sixty.
    image_T = np.repeat(np.arange(6), 10)
    ranks = np.where(image_T < 3, 0, 99)
    found = told([0] * 6, ranks, image_T, [False] * 6)["all"]["measures"]["text_to_image_1"]
    assert found["value"] == 0.5
    assert found["high"] - found["low"] > 0.6
