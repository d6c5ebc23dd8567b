"""The seam: img2dataset is what we took it for when we cut into it."""

import inspect
import io

from download_site import (
    picture,
)

from pipeline.download.tars import OrderedSampleWriter


def test_img2dataset_still_has_the_seam_we_cut_at() -> None:
    from pipeline.download.seam import Downloader, Resizer, img2dataset_downloader

    fetch = inspect.signature(img2dataset_downloader.download_image_with_retry)
    assert list(fetch.parameters) == [
        "row",
        "timeout",
        "retries",
        "user_agent_token",
        "disallowed_header_directives",
    ]
    assert list(inspect.signature(Downloader).parameters) == [
        "sample_writer_class",
        "resizer",
        "thread_count",
        "save_caption",
        "extract_exif",
        "output_folder",
        "column_list",
        "timeout",
        "number_sample_per_shard",
        "oom_shard_count",
        "compute_hash",
        "verify_hash_type",
        "encode_format",
        "retries",
        "user_agent_token",
        "disallowed_header_directives",
        "blurring_bbox_col",
    ]
    assert list(inspect.signature(Resizer.__call__).parameters) == [
        "self",
        "img_stream",
        "blurring_bbox_list",
    ]
    resizer = Resizer(image_size=32, resize_mode="keep_ratio", resize_only_if_bigger=True)
    jpeg, *sizes, error_message = resizer(io.BytesIO(picture(size=(64, 48))))
    assert jpeg[:2] == b"\xff\xd8"
    assert (sizes, error_message) == ([43, 32, 64, 48], None)
    *_, error_message = resizer(io.BytesIO(b"x"))
    assert error_message == "Image decoding error"


def test_the_writer_takes_what_img2datasets_own_writer_takes() -> None:
    from img2dataset.writer import WebDatasetSampleWriter

    for method in ("__init__", "write", "close"):
        theirs = inspect.signature(getattr(WebDatasetSampleWriter, method))
        ours = inspect.signature(getattr(OrderedSampleWriter, method))
        assert list(ours.parameters) == list(theirs.parameters)


def test_our_fetch_is_in_place_only_while_we_download() -> None:
    from pipeline.download.seam import fetching_with, img2dataset_downloader

    theirs = img2dataset_downloader.download_image_with_retry
    with fetching_with(lambda url: url.encode()):
        fetch = img2dataset_downloader.download_image_with_retry
        key, stream, error_message = fetch((7, "http://h"), timeout=1, retries=1)
    assert (key, stream.read(), error_message) == (7, b"http://h", None)
    assert img2dataset_downloader.download_image_with_retry is theirs


def test_an_error_that_nobody_foresaw_costs_one_row_and_not_the_shard() -> None:
    from pipeline.download.seam import fetching_with, img2dataset_downloader

    def broken(url: str) -> bytes:
        raise LookupError(url)

    with fetching_with(broken):
        answer = img2dataset_downloader.download_image_with_retry((0, "x"), timeout=1)
    assert answer == (0, None, "unexpected: LookupError x")
