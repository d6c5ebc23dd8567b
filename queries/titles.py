"""Titles: article names above a search volume.

reads   pageview files, pages
writes  titles (title, article, query, views)

The volume of an article is its views summed over the hours, the domains, and the redirects to it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline.errors import BadInput
from pipeline.text import encodable, normalise

_NAMESPACES = (
    "special|talk|user|user_talk|wikipedia|wikipedia_talk|wp|file|file_talk|image|mediawiki|"
    "mediawiki_talk|template|template_talk|help|help_talk|category|category_talk|portal|"
    "portal_talk|draft|draft_talk|module|module_talk|timedtext|book|media|wt|h|t|p"
)
_SUFFIX = re.compile(r"\s*\([^()]*\)\s*$")
REASONS = ("malformed line", "other domain", "other namespace", "main page")
"""Why a line of a pageview file says nothing of an article."""


def views(spark: SparkSession, paths: list[str], domains: list[str]) -> DataFrame:
    """The titles of the pageview files: their views, and how many `rows` say so.

    Lines that are dropped are one row for each reason, in `dropped_for`.
    """
    for path in paths:
        if not Path(path).is_file():
            raise BadInput(f"derive.pageviews: {path} does not exist: correct the path")
    lines = spark.read.text(paths)
    parts = F.split("value", " ")
    is_whole = (F.size(parts) == 4) & F.get(parts, F.lit(2)).rlike(r"^\d{1,18}$")
    domain, title = F.get(parts, F.lit(0)), F.get(parts, F.lit(1))
    reason = (
        F.when(~is_whole, "malformed line")
        .when(~domain.isin(*domains), "other domain")
        .when(F.lower(title).rlike(f"^({_NAMESPACES}):"), "other namespace")
        .when(title.isin("Main_Page", "-", ""), "main page")
    )
    lines = lines.select(
        F.when(reason.isNull(), title).alias("title"),
        F.when(reason.isNull(), F.get(parts, F.lit(2)).cast("long")).alias("views"),
        reason.alias("dropped_for"),
    )
    return _summed(lines.withColumn("rows", F.lit(1)), "title", "dropped_for")


def titles(views: DataFrame, pages: DataFrame) -> DataFrame:
    """Each title with the article that it leads to and the query that the article would be."""
    spelt = views.mapInArrow(_spell, views.schema)
    spelt = _summed(spelt, "title", "dropped_for")
    spelt = spelt.join(_redirects(pages), on="title", how="left")
    spelt = spelt.withColumn("article", F.coalesce("target", "title")).drop("target")
    schema = "title string, dropped_for string, views long, rows long, article string, query string"
    return spelt.mapInArrow(_with_query, schema)


def best(titles: DataFrame, min_views: int, limit: int) -> tuple[pa.Table, dict[str, int]]:
    """The `limit` queries of the most viewed articles with at least `min_views`, and counts of
    what there was: articles, those above the volume, and distinct queries among them.

    Of several articles of one name ("Mercury (planet)", "Mercury (element)") the most viewed
    counts, and not their sum: none of them is the name's own volume.
    """
    articles = titles.groupBy("article", "query").agg(F.sum("views").alias("views"))
    is_above = F.col("views") >= min_views
    row = articles.agg(F.count("*"), F.sum(is_above.cast("long"))).collect()[0]
    named = articles.where(is_above & (F.col("query") != ""))
    named = named.groupBy("query").agg(F.max("views").alias("views"))
    counts = {"articles": row[0], "above volume": row[1] or 0, "queries": named.count()}
    return named.orderBy(F.desc("views"), "query").limit(limit).toArrow(), counts


def without_suffix(title: str) -> str:
    """`title` without its disambiguation: "Mercury (planet)" is "Mercury"."""
    return _SUFFIX.sub("", title) or title


def spelt(title: str) -> str:
    """A title as Wikipedia spells it.

    Underscores are spaces, the first letter is a capital; some clients send percent-encoding.
    """
    plain = encodable(unquote(title) if "%" in title else title).replace("_", " ").strip()
    first = plain[:1].upper()
    return first + plain[1:] if len(first) == 1 else plain


def _summed(table: DataFrame, *by: str) -> DataFrame:
    sums = [F.sum(column).alias(column) for column in ("views", "rows")]
    return table.groupBy(*by).agg(*sums)


def _redirects(pages: DataFrame) -> DataFrame:
    """Each redirect with where it leads, a redirect to a redirect to its end."""
    found = pages.where(F.col("kind") == "redirect")
    found = found.groupBy("title").agg(F.min("target").alias("target"))
    onward = found.select(F.col("title").alias("target"), F.col("target").alias("end"))
    found = found.join(onward, on="target", how="left")
    return found.select("title", F.coalesce("end", "target").alias("target"))


def _spell(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        names = [None if t is None else spelt(t) for t in batch.column("title").to_pylist()]
        yield batch.set_column(0, "title", pa.array(names, pa.string()))


def _with_query(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        names = batch.column("article").to_pylist()
        queries = [None if n is None else normalise(without_suffix(n)) for n in names]
        yield batch.append_column("query", pa.array(queries, pa.string()))
