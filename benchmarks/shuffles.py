"""What Spark shuffles, as it would of large tables."""

from jobs.run import Run

JOIN_AS_AT_SCALE = 'spark.conf={"spark.sql.autoBroadcastJoinThreshold"="-1"}'
"""A setting for runs whose shuffles are told: Spark sends a small table whole to every task and
shuffles nothing, and the tables of a large corpus are not small."""
_MOST_MILLISECONDS = 10_000


def shuffled(run: Run) -> int:
    """Bytes that the session has written for shuffles so far."""
    inner = run.spark.sparkContext._jsc.sc()  # type: ignore[union-attr]
    # What has been counted comes a moment after the job.
    inner.listenerBus().waitUntilEmpty(_MOST_MILLISECONDS)
    executors = inner.statusStore().executorList(False)
    return sum(executors.apply(at).totalShuffleWrite() for at in range(executors.size()))
