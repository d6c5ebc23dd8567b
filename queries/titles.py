"""Titles: article names above a search volume.

reads   pageview files, pages
writes  titles (title, views)

The volume of an article is its views summed over the domains and over the redirects to it.
"""

import re
from pathlib import Path
from urllib.parse import unquote

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline.errors import BadInput

_NAMESPACES = (
    "special|talk|user|user_talk|wikipedia|wikipedia_talk|wp|file|file_talk|image|mediawiki|"
    "mediawiki_talk|template|template_talk|help|help_talk|category|category_talk|portal|"
    "portal_talk|draft|draft_talk|module|module_talk|timedtext|book|media|wt|h|t|p"
)
_SUFFIX = re.compile(r"\s*\([^()]*\)\s*$")
REASONS = ("malformed line", "other domain", "other namespace", "main page")
"""Why a line of a pageview file says nothing of an article."""


def views(spark: SparkSession, paths: list[str], domains: list[str]) -> DataFrame:
    """Each line of the pageview files: title, views, and a reason where it is no article's."""
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
    count = F.when(is_whole, F.get(parts, F.lit(2)).cast("long"))
    return lines.select(title.alias("title"), count.alias("views"), reason.alias("reason"))


def titles(views: DataFrame, pages: DataFrame | None) -> DataFrame:
    """The views of each article name, redirects added to what they lead to."""
    seen = views.where(F.col("reason").isNull())
    seen = seen.groupBy("title").agg(F.sum("views").alias("views"))
    seen = seen.select(_readable(F.col("title")).alias("title"), "views")
    if pages is not None:
        redirects = pages.where(F.col("kind") == "redirect")
        redirects = redirects.select(F.col("title"), F.col("target")).dropDuplicates(["title"])
        seen = seen.join(redirects, on="title", how="left")
        seen = seen.select(F.coalesce("target", "title").alias("title"), "views")
    return seen.groupBy("title").agg(F.sum("views").alias("views"))


def _readable(title: Column) -> Column:
    """Underscores are spaces; some clients send titles percent-encoded."""
    decode = F.udf(unquote, "string")
    plain = F.when(title.contains("%"), decode(title)).otherwise(title)
    return F.translate(plain, "_", " ")


def without_suffix(title: str) -> str:
    """`title` without its disambiguation: "Mercury (planet)" is "Mercury"."""
    return _SUFFIX.sub("", title) or title


def above(volumes: dict[str, int], min_views: int) -> list[tuple[str, float]]:
    """The names with at least `min_views`, their disambiguation suffixes taken off."""
    return [
        (without_suffix(title), float(views))
        for title, views in volumes.items()
        if views >= min_views
    ]
