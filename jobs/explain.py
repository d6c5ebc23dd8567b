"""Explain: why a text is in the list of queries, or is not.

reads   words, bigrams, titles, queries; the blocklist and WordNet
writes  nothing
"""

import shutil
import sys
from collections import Counter
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from rich.console import Console
from rich.table import Table as Grid

from jobs.run import Run
from jobs.walk import STAGES
from pipeline import parquet_files
from pipeline.errors import BadInput
from pipeline.schemas import TABLES
from pipeline.settings import DeriveSettings
from pipeline.text import normalise
from queries import blocklist
from queries.combine import INTEGERS
from queries.titles import without_suffix
from queries.wordnet import synset_names

State = Literal["offers it", "does not", "unknown", "blocks it"]
_STYLES: dict[State, str] = {"offers it": "green", "unknown": "yellow", "blocks it": "red"}
_SHOWN = 5
"""Titles of one kind that are told one by one."""


class Evidence(NamedTuple):
    """What one source, or the blocklist, says of a query."""

    source: str
    state: State
    why: str


class Explanation(NamedTuple):
    """Why a query is in the list, or is not."""

    verdict: str
    evidence: list[Evidence]
    remarks: list[str]


def show(run: Run, text: str) -> None:
    """Print why `text` is in the list, or is not. Raises MissingTable before it was made."""
    told = explain(run, text)
    # A pipe has no width: lines are not cut there.
    width = shutil.get_terminal_size((160, 50)).columns
    width = width if sys.stdout.isatty() else max(width, 160)
    console = Console(highlight=False, markup=False, width=width)
    console.print(told.verdict, style="bold")
    for remark in told.remarks:
        console.print(remark, style="dim")
    grid = Grid(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for line in told.evidence:
        grid.add_row(line.source, line.state, line.why, style=_STYLES.get(line.state, ""))
    if told.evidence:
        console.print()
        console.print(grid)


def explain(run: Run, text: str) -> Explanation:
    """What every source says of `text`, and what became of it."""
    for table in ("words", "bigrams", "titles", "queries"):
        run.manifest(table)
    settings, query = made_with(run), normalise(text)
    remarks = [f'looked for as "{query}"'] if query not in ("", text) else []
    remarks += _doubts(run)
    tokens = query.split()
    if not tokens:
        verdict = "not in the list: it holds no letter and no number, and nothing else is kept"
        return Explanation(verdict, [], remarks)
    if len(tokens) > settings.max_query_tokens:
        verdict = f"not in the list: it has {len(tokens)} tokens, "
        verdict += f"{settings.max_query_tokens} at most are taken (derive.max_query_tokens)"
        return Explanation(verdict, [], remarks)
    found = _rows(run, "words", pc.field("word").isin(tokens))
    counts = {row["word"]: row["count"] for row in found}
    evidence = [
        of_word(query, counts, settings),
        of_bigram(query, counts, _pair(run, query, settings), settings),
        of_title(query, _titles(run, query) if settings.pageviews else None, settings),
        of_wordnet(query, settings),
        of_integer(query, settings),
        of_blocklist(query, settings),
    ]
    listed = _rows(run, "queries", pc.field("query") == query)
    if listed:
        verdict = in_the_list(listed[0], of_source=len(_scores(run, listed[0]["source"])))
    else:
        is_full = run.rows("queries") >= settings.max_queries
        last_title = pc.min(_scores(run, "title")).as_py()
        verdict = not_in_the_list(evidence, settings, last_title, is_full)
    return Explanation(verdict, evidence, remarks)


def of_word(query: str, counts: dict[str, int], settings: DeriveSettings) -> Evidence:
    """`counts` holds the tokens of `query` that occur."""
    if " " in query:
        return Evidence("word", "does not", f"it is {len(query.split())} words, not one")
    count, needed = counts.get(query, 0), settings.min_word_count
    why = f"occurs {_counted(count, 'time')}; {needed:,} needed (derive.min_word_count)"
    return Evidence("word", "offers it" if count >= needed else "does not", why)


class Pair(NamedTuple):
    """A frequent bigram among the others."""

    times: int
    pmi: float
    rank: int
    of: int
    last_pmi: float | None
    """Of the last bigram that is taken; None where this one is, or none."""


def of_bigram(
    query: str, counts: dict[str, int], pair: Pair | None, settings: DeriveSettings
) -> Evidence:
    """`pair` is None for what is no frequent bigram."""
    words = query.split(" ")
    if len(words) != 2:
        return Evidence("bigram", "does not", "it is not two words")
    needed = settings.min_word_count
    rare = [word for word in dict.fromkeys(words) if counts.get(word, 0) < needed]
    if rare:
        seen = [f'"{word}" occurs {_counted(counts.get(word, 0), "time")}' for word in rare]
        why = f"{' and '.join(seen)}; {needed:,} needed of each (derive.min_word_count)"
        return Evidence("bigram", "does not", why)
    if pair is None:
        least = settings.min_bigram_count
        why = f"stands side by side fewer than {least:,} times (derive.min_bigram_count)"
        return Evidence("bigram", "does not", why)
    is_high, is_best = pair.pmi >= settings.min_pmi, pair.rank <= settings.max_bigrams
    why = f"occurs {_counted(pair.times, 'time')}; PMI {pair.pmi:.2f}, "
    why += f"{settings.min_pmi:g} needed (derive.min_pmi); rank {pair.rank:,} of {pair.of:,}, "
    why += f"the best {settings.max_bigrams:,} offered (derive.max_bigrams)"
    if is_high and pair.last_pmi is not None:
        why += f", down to a PMI of {pair.last_pmi:.2f}"
    return Evidence("bigram", "offers it" if is_high and is_best else "does not", why)


def of_title(query: str, rows: list[dict[str, Any]] | None, settings: DeriveSettings) -> Evidence:
    """`rows` are the titles that give `query`, and those that are only spelt like it."""
    if rows is None:
        return Evidence("title", "does not", "no pageviews are read (derive.pageviews)")
    volumes: Counter[str] = Counter()
    for row in rows:
        if row["query"] == query:
            volumes[row["article"]] += row["views"]
    best = sorted(volumes.items(), key=lambda entry: (-entry[1], entry[0]))
    lines = [f'"{name}" has {_counted(n, "view")}{_by_redirects(name, rows)}' for name, n in best]
    lines = _shortened(lines, "articles of that name")
    rule = f"{settings.min_title_views:,} needed (derive.min_title_views)"
    if best[1:]:
        lines.append(f"the most viewed of them counts; {rule}")
    elif best:
        lines[0] += f"; {rule}"
    others = [row for row in rows if row["query"] != query]
    others.sort(key=lambda row: (-row["views"], row["title"]))
    lines += _shortened([_elsewhere(row) for row in others], "titles spelt so")
    is_offered = bool(best) and best[0][1] >= settings.min_title_views
    why = "\n".join(lines) or "no title that was viewed is called so"
    return Evidence("title", "offers it" if is_offered else "does not", why)


def _by_redirects(article: str, rows: list[dict[str, Any]]) -> str:
    """How many views of an article are those of redirects to it."""
    redirects = [r for r in rows if r["article"] == article and r["title"] != article]
    if not redirects:
        return ""
    redirects.sort(key=lambda row: (-row["views"], row["title"]))
    names = _shortened([f'"{row["title"]}"' for row in redirects], "redirects")
    return f", {sum(r['views'] for r in redirects):,} of them by {', '.join(names)}"


def _elsewhere(row: dict[str, Any]) -> str:
    """Where the views of a title go that is spelt like a query and gives another."""
    views = _counted(row["views"], "view")
    if row["title"] == row["article"]:
        return f'"{row["title"]}" has {views}, as the query "{row["query"]}"'
    return f'"{row["title"]}" is a redirect: {views} for "{row["article"]}"'


def _counted(number: int, of: str) -> str:
    return f"{number:,} {of}{'' if number == 1 else 's'}"


def _shortened(lines: list[str], what: str) -> list[str]:
    rest = len(lines) - _SHOWN
    return lines if rest <= 0 else [*lines[:_SHOWN], f"{rest:,} more {what}"]


def of_wordnet(query: str, settings: DeriveSettings) -> Evidence:
    """Read from the folder that the list was made with, if it is still there."""
    if settings.wordnet is None:
        return Evidence("wordnet", "does not", "WordNet is not read (derive.wordnet)")
    try:
        names = synset_names(settings.wordnet, settings.wordnet_names)
    except BadInput as error:
        return Evidence("wordnet", "unknown", str(error))
    spelt = next((name for name in names if normalise(name) == query), None)
    if spelt is None:
        return Evidence("wordnet", "does not", "no synset has it for its first name")
    return Evidence("wordnet", "offers it", f'"{spelt}" is the first name of a synset')


def of_integer(query: str, settings: DeriveSettings) -> Evidence:
    """The integers are a source only where the settings say so."""
    if not settings.integers:
        return Evidence("integer", "does not", "integers are no source (derive.integers)")
    why = f"it is {'one' if query in INTEGERS else 'none'} of {INTEGERS[0]} to {INTEGERS[-1]}"
    return Evidence("integer", "offers it" if query in INTEGERS else "does not", why)


def of_blocklist(query: str, settings: DeriveSettings) -> Evidence:
    """Which line of the blocklist blocks `query`."""
    if settings.blocklist is None:
        return Evidence("blocklist", "does not", "there is none (derive.blocklist)")
    try:
        line = blocklist.load(settings.blocklist).line(query)
    except BadInput as error:
        return Evidence("blocklist", "unknown", str(error))
    if line is None:
        return Evidence("blocklist", "does not", f"no line of {settings.blocklist} fits")
    return Evidence("blocklist", "blocks it", f"the line `{line}` of {settings.blocklist}")


def in_the_list(listed: dict[str, Any], *, of_source: int) -> str:
    """`of_source` are the queries that its source gave."""
    source = listed["source"]
    told = f"in the list: query_id {listed['query_id']}, from {source}"
    told += f" (rank {listed['rank']:,} of {of_source:,})"
    if listed["score"] is not None:
        told += f", score {listed['score']:,.2f}".removesuffix(".00")
    also = [name for name in listed["sources"] if name != source]
    return f"{told}; also offered by {' and '.join(also)}" if also else told


def not_in_the_list(
    evidence: list[Evidence], settings: DeriveSettings, last_title: float | None, is_full: bool
) -> str:
    """What kept a query out that may be one. `last_title` are the lowest views of those taken."""
    offering = [line.source for line in evidence if line.state == "offers it"]
    by = f"{' and '.join(offering)} {'offer' if offering[1:] else 'offers'} it"
    blocked = [line.why for line in evidence if line.state == "blocks it"]
    # Titles come last: where one was taken, the budget was enough for all other sources.
    is_over = is_full and (last_title is None or offering == ["title"])
    if not offering:
        is_sure = all(line.state != "unknown" for line in evidence)
        why = "no source offers it" if is_sure else "no source that can still be read offers it"
    elif blocked:
        why = f"{by}, but {blocked[0]} blocks it"
    elif is_over:
        why = f"{by}, but the budget of {settings.max_queries:,} was spent (derive.max_queries)"
        why += "" if last_title is None else f"; the last title taken has {last_title:,.0f} views"
    else:
        why = f"{by} today, but the list was made from other files"
    return f"not in the list: {why}"


def made_with(run: Run) -> DeriveSettings:
    """The settings that the list was made with: those of the run may have changed since."""
    kept = run.manifest("queries")["settings"].get("derive", {})
    known = {key: value for key, value in kept.items() if key in DeriveSettings.model_fields}
    return DeriveSettings(**known)


def _doubts(run: Run) -> list[str]:
    stage = next(stage for stage in STAGES if "queries" in stage.writes)
    if stage.is_fresh(run):
        return []
    return [f"the list is out of date, and explained as it is: `wit derive --run {run.root}`"]


def _dataset(run: Run, table: str) -> ds.Dataset:
    return parquet_files.dataset(run.files(table), TABLES[table].schema)


def _rows(run: Run, table: str, condition: pc.Expression) -> list[dict[str, Any]]:
    return list(_dataset(run, table).to_table(filter=condition).to_pylist())


def _scores(run: Run, source: str) -> pa.ChunkedArray:
    """Of the queries that a source gave."""
    is_from = pc.field("source") == source
    return _dataset(run, "queries").to_table(columns=["score"], filter=is_from)["score"]


def _pair(run: Run, query: str, settings: DeriveSettings) -> Pair | None:
    pmi, text = pc.field("pmi"), pc.field("bigram")
    found = _rows(run, "bigrams", text == query)
    if not found:
        return None
    own = found[0]["pmi"]
    pairs = _dataset(run, "bigrams")
    is_better = (pmi > own) | ((pmi == own) & (text < query))
    rank = pairs.count_rows(filter=is_better) + 1
    # The table is in the order of rank.
    best = pairs.head(settings.max_bigrams, columns=["pmi"])["pmi"].to_pylist()
    last = best[-1] if best and rank > len(best) else None
    return Pair(found[0]["count"], own, rank, run.rows("bigrams"), last)


def _titles(run: Run, query: str) -> list[dict[str, Any]]:
    """The titles that give `query`, and those that are spelt like it, suffix or not."""
    # Arrow knows no `normalise`. This finds a little more, which is then looked at one by one.
    between = r"[^\pL\pN\pM]"
    spelt = f"{between}+".join(query.split(" "))
    spelt = rf"(?i)^{between}*{spelt}{between}*(\([^()]*\)\s*)?$"
    plain = pc.utf8_normalize(pc.field("title"), "NFKC")
    may_be = (pc.field("query") == query) | pc.match_substring_regex(plain, spelt)
    return [
        row
        for row in _rows(run, "titles", may_be)
        if row["query"] == query
        or query in (normalise(row["title"]), normalise(without_suffix(row["title"])))
    ]
