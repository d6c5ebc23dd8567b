"""Query summary: what the list of queries was made of, and where each source of it ends.

reads   queries; the manifests of titles and queries
writes  the values of the report's section on queries
"""

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from jobs import pictures
from jobs.explain import made_with
from jobs.run import Run
from pipeline.settings import DeriveSettings
from queries.dump import PROBLEMS

_SHOWN = 8
"""Queries of each source that are shown from its top, and as many from the rest of it."""


class Line(NamedTuple):
    """Something that was read; `bad` is what was lost of it."""

    label: str
    good: str
    bad: str = ""


def summary(run: Run) -> dict[str, Any]:
    """The values of the section. Notes that a run lacks, one of an older version, are left out."""
    manifest, settings = run.manifest("queries"), made_with(run)
    notes: dict[str, Any] = manifest["notes"]
    rows = run.read_arrow("queries", ["query", "source", "score"])
    offered = {name: count for name, count in notes.get("offered", {}).items() if count}
    names = dict.fromkeys([*pc.unique(rows["source"]).to_pylist(), *offered])
    sources = [_source(name, rows, offered.get(name)) for name in names]
    for source in sources:
        source["chosen"] = "; ".join(_chosen(source, manifest, settings))
    return {
        "total": manifest["rows"],
        "rows_in": manifest["rows_in"],
        "budget": settings.max_queries,
        "dropped": _most_first(manifest["dropped"]),
        "sources": sources,
        "picture": pictures.bars(
            [source["name"] for source in sources],
            [source["taken"] for source in sources],
            unit="queries taken, of those offered",
            of=[source["offered"] for source in sources],
        ),
        "read": [*_pages(notes), *_index(notes), *_text(notes), *_pageviews(run)],
    }


def _source(name: str, rows: pa.Table, offered: int | None) -> dict[str, Any]:
    """What a source gave: how many queries, the lowest score, and samples."""
    own = rows.filter(pc.equal(rows["source"], name))
    samples = own["query"].take(pa.array(places(own.num_rows), pa.int64())).to_pylist()
    return {
        "name": name,
        "taken": own.num_rows,
        "offered": own.num_rows if offered is None else offered,
        "lowest": pc.min(own["score"]).as_py(),
        "first": samples[:_SHOWN],
        "rest": samples[_SHOWN:],
    }


def places(rows: int, shown: int = _SHOWN) -> list[int]:
    """The first `shown` of so many rows, and as many spread evenly over the others."""
    rest = max(rows - shown, 0)
    few = min(rest, shown)
    spread = [shown + rest * (2 * place + 1) // (2 * few) for place in range(few)]
    return [*range(min(rows, shown)), *spread]


def _chosen(
    source: dict[str, Any], manifest: dict[str, Any], settings: DeriveSettings
) -> list[str]:
    """Where a source ends, by which rule, and among how many it was chosen."""
    notes, lowest = manifest["notes"], source["lowest"]
    if not source["taken"]:
        return ["none was taken"]
    if source["name"] == "word":
        told = [f"down to {lowest:,.0f} occurrences (at least {settings.min_word_count:,})"]
        if "distinct_words" in notes:
            told.append(f"of {notes['distinct_words']:,} distinct words")
        return told
    if source["name"] == "bigram":
        rule = f"at least {settings.min_pmi:g}, the best {settings.max_bigrams:,}"
        told = [f"down to a PMI of {lowest:.2f} ({rule})"]
        if "bigrams" in notes:
            least = settings.min_bigram_count
            told.append(f"of {notes['bigrams']:,} side by side at least {least:,} times")
        return told
    if source["name"] == "title":
        return _chosen_titles(source, manifest, settings)
    if source["name"] == "wordnet" and settings.wordnet_names == "metaclip":
        return ["the first name of every synset, cut at its first dot"]
    return ["the first name of every synset"] if source["name"] == "wordnet" else ["all"]


def _chosen_titles(
    source: dict[str, Any], manifest: dict[str, Any], settings: DeriveSettings
) -> list[str]:
    among = manifest["notes"].get("titles", {})
    rule = f"at least {settings.min_title_views:,}"
    if "articles" in among and "above volume" in among:
        rule += f", as {among['above volume']:,} of {among['articles']:,} viewed articles have"
    told = [f"down to {source['lowest']:,.0f} views ({rule})"]
    # Titles come last: where one was taken, all that is over the budget are titles.
    over = manifest["dropped"].get("over the budget", 0)
    over += max(among.get("queries", 0) - source["offered"], 0)
    told.append(f"{over:,} names over the budget")
    return told


def _pages(notes: dict[str, Any]) -> list[Line]:
    pages: dict[str, int] = notes.get("pages", {})
    if not pages:
        return []
    good = {kind: count for kind, count in pages.items() if kind not in PROBLEMS}
    lost = {kind: count for kind, count in pages.items() if kind in PROBLEMS}
    if notes.get("mended_utf8"):
        lost["mended UTF-8"] = notes["mended_utf8"]
    return [Line("pages of the dumps", _counts(good), _counts(lost))]


def _index(notes: dict[str, Any]) -> list[Line]:
    """The dumps that hold other pages than their index lists, and how many hold just those."""
    index: dict[str, dict[str, int]] = notes.get("index", {})
    if not index:
        return []
    whole = {path: told for path, told in index.items() if told["listed"] == told["read"]}
    pages = sum(told["read"] for told in whole.values())
    good = f"{len(whole):,} of {len(index):,} dumps hold the {pages:,} pages listed"
    bad = [
        f"{Path(path).name} holds {told['read']:,} of {told['listed']:,}"
        for path, told in index.items()
        if path not in whole
    ]
    return [Line("multistream index", good, ", ".join(bad))]


def _text(notes: dict[str, Any]) -> list[Line]:
    if "tokens" not in notes or "distinct_words" not in notes:
        return []
    told = f"{notes['tokens']:,} words, {notes['distinct_words']:,} distinct"
    return [Line("text of the articles", told)]


def _pageviews(run: Run) -> list[Line]:
    manifest = run.find_manifest("titles")
    if manifest is None or not manifest["rows_in"]:
        return []
    dropped = dict(manifest["dropped"])
    lines = manifest["rows"] + dropped.pop("duplicate", 0)
    told = f"{manifest['rows_in']:,} lines: {lines:,} of {manifest['rows']:,} titles"
    return [Line("pageview files", f"{told}, {_counts(dropped)}" if dropped else told)]


def _counts(counted: dict[str, int]) -> str:
    return ", ".join(f"{what} {count:,}" for what, count in _most_first(counted))


def _most_first(counted: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))
