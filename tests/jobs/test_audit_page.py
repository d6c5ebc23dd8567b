"""jobs.audit and jobs.audit_page: what is written of a subject, and the page in a browser."""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.audit import write_audit
from jobs.pictures import Downloaded, thumbnail
from jobs.subject import EvalCount, Subject
from pipeline import decisions
from pipeline.schemas import AUDIT, OVERLAPS
from pipeline.settings import AuditSettings, DedupSettings, EvalSet, FingerprintSettings

HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
FETCHED = '<img src="https://example.org/a.png">{{ 7 * 7 }}\u2028 "quoted" & \'so\''
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
ROWS = [
    ("p0", "birds", "e0.png", "original", 0, 2, None, "overlap"),
    ("p1", "birds", "e0.png", "flip", 4, 60, 0.9, "overlap"),
    ("p2", "birds", "e1.png", "original", 7, 40, None, "candidate"),
    ("p3", "birds", "e2.png", "crop90", 8, 90, None, "candidate"),
    ("p4", "birds", "e3.png", "original", 0, 0, None, "undecidable"),
    (HOSTILE, "cars", HOSTILE, HOSTILE, 1, 10, None, "overlap"),
    ("p6", "cars", "__proto__", "original", 3, 50, None, "overlap"),
]


def _png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((64, 48)).save(stream, "PNG")
    return stream.getvalue()


def _pictures(pair_ids: list[str]) -> dict[str, Downloaded]:
    return {p: Downloaded(thumbnail(_png(len(p))), f"{HOSTILE}{FETCHED}") for p in pair_ids}


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    return pa.table(list(map(list, zip(*rows, strict=True))), schema=OVERLAPS)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    evalsets = []
    for name in ("birds", "cars", "empty"):
        (tmp_path / name).mkdir()
        for number in range(4):
            (tmp_path / name / f"e{number}.png").write_bytes(_png(number))
        evalsets.append(EvalSet(name=name, path=str(tmp_path / name)))
    names = ["e0.png", "e1.png", "e2.png", "e3.png", HOSTILE, "__proto__"]
    return Subject(
        name=HOSTILE,
        images=100,
        digest="0" * 64,
        evalsets=evalsets,
        variants=FingerprintSettings().variants,
        counts={s.name: EvalCount(images=10, hashes=50, flat=1, small=9) for s in evalsets},
        overlaps=lambda: _table(ROWS).to_batches(max_chunksize=2),
        removed=lambda asked: {"p0", "p2"} & set(asked.to_pylist()),
        kept=lambda asked: {"p1", "p3"} & set(asked.to_pylist()),
        pictures=_pictures,
        eval_ids=lambda _: pa.array(names),
        take_decisions="wit build --run here --set dedup.decisions=FILE --update",
    )


def _write(folder: Path, subject: Subject, **settings: Any) -> dict[str, Any]:
    folder.mkdir()
    write_audit(folder, subject, AuditSettings(**settings), DedupSettings())
    told: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return told


# -- what is written -----------------------------------------------------------------------


def test_an_audit_lists_what_was_removed_and_which_images_overlap(
    subject: Subject, tmp_path: Path
) -> None:
    told = _write(tmp_path / "out", subject)
    assert pq.read_schema(tmp_path / "out" / "overlaps.parquet").equals(AUDIT)
    with (tmp_path / "out" / "removed.csv").open(newline="") as stream:
        removed = list(csv.reader(stream))
    assert removed[1:] == [["p0", "birds", "e0.png", "original", "0", "2"]]
    assert (tmp_path / "out" / "overlapping" / "birds.txt").read_text() == "e0.png\n"
    assert (tmp_path / "out" / "overlapping" / "empty.txt").read_text() == ""
    birds, cars, empty = told["sets"]
    assert (birds["overlapping"], birds["candidates"], birds["undecidable_near"]) == (1, 2, 1)
    assert (birds["removed_pairs"], birds["leaked_pairs"], cars["overlapping"]) == (1, 1, 2)
    assert empty["overlapping"] == 0
    assert told["over_sets"] == {
        "sets": 3,
        "median_overlap": 0.1,
        "mean_overlap": pytest.approx(0.1),
        "without": 1,
    }


