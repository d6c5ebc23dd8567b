"""jobs.plan_report: the plan beside a finished run."""

import shutil
from pathlib import Path

import pytest

from jobs import jsonlines, plan_report, walk
from jobs.report import render
from jobs.run import Run
from pipeline.settings import Settings


def test_a_finished_run_stands_beside_its_plan(built: Run) -> None:
    told = plan_report.summary(built)
    assert told is not None
    verbs = [line["verb"] for line in told["lines"]]
    planned_ones = [s.verb for s in walk.STAGES if s.verb not in ("train", "evaluate")]
    assert verbs == planned_ones
    lines = {line["verb"]: line for line in told["lines"]}
    assert told["candidates"] == built.rows("candidates")
    # What the plan begins with is what there was.
    assert lines["ingest"]["planned_rows"] == lines["ingest"]["rows"]
    for stage in walk.STAGES:
        if stage.verb not in lines:
            continue
        manifest = built.manifest(plan_report.main_table(stage))
        assert lines[stage.verb]["rows"] == manifest["rows"]
        assert lines[stage.verb]["seconds"] == manifest["seconds"]
    tars = built.manifest("shards")["notes"]["bytes"]
    assert tars < lines["shard"]["bytes"] < 1.2 * tars
    # The evaluation images are the run's own, and not those of CLIP's sets.
    assert lines["fingerprint"]["planned_seconds"] < 60
    # Drawings of some 20 kB are images of 256 pixels, which the rates are of.
    assert lines["download"]["planned_bytes"] == pytest.approx(lines["download"]["bytes"], rel=0.5)
    page = (built.root / "report.html").read_text()
    assert "Plan and run" in page
    assert f"{lines['shard']['planned_rows']:,}" in page


def test_a_run_without_candidates_has_no_plan(tmp_path: Path) -> None:
    assert plan_report.summary(Run(tmp_path, Settings())) is None


def test_the_cores_of_a_cluster_are_not_guessed() -> None:
    cores = plan_report._cores
    assert [cores([master]) for master in ("local", "local[3]", "local[4,2]")] == [1, 3, 4]
    assert (cores(["local[*]"]) or 0) >= 1
    assert cores(["spark://host:7077"]) is None
    assert cores(["local[3]", "local[4]"]) is None
    plan = {"lines": [], "cores": None, "candidates": 1}
    assert "core-seconds planned" in render("plan.html.j2", plan=plan)


def test_where_a_run_was_made_is_what_it_tells_and_not_what_its_settings_say(
    built: Run, tmp_path: Path
) -> None:
    for place in (built.path("candidates"), built.path("queries")):
        shutil.copytree(place, tmp_path / place.name)
    run = Run(tmp_path, built.settings)
    assert (plan_report.summary(run) or {})["cores"]
    lines: list[dict[str, object]] = [
        {"event": "spark", "verb": "ingest", "master": "spark://head:7077"},
        {"event": "end", "verb": "ingest", "task_seconds": 12.5},
    ]
    for line in lines:
        jsonlines.append(tmp_path / "walk.jsonl", line)
    told = plan_report.summary(run)
    assert told is not None
    assert told["cores"] is None
    seconds = {line["verb"]: line["seconds"] for line in told["lines"]}
    assert seconds == {"derive": None, "ingest": 12.5}
    assert '<td class="n">12.5</td>' in render("plan.html.j2", plan=told)
