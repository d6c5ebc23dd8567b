"""Report: the whole run on one page that a person reads, `report.html`."""

import json
import tarfile
from collections import Counter
from typing import Any

import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined

from jobs import coverage_summary, pictures, plan_report, scores_page
from jobs.ledger import TRIED_AGAIN
from jobs.query_summary import summary
from jobs.run import MANIFEST, Run
from jobs.training_curve import training_curve
from jobs.walk import STAGES
from pipeline import parquet_files, storage
from pipeline.schemas import TABLES
from pipeline.storage import Place

_SAMPLES_SHOWN = 12
_HOSTS_SHOWN = 12
_REASONS_SHOWN = 5
"""Of a bar: a reader tells no more colours apart."""
_FUNNEL = (
    ("candidates", "candidates"),
    ("matched", "matched to a query"),
    ("drawn", "drawn for download"),
    ("images", "downloaded"),
    ("deduped", "after dedup"),
    ("balanced", "within the caps"),
    ("shards", "in shards"),
)


def render(template: str, **values: Any) -> str:
    """A page from one of the templates; a value that is missing stops it."""
    loader = PackageLoader("jobs", "templates")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    pages.filters["number"] = lambda value: f"{value:,}"
    pages.filters["percent"] = lambda value: f"{100 * value:.1f}%"
    return pages.get_template(template).render(**values)


def write_report(run: Run) -> Place:
    """Write the page from whatever tables there are."""
    manifests = {name: run.find_manifest(name) for name in TABLES}
    there = {name: manifest for name, manifest in manifests.items() if manifest is not None}
    page = render(
        "report.html.j2",
        root=run.root.name,
        run=str(run.root),
        confidence=run.settings.audit.confidence,
        funnel=_funnel(there),
        tables=_tables(there),
        plan=plan_report.summary(run),
        queries=summary(run) if "queries" in there else None,
        coverage=coverage_summary.summary(run) if "counts" in there else None,
        download=_download(there),
        placeholders=_placeholders(run, there),
        placeholder_urls=run.settings.dedup.placeholder_urls,
        audit=_json(run.path("audit") / "summary.json") if "audit" in there else None,
        training=_training(run),
        scores=_scores(run) if "scores" in there else None,
        samples=_samples(run, there),
        planted=_json(run.root / "planted.json"),
        missing=[s.verb for s in STAGES if any(t not in there for t in s.writes)],
    )
    path = run.root / "report.html"
    storage.put(path, page)
    return path


def _json(path: Place) -> Any:
    try:
        return json.loads(storage.read(path))
    except FileNotFoundError:
        return None


def _funnel(there: dict[str, dict[str, Any]]) -> str | None:
    rows = {name: manifest["rows"] for name, manifest in there.items()}
    if "images" in there:
        rows["drawn"] = _links(there["images"])
    steps = [(label, rows[name]) for name, label in _FUNNEL if name in there]
    if not steps:
        return None
    return pictures.bars([label for label, _ in steps], [n for _, n in steps], unit="pairs")


def _tables(there: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "folder": TABLES[name].folder,
            "rows_in": manifest["rows_in"],
            "rows": manifest["rows"],
            "dropped": sorted(manifest["dropped"].items(), key=lambda entry: -entry[1]),
            "seconds": manifest["seconds"],
            "rate": manifest["rows_in"] / manifest["seconds"] if manifest["seconds"] else None,
        }
        for name, manifest in there.items()
    ]


def _links(images: dict[str, Any]) -> int:
    """The pairs that were asked for in any round: a row that was tried again has another."""
    return int(images["rows_in"] - images["dropped"].get(TRIED_AGAIN, 0))