def test_decisions_change_the_counts_and_tell_what_is_left_to_do(
    subject: Subject, tmp_path: Path
) -> None:
    file = tmp_path / "decisions.json"
    pairs = [
        {"pair_id": "p0", "source": "birds", "eval_id": "e0.png", "verdict": "reject"},
        {"pair_id": "p3", "source": "birds", "eval_id": "e2.png", "verdict": "accept"},
        {"pair_id": "p9", "source": "birds", "eval_id": "e2.png", "verdict": "accept"},
    ]
    file.write_text(
        json.dumps(
            {
                "format": decisions.FORMAT,
                "audit": decisions.digest(subject.overlaps()),
                "sets": {"birds": {"pdq_distance": 40}, "empty": {"pdq_distance": 3}},
                "pairs": pairs,
            }
        )
    )
    told = _write(tmp_path / "out", subject, decisions=str(file))
    # p0 by hand and p1 by the threshold are none; p2 is one by the threshold and p3 by hand.
    assert (tmp_path / "out" / "overlapping" / "birds.txt").read_text() == "e1.png\ne2.png\n"
    decided = told["decisions"]
    assert (decided["decided"], decided["changed"], decided["unknown_pairs"]) == (4, 4, 1)
    assert (decided["accepted_in_shards"], decided["rejected_removed"]) == (1, 1)
    assert decided["unknown_sets"] == ["empty"]
    assert decided["is_of_these_overlaps"]
    assert f"dedup.decisions={file} --update" in decided["next"]


def test_predictions_are_told_on_all_clean_and_overlap(subject: Subject, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    answers = {"e0.png": True, "e1.png": True, "e2.png": False, "e3.png": False, "other": True}
    lines = [{"evalset": "birds", "eval_id": n, "correct": right} for n, right in answers.items()]
    file.write_text("\n".join(map(json.dumps, lines)))
    told = _write(tmp_path / "out", subject, predictions=[str(file)])["predictions"]
    (shift,) = told["shifts"]
    assert (shift["all"]["right"], shift["clean"]["right"], shift["overlap"]["right"]) == (2, 1, 1)
    assert shift["p_value"] == pytest.approx(1 / 3)
    assert not shift["is_testable"]
    assert told["refused"][0]["reason"] == "unknown image"
    assert told["missing"] == [{"model": "model", "set": "birds", "images": 2}]


def test_the_page_shows_no_more_pairs_than_it_may(subject: Subject, tmp_path: Path) -> None:
    _write(tmp_path / "out", subject, page_thumbnails=4)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('<figure class="pair') == 4


def test_the_page_says_how_it_was_made_and_that_rates_are_of_the_default_settings(
    subject: Subject, tmp_path: Path
) -> None:
    made = _write(tmp_path / "out", subject)["made"]
    assert made["comparisons"] == 3 * 50 * 100
    assert made["corpus"] == {"images": 100, "digest": "0" * 64}
    assert made["changed"] == []
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"<code>{'0' * 64}</code>" in page
    assert "15,000: each image of the corpus with each hash" in page
    assert "this audit was made with others" not in page
    (tmp_path / "other").mkdir()
    settings = DedupSettings(pdq_distance=40, min_quality=30)
    write_audit(tmp_path / "other", subject, AuditSettings(), settings)
    page = (tmp_path / "other" / "report.html").read_text()
    assert "this audit was made with others (pdq_distance, min_quality)" in page


def test_sets_of_other_purposes_are_counted_and_none_of_their_pictures_shown(
    subject: Subject, tmp_path: Path
) -> None:
    rows = [
        ("p0", "blocked", "secret.png", "original", 0, 2, None, "overlap"),
        ("p0", "blocked", "other.png", "original", 2, 9, None, "overlap"),
        ("p7", "blocked", "secret.png", "original", 8, 80, None, "candidate"),
        ("p8", "listed", "h0", "original", None, 20, None, "overlap"),
    ]
    sets = [
        *subject.evalsets,
        EvalSet(name="blocked", path="gone", purpose="blocklist"),
        EvalSet(name="listed", path="gone", purpose="opt-out", format="hashes"),
    ]
    batches = _table([*ROWS, *rows]).to_batches(max_chunksize=3)
    other = replace(subject, evalsets=sets, overlaps=lambda: batches)
    told = _write(tmp_path / "out", other)
    assert told["avoided"] == [
        {"name": n, "purpose": p, "found": 1, "near": near, "removed": removed, "left": 0}
        for n, p, near, removed in (("blocked", "blocklist", 1, 1), ("listed", "opt-out", 0, 0))
    ]
    assert told["sets"] == _write(tmp_path / "plain", subject)["sets"]
    assert "secret.png" not in (tmp_path / "out" / "report.html").read_text()
    assert pq.read_metadata(tmp_path / "out" / "overlaps.parquet").num_rows == len(ROWS)


# -- in a browser --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if executable is None:
        pytest.skip("no chromium on the path, and CHROMIUM names none")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=executable, args=FLAGS.split())
        yield found
        found.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(accept_downloads=True)
    # Nothing is let out, and what would go out is remembered.
    context.asked = []
    context.route(
        lambda url: not url.startswith(("file:", "data:", "blob:")),
        lambda route: (context.asked.append(route.request.url), route.abort()),
    )
    yield context.new_page()
    context.close()


