"""Wikipedia, pageviews and WordNet -> words, bigrams, titles, queries"""

from collections import Counter
from typing import Any

from pyspark.sql import DataFrame
from pyspark.storagelevel import StorageLevel

from jobs import sources
from jobs.ledger import Ledger
from jobs.run import Run
from pipeline.errors import BadInput
from pipeline.schemas import TITLES
from queries import (
    bigrams,
    blocklist,
    combine,
    dump,
    multistream,
    pageviews,
    tally,
    titles,
    words,
)
from queries.wordnet import synset_names


def main(run: Run) -> None:
    settings = run.settings.derive
    dumps = sources.expand(settings.dumps)
    if not dumps:
        raise BadInput("derive.dumps is empty: name at least one pages-articles XML dump")
    blocked = blocklist.load(settings.blocklist)
    names: list[str] = []
    if settings.wordnet is not None:
        names = synset_names(settings.wordnet, settings.wordnet_names)

    viewed = sources.expand(settings.pageviews)
    pageviews.check(viewed)
    indexes = _indexes(run, dumps)

    pages = dump.pages(run.spark, dumps, settings.dbname, settings.split_bytes)
    # On disk: the text of all of Wikipedia is larger than a machine's memory.
    pages = pages.persist(StorageLevel.DISK_ONLY)
    notes = _count_pages(run, pages, dumps, indexes)

    texts = words.texts(pages)
    run.write("words", words.words(texts))
    counts = run.read("words")
    total, distinct = words.total(counts)
    vocabulary = words.frequent(counts, settings.min_word_count)
    notes |= {"tokens": total, "distinct_words": distinct}

    with run.watch("bigrams"):
        pairs = bigrams.bigrams(texts, vocabulary, settings.min_bigram_count)
    ranked = bigrams.scored(pairs, vocabulary, total)
    run.write_arrow("bigrams", ranked, Ledger(ranked.num_rows, ranked.num_rows))
    best = bigrams.best(ranked, settings.min_pmi, settings.max_bigrams)

    named, notes["titles"] = _titles(run, pages, viewed)
    pages.unpersist()

    offered: dict[str, Any] = {
        "word": sorted(vocabulary.items(), key=lambda entry: (-entry[1], entry[0])),
        "bigram": _scored(best, "bigram", "pmi"),
        "wordnet": [(name, None) for name in names],
        "integer": [(n, None) for n in combine.INTEGERS if settings.integers],
        "title": _scored(named, "query", "views"),
    }
    table, rows_in, dropped = combine.combine(
        offered, blocked, settings.max_queries, settings.max_query_tokens
    )
    notes["offered"] = {source: len(entries) for source, entries in offered.items()}
    notes["bigrams"] = ranked.num_rows
    run.write_arrow("queries", table, Ledger(rows_in, table.num_rows, dropped, notes))


def _indexes(run: Run, dumps: list[str]) -> dict[str, int]:
    """How many pages each dump holds that lies beside its multistream index."""
    listed = {}
    for path in dumps:
        index = multistream.index_of(path)
        try:
            if index is not None:
                listed[path] = multistream.pages_listed(index)
        except BadInput as error:  # it is only a check
            run.progress.say(f"derive: {error}")
    return listed


def _count_pages(
    run: Run, pages: DataFrame, dumps: list[str], indexes: dict[str, int]
) -> dict[str, Any]:
    """Read the dumps, and say what they are made of and what was lost of them."""
    with run.watch("articles"):
        found = tally.table(pages, "dump", "kind", "is_mended")
    of_dumps: list[Counter[str]] = [Counter() for _ in dumps]
    for row in found:
        of_dumps[row["dump"]][row["kind"]] += row["count"]
    kinds = sum(of_dumps, Counter())
    if not kinds.get("article"):
        told = "".join(f", {kind} {count:,}" for kind, count in sorted(kinds.items()))
        raise BadInput(f"derive.dumps: no article in {', '.join(dumps)}{told}: name others")
    notes: dict[str, Any] = {"pages": dict(sorted(kinds.items()))}
    notes["mended_utf8"] = sum(row["count"] for row in found if row["is_mended"])
    for path, of_dump in zip(dumps, of_dumps, strict=True):
        lost = {kind: n for kind, n in of_dump.items() if kind in dump.PROBLEMS}
        if lost:
            told = ", ".join(f"{kind} {count:,}" for kind, count in lost.items())
            run.progress.say(f"derive: {path} is not whole ({told}): the rest is read")
        if path in indexes:
            listed, whole = indexes[path], of_dump.total() - sum(lost.values())
            notes.setdefault("index", {})[path] = {"listed": listed, "read": whole}
            if listed != whole:
                run.progress.say(
                    f"derive: {path} holds {whole:,} pages, its index lists {listed:,}: "
                    "fetch the dump again, or go on with what it holds"
                )
    return notes


def _titles(run: Run, pages: DataFrame, paths: list[str]) -> tuple[Any, dict[str, int]]:
    """The most viewed titles, as queries, and what they were chosen among."""
    settings = run.settings.derive
    if not paths:
        run.write_arrow("titles", TITLES.empty_table(), Ledger(0, 0))
        return TITLES.empty_table(), {}
    views, broken = pageviews.views(run.spark, paths, settings.domains)
    run.write("titles", titles.titles(views, pages), reasons=pageviews.REASONS)
    for path in sorted(broken.value):
        run.progress.say(f"derive: {path} breaks off: what comes before is read")
    if not run.rows("titles"):
        reasons = ", ".join(f"{why} {n:,}" for why, n in run.manifest("titles")["dropped"].items())
        raise BadInput(
            f"derive.pageviews: no line is of an article ({reasons}): correct derive.domains"
        )
    return titles.best(run.read("titles"), settings.min_title_views, settings.max_queries)


def _scored(table: Any, text: str, score: str) -> list[tuple[str, float]]:
    return list(zip(table[text].to_pylist(), table[score].to_pylist(), strict=True))
