"""Counting: the rows that a table keeps, and those it drops by reason, in one pass.

Observed metrics are counted in the task that writes, once for each partition that succeeds, so a
retried or speculative task is not counted twice.
"""

from collections.abc import Callable

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F


def counted(
    frame: DataFrame, columns: list[str], reasons: tuple[str, ...]
) -> tuple[DataFrame, Callable[[], dict[str, int]]]:
    """The kept rows of `frame`, and a function that tells the counts once they are written.

    The counts hold every reason, "duplicate" where rows were merged, and the rows that came in
    under the empty name.
    """
    has_reason = "dropped_for" in frame.columns
    reason = F.col("dropped_for") if has_reason else F.lit(None).cast("string")
    rows = F.col("rows") if "rows" in frame.columns else F.lit(1)
    metrics = {"came_in": F.sum(rows)}
    metrics["merged"] = F.sum(F.when(reason.isNull(), rows - 1).otherwise(0))
    metrics["other"] = F.sum(
        F.when(
            reason.isNotNull() & ~F.coalesce(reason.isin(*reasons), F.lit(False)), rows
        ).otherwise(0)
    )
    for place, name in enumerate(reasons):
        metrics[f"reason_{place}"] = F.sum(F.when(reason == name, rows).otherwise(0))
    observation = Observation()
    seen = frame.observe(observation, *[m.cast("long").alias(n) for n, m in metrics.items()])
    kept = seen.where(reason.isNull()).select(*columns)

    def told() -> dict[str, int]:
        got = {name: int(value or 0) for name, value in observation.get.items()}
        counts = {name: got[f"reason_{place}"] for place, name in enumerate(reasons)}
        counts |= {"duplicate": got["merged"], "unnamed reason": got["other"]}
        counts = {name: count for name, count in counts.items() if count}
        return {"": got["came_in"], **counts}

    return kept, told
