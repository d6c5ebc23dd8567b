"""Tally: how many rows there are of each kind."""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def table(rows: DataFrame, *by: str) -> list[dict[str, Any]]:
    """How many rows have each combination of values, as `count`, in their order."""
    counted = rows.groupBy(*by).agg(F.count("*").alias("count")).collect()
    return [row.asDict() for row in sorted(counted, key=lambda row: str(row[: len(by)]))]
