"""Task: a raw shard is whole or not there, and the same answers make the same bytes."""

import hashlib
import io
import json
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from download_site import (
    Site,
    body,
    drawn,
    files,
    images,
    in_turn,
    picture,
    pictures,
    serving,
    stalling,
    status,
)

from pipeline.download import clear_staged, totals
from pipeline.download.task import download_shard, download_shards
from pipeline.errors import BadInput


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


def test_a_shard_holds_its_pictures_and_every_row(site: Site, tmp_path: Path) -> None:
    urls = [*pictures(site, 3), site.at("/gone.jpg", status(410)), "file:///x.jpg"]
    urls.append(site.at("/page.jpg", body(b"<p>")))
    stats = download_shard(drawn(urls), tmp_path, site.settings())
    rows = images(tmp_path)
    assert [row["url"] for row in rows] == urls
    assert [row["reason"] for row in rows] == [None, None, None, "gone", "bad url", "undecodable"]
    assert [row["status"] for row in rows[2:]] == [
        "success",
        "failed_to_download",
        "failed_to_download",
        "failed_to_resize",
    ]
    assert rows[3]["error_message"] == "gone: status 410"
    assert (stats["rows"], stats["successes"]) == (6, 3)
    assert stats["reasons"] == {"gone": 1, "bad url": 1, "undecodable": 1}


def test_a_sample_is_named_by_its_pair_and_holds_its_members(site: Site, tmp_path: Path) -> None:
    download_shard(drawn(pictures(site, 2)), tmp_path, site.settings())
    row = images(tmp_path)[1]
    with tarfile.open(tmp_path / "00000.tar") as tar:
        names = tar.getnames()
        members = {Path(m.name).suffix: tar.extractfile(m) for m in tar.getmembers()[3:]}
        contents = {suffix: file.read() for suffix, file in members.items() if file}
    assert names == [f"{n:032x}.{member}" for n in range(2) for member in ("jpg", "txt", "json")]
    assert contents[".txt"].decode() == row["caption"]
    facts = json.loads(contents[".json"])
    assert list(facts) == sorted(facts)
    assert {name: facts[name] for name in ("pair_id", "url", "sha256", "query_ids")} == {
        name: row[name] for name in ("pair_id", "url", "sha256", "query_ids")
    }
    assert "position" not in facts


