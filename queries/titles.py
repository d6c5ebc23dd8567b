"""Titles: article names above a search volume.

reads   views, pages
writes  titles (title, article, query, views)

The volume of an article is its views summed over the hours, the domains, and the redirects to it.
"""

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.text import normalise
from queries.pageviews import VIEWS_DDL, is_elsewhere


def titles(views: DataFrame, pages: DataFrame) -> DataFrame:
    """Each title with the article that it leads to and the query that the article would be."""
    found = views.join(_redirects(pages), on="title", how="left")
    found = found.withColumn("article", F.coalesce("target", "title")).drop("target")
    return found.mapInArrow(_with_query, f"{VIEWS_DDL}, article string, query string")


def best(titles: DataFrame, min_views: int, limit: int) -> tuple[pa.Table, dict[str, int]]:
    """The `limit` queries of the most viewed articles with at least `min_views`, and counts of
    what there was: articles, those above the volume, and distinct queries among them.

    Of several articles of one name ("Mercury (planet)", "Mercury (element)") the most viewed
    counts, and not their sum: none of them is the name's own volume.
    """
    articles = titles.groupBy("article", "query").agg(F.sum("views").alias("views")).cache()
    is_above = F.col("views") >= min_views
    row = articles.agg(F.count("*"), F.sum(is_above.cast("long"))).collect()[0]
    named = articles.where(is_above & (F.col("query") != ""))
    named = named.groupBy("query").agg(F.max("views").alias("views"))
    counts = {"articles": row[0], "above volume": row[1] or 0, "queries": named.count()}
    most_viewed = named.orderBy(F.desc("views"), "query").limit(limit).toArrow()
    articles.unpersist()
    return most_viewed, counts


def without_suffix(title: str) -> str:
    """`title` without its disambiguation: "Mercury (planet)" is "Mercury"."""
    plain = title.rstrip()
    begin = plain.rfind("(")
    is_last = plain.endswith(")") and ")" not in plain[begin:-1]
    return (plain[:begin].rstrip() if begin >= 0 and is_last else "") or title


def _redirects(pages: DataFrame) -> DataFrame:
    """Each redirect with where it leads, or where the redirect leads that it leads to."""
    found = pages.where(F.col("kind") == "redirect")
    found = found.groupBy("title").agg(F.min("target").alias("target"))
    onward = found.select(F.col("title").alias("target"), F.col("target").alias("end"))
    found = found.join(onward, on="target", how="left")
    return found.select("title", F.coalesce("end", "target").alias("target"))


def _with_query(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        rows = batch.to_pylist()
        for row in rows:
            name = row["article"]
            row["query"] = None if name is None else normalise(without_suffix(name))
            if name is not None and is_elsewhere(name):  # a redirect led there
                row["dropped_for"] = "other namespace"
        schema = batch.schema.append(pa.field("query", pa.string()))
        yield pa.RecordBatch.from_pylist(rows, schema=schema)
