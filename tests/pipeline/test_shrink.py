"""Shrinking: pixels against Pillow's, sizes against img2dataset's."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from pipeline.download.pixels import smaller
from pipeline.kernels import Bytes
from pipeline.shrink import shrink, taps


def noise(rows: int, columns: int, seed: int = 0) -> Bytes:
    chance = np.random.default_rng(seed)
    return chance.integers(0, 256, (rows, columns, 4), dtype=np.uint8)


def by_pillow(pixels: Bytes, size: tuple[int, int]) -> Bytes:
    """In floating point: of whole numbers Pillow cuts off what overshoots after each pass."""
    planes = [Image.fromarray(pixels[..., channel].astype(np.float32)) for channel in range(3)]
    resized = [np.asarray(p.resize(size[::-1], Image.Resampling.BICUBIC)) for p in planes]
    return np.rint(np.stack(resized, -1)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("rows", "columns", "size"),
    [
        (60, 80, (30, 40)),
        (61, 83, (17, 23)),
        (257, 300, (256, 299)),
        (16, 16, (5, 5)),
        (9, 7, (3, 2)),
        (3, 1, (2, 1)),
        (300, 4, (81, 1)),
        (40, 1900, (10, 475)),
    ],
)
def test_a_shrunk_picture_is_pillows_but_for_rounding(
    rows: int, columns: int, size: tuple[int, int]
) -> None:
    pixels = noise(rows, columns)
    ours = shrink(pixels, (rows, columns), size)
    apart = ours.astype(int) - by_pillow(pixels, size)
    assert ours.shape == (*size, 3)
    assert np.abs(apart).max() <= 1
    assert abs(apart.mean()) < 0.1


@pytest.mark.parametrize(
    ("rows", "columns", "size"), [(60, 80, (90, 81)), (9, 7, (64, 64)), (5, 200, (9, 150))]
)
def test_a_grown_picture_is_pillows_but_for_rounding_and_its_edges(
    rows: int, columns: int, size: tuple[int, int]
) -> None:
    pixels = noise(rows, columns)
    apart = shrink(pixels, (rows, columns), size).astype(int) - by_pillow(pixels, size)
    # Two pixels of the picture are made of fewer than four.
    edge_rows, edge_columns = (
        2 * new // old for new, old in zip(size, (rows, columns), strict=True)
    )
    inner = apart[edge_rows : size[0] - edge_rows, edge_columns : size[1] - edge_columns]
    assert inner.size
    assert np.abs(inner).max() <= 1


@pytest.mark.parametrize("begin", [(0, 0), (0, 40), (20, 0), (13, 17), (20, 40)])
@pytest.mark.parametrize("size", [(30, 40), (9, 11), (61, 81), (60, 80), (7, 3)])
def test_a_part_shrinks_as_if_it_were_the_whole(
    begin: tuple[int, int], size: tuple[int, int]
) -> None:
    pixels = noise(80, 120)
    top, left = begin
    alone = np.ascontiguousarray(pixels[top : top + 60, left : left + 80])
    assert (shrink(pixels, (60, 80), size, begin) == shrink(alone, (60, 80), size)).all()


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (8, 8), (17, 1), (24, 33)])
def test_nothing_is_written_around_the_place_of_a_small_picture(size: tuple[int, int]) -> None:
    room = np.full(3 * size[0] * size[1] + 128, 77, np.uint8)
    place = room[64:-64].reshape(*size, 3)
    pixels = noise(50, 60)
    small = shrink(pixels, (50, 60), size, out=place)
    assert np.shares_memory(small, room)
    assert (small == shrink(pixels, (50, 60), size)).all()
    assert (room[:64] == 77).all()
    assert (room[-64:] == 77).all()


@pytest.mark.parametrize(
    ("extent", "begin"),
    [((81, 120), (0, 0)), ((80, 121), (0, 0)), ((60, 80), (21, 0)), ((60, 80), (0, 41))],
)
def test_a_part_that_reaches_beyond_its_picture_is_refused(
    extent: tuple[int, int], begin: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match="beyond"):
        shrink(noise(80, 120), extent, (30, 40), begin)


def test_a_place_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        shrink(noise(80, 120), (80, 120), (30, 40), out=np.empty((30, 41, 3), np.uint8))


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_a_flat_picture_stays_as_it_is(value: int) -> None:
    pixels = np.full((333, 501, 4), value, np.uint8)
    for size in ((256, 385), (100, 151), (7, 11), (1, 1), (334, 1000), (500, 502)):
        assert (shrink(pixels, (333, 501), size) == value).all()


def test_a_picture_that_shrinks_by_much_is_near_pillows() -> None:
    smooth = np.add.outer(np.arange(900) // 8, np.arange(1200) // 12).astype(np.uint8)
    pixels = np.repeat(smooth[..., None], 4, axis=2)
    apart = shrink(pixels, (900, 1200), (30, 40)).astype(int) - by_pillow(pixels, (30, 40))
    assert np.abs(apart).max() <= 2


def test_black_beside_white_does_not_wrap_around() -> None:
    """A cubic filter overshoots: beyond white is white, and not black."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, 32:] = 255
    pixels[32:] = 255 - pixels[32:]
    ours = shrink(pixels, (64, 64), (40, 40))
    assert np.abs(ours.astype(int) - by_pillow(pixels, (40, 40))).max() <= 1


def test_the_fourth_channel_is_not_looked_at() -> None:
    pixels = noise(60, 80)
    other = pixels.copy()
    other[..., 3] = 255 - other[..., 3]
    assert (shrink(pixels, (60, 80), (30, 40)) == shrink(other, (60, 80), (30, 40))).all()


def test_what_lies_beyond_the_picture_moves_nothing() -> None:
    """427 rows at 5/8 are 266.875: the last of 267 is not all picture."""
    rows = np.repeat(np.linspace(0, 255, 267)[:, None], 60, axis=1)
    ramp = np.repeat(rows[..., None], 4, axis=2).astype(np.uint8)
    cut, whole = taps(267, 266.875, 100), taps(267, 267.0, 100)
    assert cut.first[-1] <= whole.first[-1]
    assert (
        shrink(ramp, (266.875, 60), (100, 22))[-1].mean()
        <= shrink(ramp, (267, 60), (100, 22))[-1].mean()
    )


def test_the_weights_of_a_pixel_are_one_in_all() -> None:
    for size, target in ((640, 341), (257, 256), (5000, 3), (7, 2), (9, 64), (200, 224), (2, 5)):
        weights = taps(size, float(size), target).weights.astype(int).sum(axis=1)
        assert np.abs(weights - (1 << 15)).max() <= 1


def test_every_thread_makes_the_same_pixels() -> None:
    pixels = noise(200, 300)
    alone = shrink(pixels, (200, 300), (64, 96))
    found: list[bool] = []

    def work() -> None:
        found.extend(bool((shrink(pixels, (200, 300), (64, 96)) == alone).all()) for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 40


def test_the_size_of_a_shrunk_picture_is_img2datasets(monkeypatch) -> None:
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")  # or it asks the package index
    from img2dataset.resizer import Resizer

    theirs = Resizer(image_size=32, resize_mode="keep_ratio", resize_only_if_bigger=True)
    chance = np.random.default_rng(0)
    sizes = chance.integers(16, 150, (150, 2)).tolist()
    for height, width in (*sizes, (32, 32), (33, 32), (33, 33), (64, 65), (65, 64)):
        file = io.BytesIO()
        Image.new("L", (width, height)).save(file, "BMP")
        _, their_width, their_height, *_, error = theirs(file)
        assert error is None
        assert smaller((height, width), 32) == (their_height, their_width)