def _card(page: Any, pair_id: str) -> Any:
    return page.locator("figure.pair").filter(has=page.locator(f'[title="{pair_id}"]'))


def _slide(page: Any, name: str, value: int) -> None:
    slider = page.locator(f"#set-{name} input[type=range]")
    slider.evaluate(
        "(it, value) => { it.value = value; it.dispatchEvent(new Event('input')); }", str(value)
    )


def _exported(page: Any, path: Path) -> dict[str, Any]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Export decisions").click()
    download.value.save_as(path)
    told: dict[str, Any] = json.loads(path.read_text())
    return told


def test_what_is_decided_on_the_page_is_what_the_exported_file_does(
    subject: Subject, page: Any, tmp_path: Path
) -> None:
    _write(tmp_path / "out", subject)
    page.goto((tmp_path / "out" / "report.html").as_uri())
    output = page.locator("#set-birds output")
    assert "by the cascade: 1 images overlap (10.00%)" in output.inner_text()
    _card(page, "p0").get_by_role("button", name="Reject").click()
    _card(page, "p3").get_by_role("button", name="Accept").click()
    _card(page, "p6").focus()
    page.keyboard.press("r")
    _slide(page, "birds", 40)
    # e1 by the threshold, e2 by hand; e0 is left by p0 by hand and by p1 at 60 bits.
    assert "PDQ within 40: 2 images overlap" in output.inner_text()
    assert page.locator("#set-cars output").inner_text().startswith("by the cascade: 1 images")
    file = _exported(page, tmp_path / "decisions.json")
    assert file["sets"] == {"birds": {"pdq_distance": 40}}
    assert [(p["pair_id"], p["verdict"]) for p in file["pairs"]] == [
        ("p0", "reject"),
        ("p3", "accept"),
        ("p6", "reject"),
    ]
    taken = decisions.read(tmp_path / "decisions.json")
    assert taken.audit == decisions.digest(subject.overlaps())
    rows = decisions.apply(_table(ROWS), taken).rows.to_pylist()
    assert {r["pair_id"] for r in rows if r["verdict"] == "overlap"} == {"p2", "p3", HOSTILE}


