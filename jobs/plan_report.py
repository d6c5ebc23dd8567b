"""Plan and run: what `wit plan` says for a run's own candidates, beside what was measured.

Rows are planned from the number of candidates; bytes and seconds from the rows that there were, so
that an assumption that is wrong and a rate that is wrong stand apart.
"""

import os
import re
from collections.abc import Collection
from typing import Any

from jobs import jsonlines, plan, plan_rates
from jobs.jsonlines import Line
from jobs.metrics import WALK
from jobs.plan_rates import Figure, Rates
from jobs.run import Run
from jobs.walk import STAGES, Stage
from pipeline import storage
from pipeline.storage import Place

_MAIN = {"derive": "queries", "dedup": "deduped"}
"""The table that counts, where it is not the first that a stage writes."""


def main_table(stage: Stage) -> str:
    """The table whose rows are the stage's."""
    return _MAIN.get(stage.verb, stage.writes[0])


def bytes_of(folder: Place) -> int:
    """Bytes of a table's own files: no notes, no indexes."""
    return sum(
        size
        for file, size in storage.sizes(folder)
        if file.suffix in (".parquet", ".tar") and not file.name.startswith(("_", "."))
    )


def summary(run: Run) -> dict[str, Any] | None:
    """The plan beside the run, stage by stage; None before there are candidates."""
    found = {stage.verb: run.find_manifest(main_table(stage)) for stage in STAGES}
    candidates = found["ingest"]
    if candidates is None:
        return None
    rates = _with_sets_of(run, found, plan_rates.reference())
    planned = plan.planned(run.settings, float(candidates["rows"]), rates)
    told = _told(run)
    masters = {str(line["master"]) for line in told if line["event"] == "spark"}
    # --master and spark-submit leave the run's settings be.
    cores = _cores(masters or {run.settings.spark.master})
    spent = {line["verb"]: line.get("task_seconds") for line in told if line["event"] == "end"}
    lines = []
    for stage in planned.stages:
        manifest = found.get(stage.verb)
        if manifest is None:
            continue
        table = main_table(next(one for one in STAGES if one.verb == stage.verb))
        share = manifest["rows_in"] / stage.rows_in if stage.rows_in else 0.0
        per_row = stage.bytes_out / stage.rows_out if stage.rows_out else 0.0
        lines.append(
            {
                "verb": stage.verb,
                "planned_rows": round(stage.rows_out),
                "rows": manifest["rows"],
                "planned_bytes": round(per_row * manifest["rows"]),
                "bytes": bytes_of(run.path(table)),
                "planned_seconds": stage.core_seconds * share / (cores or 1),
                "seconds": manifest["seconds"] if cores else spent.get(stage.verb),
            }
        )
    return {"lines": lines, "cores": cores, "candidates": candidates["rows"]}


def _with_sets_of(run: Run, found: dict[str, Any], rates: Rates) -> Rates:
    """The rates with as many evaluation images as the run has, where that is known."""
    if found["download"] is None or found["fingerprint"] is None:
        return rates
    hashes = 1 + len(run.settings.fingerprint.variants)
    images = max(0, found["fingerprint"]["rows"] - found["download"]["rows"]) / hashes
    counted = {**rates.assumptions, "eval_images": Figure(images, "this run's own")}
    return rates._replace(assumptions=counted)


def _told(run: Run) -> list[Line]:
    """What the run tells of its stages; nothing of one that was made by an older `wit`."""
    where = run.root / WALK
    return jsonlines.whole(storage.read(where)) if storage.exists(where) else []


def _cores(masters: Collection[str]) -> int | None:
    """Those of one local session; of a cluster, or of several places, nothing is known here."""
    if len(masters) != 1:
        return None
    (master,) = masters
    found = re.fullmatch(r"local(?:\[(\d+|\*)(?:,\d+)?\])?", master)
    if found is None:
        return None
    return os.cpu_count() if found[1] == "*" else int(found[1] or 1)
