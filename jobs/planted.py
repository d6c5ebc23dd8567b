"""Planted: what a world holds of known truth, beside what a finished run made of it."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from jobs.run import Run
from jobs.world import folder
from pipeline.ingest.urls import clean_url

_LATER = ", in a later round"
_ARRIVED = ("in shards", "over the caps", "dropped")
_FATES: dict[str, Callable[[str], bool]] = {
    folder.ARRIVES: lambda fate: fate in ("in shards", "over the caps", "not drawn"),
    folder.HEALS: lambda fate: (
        fate in (f"in shards{_LATER}", f"over the caps{_LATER}", "not drawn")
    ),
    folder.FAILS: lambda fate: not fate.startswith(_ARRIVED),
    folder.UNREAD: lambda fate: fate == "not ingested",
    folder.UNMATCHED: lambda fate: fate in ("not matched", "not ingested"),
    folder.DROPPED: lambda fate: fate.startswith("dropped") or not fate.startswith(_ARRIVED),
    folder.SERVED: lambda fate: not fate.startswith("failed"),
    folder.MEASURED: lambda fate: fate.startswith("dropped"),
}


_BECAUSE = {
    "bomb": "failed: too many pixels",
    "crowded_404": "failed: not found",
    "dead_404": "failed: not found",
    "dead_410": "failed: gone",
    "error_500": "failed: server error",
    "forbidden_host": "failed: forbidden address",
    "html_as_jpeg": "failed: undecodable",
    "html_page": "failed: not an image",
    "huge_body": "failed: too large",
    "opt_out": "failed: opted out",
    "placeholder": "dropped: placeholder",
    "redirect_forbidden": "failed: forbidden address",
    "redirect_loop": "failed: too many redirects",
    "rot_404": "failed: not found",
    "rot_page": "failed: not an image",
    "short_body": "failed: incomplete",
    "stall_drip": "failed: timeout",
    "stall_silent": "failed: timeout",
    "stall_stall": "failed: timeout",
    "too_long": "failed: aspect ratio",
    "too_small": "failed: too small",
    "truncated_jpeg": "failed: truncated",
}
"""The fate of a kind that has only one, when it comes as far as the download."""
_BEFORE = ("not ingested", "not matched", "not drawn")


def _is_as_planted(kind: str, expect: str, fate: str) -> bool:
    because = "dropped: evaluation overlap" if kind.startswith("leak_") else _BECAUSE.get(kind)
    if because is not None and fate not in _BEFORE and expect != folder.MEASURED:
        return fate == because
    return _FATES[expect](fate)


@dataclass(frozen=True)
class Line:
    """One kind of the planted, and what became of it."""

    kind: str
    planted: int
    found: int
    expected: str
    became: dict[str, int]
    ok: bool


def fates(run: Run) -> dict[str, str]:
    """What became of each address of the run: how far its furthest pair came, or why not."""
    fate: dict[str, str] = {}

    def tell(table: str, word: str, pairs: set[str] | None = None) -> None:
        for row in run.read_arrow(table, ["pair_id", "url"]).to_pylist():
            if pairs is None or row["pair_id"] in pairs:
                fate[row["url"]] = word

    tell("candidates", "not matched")
    tell("matched", "not drawn")
    tries = run.read_arrow("images", ["pair_id", "url", "reason", "round"])
    tries = tries.sort_by("round").to_pylist()
    for row in tries:
        fate[row["url"]] = f"failed: {row['reason']}" if row["reason"] else "over the caps"
    url_of = {row["pair_id"]: row["url"] for row in tries}
    for row in run.read_arrow("dropped", ["pair_id", "reason"]).to_pylist():
        fate[url_of[row["pair_id"]]] = f"dropped: {row['reason']}"
    tell("shards", "in shards")
    return fate


def _healed(run: Run) -> set[str]:
    """The addresses whose image a later round got, after it failed in an earlier one."""
    tries = run.read_arrow("images", ["pair_id", "url", "reason"]).to_pylist()
    failed = {row["pair_id"] for row in tries if row["reason"]}
    return {row["url"] for row in tries if not row["reason"] and row["pair_id"] in failed}


def _as_ingested(url: str) -> str:
    """The address as candidates have it, which may spell it otherwise than a page does."""
    clean, _ = clean_url(url, len(url) * 3)
    return clean


def compare(run: Run, truth: dict[str, Any]) -> list[Line]:
    """One line for each kind that was planted."""
    fate, healed = fates(run), _healed(run)
    lines = []
    for kind, planted in sorted(truth["kinds"].items()):
        expect, urls = planted["expect"], [_as_ingested(url) for url in planted["urls"]]
        words = {url: fate.get(url, "not ingested") for url in urls}
        if expect == folder.HEALS:
            words |= {url: f"{words[url]}{_LATER}" for url in healed.intersection(urls)}
        became = Counter(words[url] for url in urls)
        if expect == folder.ONE_STAYS:
            continue
        if expect == folder.CUT:
            lines.append(_cut(run, truth, became))
            continue
        found = sum(n for word, n in became.items() if _is_as_planted(kind, expect, word))
        is_ok = found == len(urls) or expect == folder.MEASURED
        lines.append(Line(kind, len(urls), found, expect, dict(became.most_common()), is_ok))
    lines.append(_copies(fate, truth))
    return [line for line in lines if line.planted]


def _cut(run: Run, truth: dict[str, Any], became: Counter[str]) -> Line:
    """The crowded query: its pairs are exactly as many as the cap."""
    cap = run.settings.balance.max_pairs_per_query
    queries = run.read_arrow("queries", ["query"]).column("query").to_pylist()
    crowded = queries.index(truth["crowded_word"])
    counts = {row["query_id"]: row for row in run.read_arrow("coverage").to_pylist()}
    row = counts.get(crowded, {"matched": 0, "kept": 0})
    is_ok = row["kept"] == cap < row["matched"]
    expected = f"the query `{truth['crowded_word']}` keeps {cap}"
    return Line("crowded query", row["matched"], row["kept"], expected, dict(became), is_ok)


def _copies(fate: dict[str, str], truth: dict[str, Any]) -> Line:
    """Duplicates: of each group of equal pictures that arrived, one stays."""
    groups: dict[str, set[str]] = defaultdict(set)
    for copy in truth["copies"]:
        groups[copy["of"]] |= {_as_ingested(copy["of"]), _as_ingested(copy["url"])}
    became: Counter[str] = Counter()
    for urls in groups.values():
        arrived = [fate[url] for url in urls if fate.get(url, "").startswith(_ARRIVED)]
        stay = sum(not word.startswith("dropped") for word in arrived)
        became[f"groups of which {stay} stays" if arrived else "groups of which none arrived"] += 1
    found = became["groups of which 1 stays"] + became["groups of which none arrived"]
    is_ok = found == len(groups)
    return Line("groups of duplicates", len(groups), found, folder.ONE_STAYS, dict(became), is_ok)


def as_json(lines: list[Line]) -> list[dict[str, Any]]:
    """The lines as plain values."""
    return [asdict(line) for line in lines]