def test_decisions_outlive_a_reload_and_can_be_taken_back(
    subject: Subject, page: Any, tmp_path: Path
) -> None:
    _write(tmp_path / "out", subject)
    page.goto((tmp_path / "out" / "report.html").as_uri())
    _card(page, "p2").get_by_role("button", name="Accept").click()
    _slide(page, "cars", 20)
    page.reload()
    assert _card(page, "p2").locator(".verdict").inner_text() == "overlap, by hand"
    assert page.locator("#count").inner_text() == "decided: pairs 1, thresholds 1"
    _card(page, "p2").get_by_role("button", name="Accept").click()
    page.locator("#set-cars").get_by_role("button", name="Leave it to the cascade").click()
    assert _exported(page, tmp_path / "none.json")["pairs"] == []
    assert decisions.read(tmp_path / "none.json").thresholds == {}


def test_a_page_with_decisions_begins_with_them(
    subject: Subject, page: Any, tmp_path: Path
) -> None:
    _write(tmp_path / "first", subject)
    page.goto((tmp_path / "first" / "report.html").as_uri())
    _card(page, "p1").get_by_role("button", name="Reject").click()
    _slide(page, "birds", 1)
    _exported(page, tmp_path / "decisions.json")
    told = _write(tmp_path / "second", subject, decisions=str(tmp_path / "decisions.json"))
    page.goto((tmp_path / "second" / "report.html").as_uri())
    count = next(s["overlapping"] for s in told["sets"] if s["evalset"] == "birds")
    assert f"PDQ within 1: {count} images" in page.locator("#set-birds output").inner_text()
    again = _exported(page, tmp_path / "again.json")
    assert again == json.loads((tmp_path / "decisions.json").read_text())


def test_the_count_agrees_with_the_file_when_most_pairs_are_not_shown(
    subject: Subject, page: Any, tmp_path: Path
) -> None:
    _write(tmp_path / "out", subject, max_thumbnails=2)
    page.goto((tmp_path / "out" / "report.html").as_uri())
    # p0 and p2 are shown; p1 is another pair of e0.
    page.locator("#set-birds .reject").nth(0).click()
    for distance in (0, 39, 40, 59, 60, 90, 256):
        _slide(page, "birds", distance)
        _exported(page, tmp_path / "decisions.json")
        taken = decisions.read(tmp_path / "decisions.json")
        rows = decisions.apply(_table(ROWS), taken).rows.to_pylist()
        found = {r["eval_id"] for r in rows if (r["source"], r["verdict"]) == ("birds", "overlap")}
        told = page.locator("#set-birds output").inner_text()
        assert f"PDQ within {distance}: {len(found)} images" in told


def test_the_filter_shows_the_pairs_of_one_verdict(
    subject: Subject, page: Any, tmp_path: Path
) -> None:
    _write(tmp_path / "out", subject)
    page.goto((tmp_path / "out" / "report.html").as_uri())
    page.locator("#filter").select_option("candidate")
    assert page.locator("figure.pair:visible").count() == 2
    page.locator("figure.pair:visible").first.focus()
    page.keyboard.press("a")
    assert page.locator("figure.pair:visible").count() == 1
    page.locator("#filter").select_option("decided")
    assert page.locator("figure.pair:visible").count() == 1


def test_hostile_names_and_captions_run_nothing_and_fetch_nothing(
    subject: Subject, page: Any, tmp_path: Path
) -> None:
    _write(tmp_path / "out", subject)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text))
    page.goto((tmp_path / "out" / "report.html").as_uri())
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.hacked") is None
    assert page.context.asked == []
    assert errors == []
    assert page.locator(".caption").first.inner_text().startswith("</script>")
    _card(page, "p6").get_by_role("button", name="Reject").click()
    (pair,) = _exported(page, tmp_path / "decisions.json")["pairs"]
    assert pair["eval_id"] == "__proto__"