def test_the_parquet_says_where_each_image_lies_in_the_tar(site: Site, tmp_path: Path) -> None:
    urls = [*pictures(site, 2), site.at("/gone.jpg", status(410)), *pictures(site, 2, "more")]
    download_shard(drawn(urls), tmp_path, site.settings())
    tar = (tmp_path / "00000.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(tar)) as file:
        members = {m.name: (m.offset_data, m.size) for m in file.getmembers()}
    for row in images(tmp_path):
        if row["reason"] is None:
            assert (row["offset"], row["bytes"]) == members[f"{row['pair_id']}.jpg"]
            assert tar[row["offset"] :][:2] == b"\xff\xd8"
        else:
            assert (row["offset"], row["bytes"]) == (None, None)
    original = picture(seed=0)
    assert images(tmp_path)[0]["sha256"] == hashlib.sha256(original).hexdigest()


def test_the_tar_is_plain_ustar_without_times_or_owners(site: Site, tmp_path: Path) -> None:
    download_shard(drawn(pictures(site, 2)), tmp_path, site.settings())
    with tarfile.open(tmp_path / "00000.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
            assert member.pax_headers == {}
    assert (tmp_path / "00000.tar").stat().st_size % tarfile.RECORDSIZE == 0


def test_two_downloads_of_the_same_answers_are_the_same_bytes(site: Site, tmp_path: Path) -> None:
    """The first image comes last in one of them, and other threads are at work."""

    def late(exchange: Any) -> None:
        exchange.rest(0.3)
        body(picture(seed=99))(exchange)

    first = site.at("/first.jpg", in_turn(late, body(picture(seed=99))))
    urls = [first, *pictures(site, 12), "http://[/", site.at("/x", body(b"no picture"))]
    both = [tmp_path / "one", tmp_path / "two"]
    for threads, folder in zip((8, 3), both, strict=True):
        folder.mkdir()
        download_shard(drawn(urls), folder, site.settings(threads=threads))
    assert files(both[0]) == files(both[1])
    assert len(files(both[0])) == 2


def test_rows_are_in_order_of_position_and_then_of_pair(site: Site, tmp_path: Path) -> None:
    table = drawn(pictures(site, 6)).take([4, 2, 0, 5, 1, 3])
    list(download_shards(table.to_batches(max_chunksize=2), str(tmp_path), site.settings()))
    assert [row["position"] for row in images(tmp_path)] == list(range(6))


def test_a_shard_that_is_there_is_not_downloaded_again(site: Site, tmp_path: Path) -> None:
    table = drawn(pictures(site, 3))
    first = download_shard(table, tmp_path, site.settings())
    again = download_shard(table, tmp_path, site.settings())
    assert again == first
    assert site.asked["/0.jpg"] == 1


@pytest.mark.parametrize("harm", ["stats gone", "tar short", "parquet gone", "stats unreadable"])
def test_a_shard_that_is_half_there_is_downloaded_again(
    site: Site, tmp_path: Path, harm: str
) -> None:
    table = drawn(pictures(site, 3))
    download_shard(table, tmp_path, site.settings())
    whole = files(tmp_path)
    if harm == "stats gone":
        (tmp_path / "00000_stats.json").unlink()
    elif harm == "stats unreadable":
        (tmp_path / "00000_stats.json").write_text("{")
    elif harm == "parquet gone":
        (tmp_path / "00000.parquet").unlink()
    else:
        (tmp_path / "00000.tar").write_bytes(whole["00000.tar"][:1000])
    download_shard(table, tmp_path, site.settings())
    assert site.asked["/0.jpg"] == 2
    assert files(tmp_path) == whole


def test_a_shard_of_other_pairs_is_downloaded_again(site: Site, tmp_path: Path) -> None:
    urls = pictures(site, 3)
    download_shard(drawn(urls), tmp_path, site.settings())
    download_shard(drawn(urls).slice(1), tmp_path, site.settings())
    assert [row["position"] for row in images(tmp_path)] == [1, 2]


def test_a_shard_of_other_settings_is_downloaded_again(site: Site, tmp_path: Path) -> None:
    table = drawn(pictures(site, 2))
    download_shard(table, tmp_path, site.settings())
    download_shard(table, tmp_path, site.settings(threads=3))
    assert site.asked["/0.jpg"] == 1
    download_shard(table, tmp_path, site.settings(image_side=20))
    assert site.asked["/0.jpg"] == 2
    assert {row["height"] for row in images(tmp_path)} == {20}


def test_of_two_attempts_that_end_together_one_is_kept_whole(site: Site, tmp_path: Path) -> None:
    """While the second attempt downloads, the first one, with another answer, is placed."""
    attempts: list[dict[str, Any]] = []

    def overtaken(exchange: Any) -> None:
        table = pq.read_table(kept / "00000.parquet")
        assert table.num_rows == 1
        for file in sorted(kept.iterdir(), key=lambda file: file.name.endswith("_stats.json")):
            (tmp_path / "images" / file.name).write_bytes(file.read_bytes())
        body(picture(seed=2))(exchange)

    kept, folder = tmp_path / "kept", tmp_path / "images"
    kept.mkdir()
    folder.mkdir()
    url = site.at("/twice.jpg", in_turn(body(picture(seed=1, size=(80, 60))), overtaken))
    attempts.append(download_shard(drawn([url]), kept, site.settings()))
    attempts.append(download_shard(drawn([url]), folder, site.settings()))
    assert site.asked["/twice.jpg"] == 2
    assert attempts[0] == attempts[1]
    assert files(folder) == files(kept)


def test_a_task_that_fails_leaves_nothing_behind(site: Site, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.download.tars._write_sample", full)
    told = rf"^{socket.gethostname()}: {tmp_path} takes no more \(No space left.*`wit build` again"
    with pytest.raises(BadInput, match=told):
        download_shard(drawn(pictures(site, 2)), tmp_path, site.settings())
    assert list(tmp_path.iterdir()) == []


def test_a_full_scratch_disk_fails_the_task_instead_of_losing_rows(
    site: Site, tmp_path: Path, monkeypatch
) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full.open("r+b", buffering=0))
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(scratch))
    told = rf"^{socket.gethostname()}: {scratch} takes no more \(No space left"
    with pytest.raises(BadInput, match=told):
        download_shard(drawn(pictures(site, 2)), tmp_path, site.settings())
    assert list(tmp_path.iterdir()) == [scratch]


def test_what_a_killed_attempt_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".00007-abcd").mkdir()
    (tmp_path / ".00007-abcd" / "00007.tar").write_bytes(b"half")
    (tmp_path / "_begun.json").write_text("{}")
    clear_staged(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["_begun.json"]


def test_two_shards_in_threads_of_one_process_keep_apart(site: Site, tmp_path: Path) -> None:
    def late(nth: int) -> str:
        def answer(exchange: Any) -> None:
            exchange.rest(0.02)
            body(picture(seed=nth))(exchange)

        return site.at(f"/late{nth}.jpg", answer)

    tables = [drawn([late(nth) for nth in range(count)], count) for count in (9, 14)]
    told: list[dict[str, Any]] = []

    def download(table: Any) -> None:
        told.append(download_shard(table, tmp_path, site.settings(threads=2)))

    # Daemons: what mixes them up leaves threads that wait for ever.
    threads = [threading.Thread(target=download, args=(table,), daemon=True) for table in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(stats["successes"] for stats in told) == [9, 14]


def test_many_slow_sites_do_not_add_up(site: Site, tmp_path: Path) -> None:
    urls = pictures(site, 4) + [site.at(f"/slow{n}", stalling()) for n in range(16)]
    began = time.monotonic()
    stats = download_shard(drawn(urls), tmp_path, site.settings(threads=16, deadline_seconds=0.5))
    assert stats["reasons"] == {"timeout": 16}
    assert stats["successes"] == 4
    assert time.monotonic() - began < 4


def test_totals_add_up_and_miss_no_shard(site: Site, tmp_path: Path) -> None:
    for raw_shard in (0, 2):
        urls = [*pictures(site, 2), site.at("/gone.jpg", status(410))]
        download_shard(drawn(urls, raw_shard), tmp_path, site.settings())
    sums = totals(tmp_path, [0, 2])
    assert (sums.shards, sums.rows, sums.successes) == (2, 6, 4)
    assert sums.reasons == {"gone": 2}
    assert sums.worst_hosts == {"127.0.0.1": 2}
    assert sums.asked_of_worst == {"127.0.0.1": 6}
    with pytest.raises(FileNotFoundError, match="00001"):
        totals(tmp_path, [0, 1, 2])
