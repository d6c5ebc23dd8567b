"""The seam: img2dataset is what we took it for when we cut into it."""

import inspect
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
from download_site import drawn, pictures, serving

from pipeline.download.reasons import FetchError
from pipeline.download.tars import OrderedSampleWriter


def test_img2dataset_still_has_the_seam_we_cut_at() -> None:
    from pipeline.download.seam import Downloader, img2dataset_downloader

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


def test_the_writer_takes_what_img2datasets_own_writer_takes(monkeypatch) -> None:
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")  # or it asks the package index
    from img2dataset.writer import WebDatasetSampleWriter

    for method in ("__init__", "write", "close"):
        theirs = inspect.signature(getattr(WebDatasetSampleWriter, method))
        ours = inspect.signature(getattr(OrderedSampleWriter, method))
        assert list(ours.parameters) == list(theirs.parameters)


def test_the_answer_is_img2datasets_own_for_whatever_image_came() -> None:
    from pipeline.download.seam import fetching_with, img2dataset_downloader

    theirs = img2dataset_downloader.download_image_with_retry
    answers: list[tuple[int, io.BytesIO | FetchError]] = [
        (7, io.BytesIO(b"x")),
        (3, FetchError("gone", "status 410")),
    ]
    with fetching_with(lambda: answers.pop(0)):
        fetch = img2dataset_downloader.download_image_with_retry
        key, stream, error_message = fetch((0, "http://h"), timeout=1, retries=1)
        assert (key, stream.read(), error_message) == (7, b"x", None)
        assert fetch((1, "http://i"), timeout=1) == (3, None, "gone: status 410")
    assert img2dataset_downloader.download_image_with_retry is theirs


def test_img2dataset_is_whole_for_others_although_we_take_a_part_of_it() -> None:
    code = (
        "import pipeline.download.seam, sys; "
        "assert 'wandb' not in sys.modules and 'img2dataset' not in sys.modules; "
        "import img2dataset; assert callable(img2dataset.download); "
        "import wandb; assert wandb.__version__"
    )
    environment = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=environment)


_DOWNLOAD = """
import json, os, sys

told = {"connects": [], "names": [], "started": []}

def hook(event, args):
    if event == "socket.connect":
        told["connects"].append(list(args[1])[:2])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        told["names"].append(str(args[0]))
    elif event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.fork"):
        told["started"].append(event)

sys.addaudithook(hook)
import pyarrow.parquet as pq
from pathlib import Path
from pipeline.download.task import download_shard
from pipeline.settings import DownloadSettings

rows, folder, settings = sys.argv[1:]
settings = DownloadSettings(**json.loads(settings))
stats = download_shard(pq.read_table(rows), Path(folder), settings)
told["successes"] = stats["successes"]
told["modules"] = sorted({name.partition(".")[0] for name in sys.modules})
told["dataclasses"] = sys.modules["dataclasses"].__file__
print(json.dumps(told))
"""


def test_a_download_connects_to_the_hosts_of_its_list_and_to_nobody_else(tmp_path: Path) -> None:
    """Nor does it start a process that could; what imports try is seen by an audit hook."""
    with serving() as site:
        port = int(site.host.split(":")[1])
        urls = [*pictures(site, 3), f"http://localhost:{port}/x.jpg"]
        pq.write_table(drawn(urls), tmp_path / "rows.parquet")
        (tmp_path / "images").mkdir()
        settings = site.settings().model_dump_json()
        arguments = [str(tmp_path / "rows.parquet"), str(tmp_path / "images"), settings]
        told = json.loads(
            subprocess.run(
                [sys.executable, "-c", _DOWNLOAD, *arguments],
                check=True,
                capture_output=True,
                text=True,
                env={k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"},
            ).stdout
        )
    assert told["successes"] == 3
    assert {tuple(address) for address in told["connects"]} == {("127.0.0.1", port)}
    assert set(told["names"]) == {"localhost"}
    assert told["started"] == []
    unwanted = {"wandb", "torch", "albumentations", "requests", "cv2"}
    assert unwanted.isdisjoint(told["modules"])
    assert "site-packages" not in told["dataclasses"]
