"""Chaos on a cluster: kill -9 of all that can die, and the same bytes afterwards.

    make test-chaos-cluster ARGS="--rounds 50 --seed 0"

A small corpus is built undisturbed, in local mode. Then, again and again, two of its stages are
built again on a standalone cluster of two machines on loopback, with other partitions and
speculative execution. In each of them something dies, at a seeded moment: see
`tests.chaos.cluster_losses`. Whoever loses the driver gives the same command again. In the end
there must be the same tables and the same shards to the byte, with no pair lost and none doubled,
and the stages behind must find that nothing has changed.
"""

import argparse
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil

from jobs import walk
from jobs.metrics import WALK
from jobs.world import make_world, serve
from jobs.world.folder import ROUTES, reopen
from pipeline.schemas import TABLES
from tests.chaos.cluster_losses import OF_DRIVER, Losses
from tests.chaos.cluster_rounds import STAGES, Kill, Round, as_json, as_table, plan
from tests.chaos.cluster_told import Told, differences, lost_and_doubled, told
from tests.cluster.standalone import Cluster

_ROOT = Path(__file__).parents[2]
_VERBS = tuple(stage.verb for stage in walk.STAGES)
_STAGES = walk.STAGES[: _VERBS.index(STAGES[-1]) + 1]
_PAIRS, _PORT = 300, 18597
_SETS = (
    "balance.pairs_per_raw_shard=40",
    "shard.samples_per_shard=15",
    "download.threads=8",
    "download.connections_per_host=8",
    # No answer is late: on a busy machine it would not be the same one.
    "download.deadline_seconds=60.0",
)
_CONF = {
    "spark.executor.memory": "600m",
    "spark.executor.extraJavaOptions": "-XX:+UseSerialGC",
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC",
    # More than enough to have it happen in tasks of a second.
    "spark.speculation": "true",
    "spark.speculation.interval": "50ms",
    "spark.speculation.quantile": "0.2",
    "spark.speculation.multiplier": "1.01",
    "spark.speculation.minTaskRuntime": "50ms",
    "spark.speculation.task.duration.threshold": "300ms",
    # A dead machine is asked for its shuffle files three times.
    "spark.shuffle.io.retryWait": "300ms",
    "spark.eventLog.enabled": "true",
    "spark.eventLog.compress": "false",
    "spark.eventLog.rolling.enabled": "false",
}
_LIMIT_SECONDS = 1200.0
_MAX_STARTS = 8


