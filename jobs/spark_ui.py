"""Spark's UI: what is shown of a run there and in the event log, under the names of its verbs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import BadInput
from pipeline.settings import SparkSettings

if TYPE_CHECKING:
    from pyspark import SparkContext

_GROUP, _DESCRIPTION = "spark.jobGroup.id", "spark.job.description"
_MOST_MILLISECONDS = 5000


def options(settings: SparkSettings, *, is_own: bool) -> dict[str, str]:
    """What a session is told of its UI and its event log.

    What the settings do not say is as the cluster has it; without one, `is_own`, it is off.
    """
    told: dict[str, str] = {}
    if settings.ui is not None or is_own:
        told["spark.ui.enabled"] = str(bool(settings.ui)).lower()
    if settings.event_log is not None:
        told |= {
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": _folder(settings.event_log),
            "spark.eventLog.compress": "true",
            "spark.eventLog.rolling.enabled": "true",
        }
    return told


def _folder(named: str) -> str:
    """The address of a folder, made where it is one of this machine: Spark makes none."""
    if "://" in named:
        return named
    folder = Path(named).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"spark.event_log: {folder} cannot be made ({error.strerror}): name another folder"
        ) from None
    return folder.as_uri()


class Names:
    """What Spark calls the jobs of a run: `verb: table`, all of a stage in one group.

    Spark keeps both for the thread that starts a job, and for threads that it starts.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._verb = self._step = ""

    def stage(self, verb: str) -> AbstractContextManager[None]:
        """The jobs inside are of the stage `verb`."""
        return self._named(verb, "")

    def step(self, step: str) -> AbstractContextManager[None]:
        """The jobs inside make the table, or take the step, that is named."""
        return self._named(self._verb, step)

    @contextmanager
    def _named(self, verb: str, step: str) -> Iterator[None]:
        before = self._verb, self._step
        self._verb, self._step = verb, step
        self.apply()
        # Not after an interrupt: Spark would answer when the job is done that it still works on.
        try:
            yield
        except Exception:
            self._verb, self._step = before
            self.apply()
            raise
        self._verb, self._step = before
        self.apply()

    def apply(self) -> None:
        """Tell Spark, where it is running: again once it has started."""
        with _spark() as context:
            if context is not None:
                told = ": ".join(name for name in (self._verb, self._step) if name)
                # A name that is no one's any more is taken away by None.
                none: Any = None
                context.setLocalProperty(_GROUP, self._group if self._verb else none)
                context.setLocalProperty(_DESCRIPTION, told or none)

    def sums(self) -> dict[str, float]:
        """What the tasks of the stage took together; nothing where Spark was not asked.

        Of a Spark stage that was tried again, the last try counts.
        """
        with _spark() as context:
            if context is not None and self._verb:
                tracker = context.statusTracker()
                found = tracker.getJobIdsForGroup(self._group)
                jobs = [job for job in map(tracker.getJobInfo, found) if job is not None]
                stages = sorted({stage for job in jobs for stage in job.stageIds})
                return _sums(context, stages) if jobs else {}
        return {}

    @property
    def _group(self) -> str:
        return f"{self._verb} {self._run_id}"


def _sums(context: SparkContext, stages: list[int]) -> dict[str, float]:
    from py4j.protocol import Py4JJavaError

    inner: Any = context._jsc.sc()
    with suppress(Py4JJavaError):
        # What has been counted comes a moment after the job.
        inner.listenerBus().waitUntilEmpty(_MOST_MILLISECONDS)
    told = dict.fromkeys(
        (
            *("tasks", "failed_tasks", "task_seconds", "jvm_cpu_seconds"),
            *("shuffle_bytes", "spilled_bytes"),
        ),
        0.0,
    )
    for stage in stages:
        try:
            data = inner.statusStore().lastStageAttempt(stage)
        except Py4JJavaError:
            continue  # one that was not needed, or that Spark has forgotten
        told["tasks"] += data.numCompleteTasks()
        told["failed_tasks"] += data.numFailedTasks()
        told["task_seconds"] += data.executorRunTime() / 1e3
        told["jvm_cpu_seconds"] += data.executorCpuTime() / 1e9
        told["shuffle_bytes"] += data.shuffleWriteBytes()
        told["spilled_bytes"] += data.diskBytesSpilled()
    whole = ("tasks", "failed_tasks", "shuffle_bytes", "spilled_bytes")
    return {name: int(value) if name in whole else value for name, value in told.items()}


def executors(context: SparkContext) -> int:
    """The processes that run tasks now; in a local session the driver is the one."""
    inner: Any = context._jsc.sc()
    known = int(inner.getExecutorMemoryStatus().size())
    return 1 if inner.isLocal() else known - 1


@contextmanager
def _spark() -> Iterator[SparkContext | None]:
    """The context of the session of this process, where there is one; what it does not answer any
    more is passed over, since the job tells of its end."""
    if "pyspark.sql" not in sys.modules:
        yield None
        return
    from py4j.protocol import Py4JError
    from pyspark.sql import SparkSession

    context = None
    with suppress(Py4JError, OSError):
        found = SparkSession.getActiveSession()
        context = None if found is None else found.sparkContext
    with suppress(Py4JError, OSError):
        yield context
