"""What Spark shuffles, as it would of large tables."""

from jobs.run import Run

JOIN_AS_AT_SCALE = 'spark.conf={"spark.sql.autoBroadcastJoinThreshold"="-1"}'
"""A setting for runs whose shuffles are told: Spark sends a small table whole to every task and
shuffles nothing, and the tables of a large corpus are not small."""


def shuffled(run: Run) -> int:
    """Bytes that the session has written for shuffles so far."""
    store = run.spark.sparkContext._jsc.sc().statusStore()  # type: ignore[union-attr]
    executors = store.executorList(False)
    return sum(executors.apply(at).totalShuffleWrite() for at in range(executors.size()))