class Chaos:
    """A finished corpus, and a cluster to build its stages on again."""

    def __init__(self, root: Path, cluster: Cluster, whole: Path, sets: Sequence[str] = ()) -> None:
        """`whole` is a run that was built undisturbed; `sets` are laid over its settings."""
        self.root, self.cluster = root, cluster
        self._whole_run, self._sets = whole, tuple(sets)
        self._conf = root / "conf"
        self._conf.mkdir(exist_ok=True)
        self._events = root / "events"
        self._events.mkdir(exist_ok=True)
        conf = {**_CONF, "spark.eventLog.dir": self._events.as_uri()}
        lines = [f"{key} {value}\n" for key, value in conf.items()]
        (self._conf / "spark-defaults.conf").write_text("".join(lines))
        self.tables = tuple(table for stage in _STAGES for table in stage.writes)
        self.whole = Told({}, {})
        """The undisturbed run."""
        self.seconds: dict[str, float] = {}
        """Of each stage, undisturbed."""

    def look(self) -> None:
        """Take what the undisturbed run holds, and how long its stages took."""
        self.whole = told(self._whole_run, self.tables)
        self.seconds = _seconds_of(self._whole_run)

    def undisturbed(self, config: Path, *, on_cluster: bool) -> None:
        """Build in local mode, and on the cluster if asked to; and take the stages' durations."""
        kept = self.root / "seconds.json"
        if kept.exists():
            self.look()
            self.seconds = json.loads(kept.read_text())
            return
        shutil.rmtree(self._whole_run, ignore_errors=True)
        self._build(self._whole_run, "local[2]", config)
        self.look()
        if on_cluster:
            again = self.root / "again"
            self.copy(again, _VERBS[0])
            self._build(again)
            found = differences(self.whole, told(again, self.tables))
            assert not found, "\n".join(found)
            self.seconds = _seconds_of(again)
            shutil.rmtree(again)
        kept.write_text(json.dumps(self.seconds))

    def _build(self, run: Path, master: str | None = None, config: Path | None = None) -> None:
        with self.started(run, master, config) as process:
            assert process.wait(_LIMIT_SECONDS) == 0, log_text(run)

    def copy(self, run: Path, first: str, last: str = _STAGES[-1].verb) -> None:
        """The undisturbed run without what the stages from `first` to `last` have made."""
        missing = _STAGES[_VERBS.index(first) : _VERBS.index(last) + 1]
        folders = [TABLES[table].folder for stage in missing for table in stage.writes]
        others = shutil.ignore_patterns("_scratch", ".lock", *folders)
        shutil.copytree(self._whole_run, run, ignore=others)
        (run / "report.html").unlink(missing_ok=True)

    def round(self, name: str, kills: list[Kill], chance: random.Random) -> Round:
        """Build what the stages of `kills` make, while they happen.

        What lies behind those stages is kept, and must be up to date in the end.
        """
        began, result = time.monotonic(), Round()
        run = self.root / name
        self.copy(run, kills[0].stage, kills[-1].stage)
        losses = Losses(self.cluster, chance)
        waiting, starts = list(kills), 0
        wake_at: tuple[str, float] | None = None
        try:
            while True:
                starts += 1
                with self.started(run) as process:
                    died = self._watch(run, process, waiting, wake_at, losses, result)
                    code = process.wait()
                wake_at = (died.stage, chance.random()) if died else None
                if died is None and code != 0:
                    result.goes_on.append(_last_words(log_text(run)))
                    shutil.copy(_log_of(run), self.root / f"{name}.error{starts}.log")
                if (died is None and code == 0) or starts == _MAX_STARTS:
                    break
            if code != 0:
                result.differences.append(f"not finished after {starts} starts")
            else:
                mine = told(run, self.tables)
                result.lost, result.doubled = lost_and_doubled(self.whole, mine)
                result.differences += differences(self.whole, mine)
                behind = _VERBS[_VERBS.index(kills[-1].stage) + 1 : len(_STAGES)]
                lines = log_text(run).splitlines()
                again = [verb for verb in behind if f"{verb}: up to date" not in lines]
                result.differences += [f"{verb} is made again" for verb in again]
        finally:
            losses.wake()
            losses.settle()
        result.tasks = self._tasks() + Counter(losses.late)
        for kill in waiting:
            result.missed[kill.stage, kill.kind] += 1
        if result.is_good:
            shutil.rmtree(run, ignore_errors=True)
        result.seconds = time.monotonic() - began
        return result

    def _watch(
        self,
        run: Path,
        process: "subprocess.Popen[bytes]",
        waiting: list[Kill],
        wake_at: tuple[str, float] | None,
        losses: Losses,
        result: Round,
    ) -> Kill | None:
        """Kill what is due until the build ends or is killed itself, and by which kill."""
        end, seen = time.monotonic() + _LIMIT_SECONDS, dict[str, float]()
        while process.poll() is None:
            if time.monotonic() > end:
                result.differences.append(f"hangs: {_last_words(log_text(run))}")
                process.kill()
                break
            stages = _stages_in(log_text(run))
            now = stages[-1] if stages else ""
            begun = seen.setdefault(now, time.monotonic())
            passed = time.monotonic() - begun
            if wake_at is not None and wake_at[0] in seen:
                is_over = now != wake_at[0]
                if is_over or passed >= wake_at[1] * self.seconds[now]:
                    losses.wake()
                    wake_at = None
            while waiting and now and _VERBS.index(now) > _VERBS.index(waiting[0].stage):
                kill = waiting.pop(0)
                result.missed[kill.stage, kill.kind] += 1
            is_due = waiting and waiting[0].stage == now
            if is_due and passed >= waiting[0].moment * self.seconds[now]:
                kill = waiting[0]
                if losses.strike(kill.kind, process):
                    waiting.pop(0)
                    has_hit = _stages_in(log_text(run))[-1] == now
                    (result.hits if has_hit else result.missed)[kill.stage, kill.kind] += 1
                    if kill.kind in OF_DRIVER:
                        return kill
            time.sleep(0.02)
        losses.wake()
        return None

    @contextmanager
    def started(
        self, run: Path, master: str | None = None, config: Path | None = None
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """`wit build` of a run, on the cluster if on no other master; ended with the block."""
        master = master or self.cluster.url
        command = [sys.executable, "-m", "tests.chaos.cluster_driver", "build", "--run", str(run)]
        command += ["--master", master]
        sets = [f"spark.partitions={3 if config else 5}", "spark.driver_memory=600m", *self._sets]
        command += [word for told in sets for word in ("--set", told)]
        command += ["--config", str(config)] if config else ["--update"]
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
        if not master.startswith("local"):
            environment["SPARK_CONF_DIR"] = str(self._conf)
        with _log_of(run).open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                found = psutil.Process(process.pid)
                for each in [*found.children(recursive=True), found]:
                    each.kill()
                process.wait()

    def _tasks(self) -> Counter[str]:
        """What Spark noted of its tasks since this was asked last."""
        found = Counter[str]()
        for file in list(self._events.iterdir()):
            try:
                lines = file.read_text(errors="replace").splitlines()
                file.unlink()
            except FileNotFoundError:  # renamed by a JVM that ends: there is a next time
                continue
            for line in lines:
                if '"SparkListenerTaskEnd"' in line[:60] and line.endswith("}"):
                    event = json.loads(line)
                    found["tasks"] += 1
                    found["speculated"] += event["Task Info"]["Speculative"]
                    found["lost"] += event["Task End Reason"]["Reason"] not in _NOT_LOST
        return found


_NOT_LOST = ("Success", "TaskKilled")


def _seconds_of(run: Path) -> dict[str, float]:
    """How long each stage of a run has taken, without the start of Spark."""
    lines = map(json.loads, (run / WALK).read_text().splitlines())
    begun: dict[str, datetime] = {}
    seconds: dict[str, float] = {}
    for line in lines:
        when = datetime.fromisoformat(line["time"])
        if line["event"] in ("begin", "spark"):
            begun[line["verb"]] = when
        elif line["event"] == "end":
            seconds[line["verb"]] = (when - begun[line["verb"]]).total_seconds()
    return seconds


def _log_of(run: Path) -> Path:
    return run.with_suffix(".log")


def log_text(run: Path) -> str:
    """What the last build of a run said."""
    return _log_of(run).read_text(errors="replace")


def _stages_in(log: str) -> list[str]:
    """The stages that were begun; none before Spark has started, in the first of them."""
    has_started = "\n  starting Spark: " in log
    return [line for line in log.splitlines() if line in _VERBS] if has_started else []


def _last_words(log: str) -> str:
    """What an error says of itself: the command's line, or what a traceback ends with."""
    lines = [line for line in log.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("wit: ")]
    told = told or [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (told or lines or ["(nothing)"])[-1][:300]


def answer_always_alike(routes: Path) -> None:
    """Take out what answers otherwise the second time, or late: a killed download asks again."""
    found = json.loads(routes.read_text(encoding="utf-8"))
    for path, route in found.items():
        if route["do"] in ("flaky", "silent", "stall", "drip"):
            found[path] = {"do": "status", "status": 503, "empty": True}
    routes.write_text(json.dumps(found), encoding="utf-8")


@contextmanager
def prepared(root: Path, pairs: int = _PAIRS, *, on_cluster: bool = True) -> Iterator[Chaos]:
    """A world that is served, its corpus, and a cluster."""
    world = reopen(root / "web", "demo.toml") or make_world(root / "web", pairs, port=_PORT)
    answer_always_alike(world.folder / ROUTES)
    shutil.rmtree(root / "cluster", ignore_errors=True)
    with serve(world.folder, world.port), Cluster(root / "cluster") as cluster:
        chaos = Chaos(root, cluster, root / "whole", _SETS)
        chaos.undisturbed(world.settings, on_cluster=on_cluster)
        yield chaos


def main() -> int:
    """Kill in as many rounds as asked for; 1 when anything differed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, help="Work here, on the undisturbed run that is there."
    )
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    rounds: list[Round] = []
    scratch = (asked.folder or Path(tempfile.mkdtemp(prefix="chaos-"))).absolute()
    with prepared(scratch) as chaos:
        paces = ", ".join(f"{verb} {seconds:.1f} s" for verb, seconds in chaos.seconds.items())
        _say(f"undisturbed: {paces}")
        for nth, kills in enumerate(itertools.islice(plan(chance), asked.rounds), 1):
            found = chaos.round(f"round{nth}", kills, chance)
            rounds.append(found)
            struck = ", ".join(f"{kind} in {stage}" for stage, kind in found.hits)
            verdict = "equal" if found.is_good else "UNEQUAL"
            _say(f"{nth:3}: {found.seconds:5.1f} s, {verdict}: {struck or 'nothing hit'}")
            for line in found.goes_on:
                _say(f"     given again after: {line}")
            for line in found.differences[:20]:
                _say(f"     {line}")
    table = as_table(rounds)
    _say(table)
    is_good = all(found.is_good for found in rounds)
    out = Path("build", "chaos", "cluster.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(as_json(rounds), indent=1))
    if is_good and asked.folder is None:
        shutil.rmtree(scratch, ignore_errors=True)
    else:
        _say(f"what was made is kept in {scratch}")
    return 0 if is_good else 1


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