def _download(there: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    if "images" not in there:
        return None
    manifest = there["images"]
    failed = {why: n for why, n in manifest["dropped"].items() if why != TRIED_AGAIN}
    ordered = sorted({"success": manifest["rows"], **failed}.items(), key=lambda entry: -entry[1])
    rounds = manifest["notes"].get("rounds", [])
    return {
        "picture": pictures.bars([n for n, _ in ordered], [c for _, c in ordered], unit="pairs"),
        "links": _links(manifest),
        "rows": manifest["rows"],
        "rounds": [_round(number, told) for number, told in enumerate(rounds, 1)],
        "by_round": _by_round(rounds),
        "hosts": _hosts(rounds),
    }


def _round(number: int, told: dict[str, Any]) -> dict[str, Any]:
    """One round of the download, with its rates where it was not interrupted."""
    seconds, received = told["seconds"], told["received_bytes"]
    return {
        **told,
        "number": number,
        "share": told["successes"] / max(told["rows"], 1),
        "received_mb": received / 1e6,
        "stored_mb": told["image_bytes"] / 1e6,
        "images_per_second": told["successes"] / seconds if seconds else None,
        "mb_per_second": received / 1e6 / seconds if seconds else None,
        "failures": sorted(told["reasons"].items(), key=lambda entry: -entry[1]),
    }


def _by_round(rounds: list[dict[str, Any]]) -> str | None:
    """What became of the links of each round."""
    if not rounds:
        return None
    sums: Counter[str] = Counter()
    for told in rounds:
        sums.update(told["reasons"])
    parts = {"success": [told["successes"] for told in rounds]}
    shown = [reason for reason, _ in sums.most_common(_REASONS_SHOWN)]
    for reason in shown:
        parts[reason] = [told["reasons"].get(reason, 0) for told in rounds]
    if len(sums) > len(shown):
        rest = sums.keys() - set(shown)
        parts["other"] = [sum(told["reasons"].get(why, 0) for why in rest) for told in rounds]
    names = [f"round {number}" for number in range(1, len(rounds) + 1)]
    return pictures.stacked(names, parts, unit="links asked for", first="success")


def _hosts(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The hosts with the most failures in all rounds."""
    sums, asked = Counter[str](), Counter[str]()
    for told in rounds:
        sums.update(told["hosts"])
        asked.update(told["asked"])
    return [
        {
            "host": host,
            "asked": asked[host],
            "failures": count,
            "rounds": [told["hosts"].get(host, 0) for told in rounds],
        }
        for host, count in sums.most_common(_HOSTS_SHOWN)
    ]


def _placeholders(run: Run, there: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The error images that were found under many addresses."""
    if "dropped" not in there or "images" not in there:
        return []
    dropped = run.read_arrow("dropped", ["reason", "rival"])
    errors = dropped.filter(pc.equal(dropped.column("reason"), "placeholder"))
    most = pc.value_counts(errors.column("rival")).to_pylist()[:6]
    found = pictures.downloaded(run, [entry["values"] for entry in most])
    return [{"count": entry["counts"], "picture": found[entry["values"]].picture} for entry in most]


def _training(run: Run) -> dict[str, Any] | None:
    if storage.is_remote(run.root):  # a training has a run on a disk
        return None
    settings, folder = run.settings.train, run.folder("checkpoints")
    curve = training_curve(folder, settings.batch_size)
    if curve is None:
        return None
    return {**curve, "model": settings.model, "is_done": (folder / MANIFEST).exists()}


def _scores(run: Run) -> dict[str, Any]:
    return scores_page.shown(_json(run.path("scores") / "scores.json"))


def _samples(run: Run, there: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The first samples of the first shard: a random sample, since the pairs come by hash."""
    if "shards" not in there:
        return []
    files = run.files("shards")
    if not files:
        return []
    (table,) = parquet_files.tables(files[:1], ["pair_id", "caption"])
    rows: list[dict[str, Any]] = table.slice(0, _SAMPLES_SHOWN).to_pylist()
    with (
        storage.opened(files[0].with_suffix(".tar")) as opened,
        tarfile.open(fileobj=opened) as tar,
    ):
        for row in rows:
            stream = tar.extractfile(f"{row['pair_id']}.jpg")
            row["picture"] = pictures.thumbnail(stream.read()) if stream is not None else None
    return rows
