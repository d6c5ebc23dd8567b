"""Tally: small tables of counts, brought to the driver."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def by(table: DataFrame, column: str) -> dict[str, int]:
    """How many rows have each value of `column`; null is counted as `kept`."""
    counted = table.groupBy(F.coalesce(F.col(column), F.lit("kept"))).agg(F.count("*"))
    return dict(sorted((str(value), int(count)) for value, count in counted.collect()))


def counts(table: DataFrame) -> dict[str, int]:
    """The first two columns of `table`, a name and a count, in the order of the names."""
    arrow = table.toArrow()
    names, values = arrow.column(0).to_pylist(), arrow.column(1).to_pylist()
    return dict(sorted(zip(names, values, strict=True)))
