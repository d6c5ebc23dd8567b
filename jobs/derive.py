"""Wikipedia, pageviews and WordNet -> queries"""

from typing import Any

from jobs.run import Ledger, Run
from pipeline.errors import BadInput
from queries import bigrams, combine, dump, tally, titles, wordnet, words


def main(run: Run) -> None:
    settings = run.settings.derive
    if not settings.dumps:
        raise BadInput("derive.dumps is empty: name at least one pages-articles XML dump")
    with run.progress.watch(run.spark, "articles"):
        pages = dump.pages(run.spark, settings.dumps, settings.dbname).cache()
        kinds = tally.by(pages, "kind")
    if not kinds.get("article"):
        raise BadInput(f"derive.dumps: no article in {', '.join(settings.dumps)}: name others")
    with run.progress.watch(run.spark, "words"):
        counts = words.words(pages).cache()
        total, distinct = words.total(counts)
        vocabulary = tally.counts(words.frequent(counts, settings.min_word_count))
    with run.progress.watch(run.spark, "bigrams"):
        found = tally.counts(bigrams.bigrams(pages, vocabulary, settings.min_bigram_count))
    best = bigrams.best(found, vocabulary, total, settings.max_bigrams)
    offered: dict[str, Any] = {"word": list(vocabulary.items()), "bigram": best}
    notes: dict[str, Any] = {"pages": kinds, "tokens": total, "distinct_words": distinct}
    if settings.pageviews:
        with run.progress.watch(run.spark, "titles"):
            lines = titles.views(run.spark, settings.pageviews, settings.domains)
            notes["pageview_lines"] = tally.by(lines, "reason")
            volumes = tally.counts(titles.titles(lines, pages))
        offered["title"] = titles.above(volumes, settings.min_title_views)
    if settings.wordnet is not None:
        offered["wordnet"] = [(name, None) for name in wordnet.synset_names(settings.wordnet)]
    counts.unpersist()
    pages.unpersist()
    table, rows_in, dropped = combine.combine(
        offered, settings.max_queries, settings.max_query_tokens
    )
    notes["offered"] = {source: len(entries) for source, entries in offered.items()}
    run.write_arrow("queries", table, Ledger(rows_in, table.num_rows, dropped, notes))
