"""A Spark standalone cluster on loopback, of processes that are started and ended here.

    with Cluster(folder, workers=2) as cluster:
        subprocess.run([..., "--master", cluster.url])
        worker = cluster.workers[0]
        cluster.kill(worker)            # kill -9 of the worker's JVM, and of nothing else
        cluster.kill_machine(worker)    # and of all that it had started, as when power fails
        cluster.start_worker()

Master and workers are daemons of the pyspark package. A worker starts executors, which are JVMs,
and those a daemon that forks the Python workers: `executors()`, `daemons()` and `pythons()` tell
their ids. All ports are free ones on loopback, and each worker has an address of its own there:
Spark speculates on a task only on another host than that of its first attempt. The end of the
block, or what was raised in it, ends every process that the cluster started, by its id.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil
import pyspark

_HOME = Path(pyspark.__path__[0])
_LOOPBACK = "127.0.0.1"
_HAS_MANY_ADDRESSES = sys.platform == "linux"  # all of 127.0.0.0/8
_START_SECONDS = 60.0
_MASTER_AT = re.compile(r"Starting Spark master at (spark://\S+)")
_BACKEND = "CoarseGrainedExecutorBackend"


class ClusterError(RuntimeError):
    """The cluster does not come up."""


@dataclass(eq=False)
class Worker:
    """One machine of the cluster."""

    name: str
    host: str
    process: "subprocess.Popen[bytes]"
    log: Path
    scratch: Path
    """Its SPARK_LOCAL_DIRS."""
    work: Path
    """Where its executors run; they write their stderr below it."""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None


class Cluster:
    """A master and its workers; each with a folder, a log and a scratch folder of its own."""

    def __init__(
        self,
        folder: Path,
        workers: int = 2,
        cores: int = 1,
        memory: str = "1g",
        conf: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`conf` are properties of the daemons; `env` is laid over their environment."""
        self.folder = folder
        self.cores, self.memory = cores, memory
        self.workers: list[Worker] = []
        """All that were ever started, in that order."""
        self.url = ""
        """For --master, once it is up."""
        self._count = workers
        self._conf, self._env = dict(conf or {}), dict(env or {})
        self._master: subprocess.Popen[bytes] | None = None
        self._seen: dict[int, psutil.Process] = {}
        """Every process below the workers that was ever seen; a dead worker tells of none."""

    def __enter__(self) -> "Cluster":
        try:
            self._start_master()
            for _ in range(self._count):
                self.start_worker(wait=False)
            self.wait_for_workers()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    # -- starting --------------------------------------------------------------------------

    def start_worker(self, env: Mapping[str, str] | None = None, *, wait: bool = True) -> Worker:
        """One worker more, with an environment of its own laid over the cluster's."""
        name = f"worker{len(self.workers)}"
        folder = self.folder / name
        scratch, work, log = folder / "scratch", folder / "work", folder / "log"
        scratch.mkdir(parents=True)
        work.mkdir()
        host = f"127.0.0.{2 + len(self.workers) % 250}" if _HAS_MANY_ADDRESSES else _LOOPBACK
        own = {"SPARK_LOCAL_DIRS": str(scratch), "SPARK_WORKER_DIR": str(work), **(env or {})}
        size = ["--cores", str(self.cores), "--memory", self.memory, "--work-dir", str(work)]
        process = self._start("worker.Worker", log, own, [*size, self.url], host)
        worker = Worker(name, host, process, log, scratch, work)
        self.workers.append(worker)
        if wait:
            self._wait_for(worker)
        return worker

    def wait_for_workers(self) -> None:
        """Until each living worker is known to the master. Raises ClusterError."""
        for worker in self.alive():
            self._wait_for(worker)

    def _wait_for(self, worker: Worker) -> None:
        self._wait(worker.process, worker.log, lambda text: "Successfully registered" in text)

    def _start_master(self) -> None:
        log = self.folder / "master" / "log"
        log.parent.mkdir(parents=True)
        self._master = self._start("master.Master", log, {}, [])
        text = self._wait(self._master, log, lambda text: bool(_MASTER_AT.search(text)))
        found = _MASTER_AT.search(text)
        assert found is not None
        self.url = found[1]

    def _start(
        self,
        name: str,
        log: Path,
        env: Mapping[str, str],
        arguments: Sequence[str],
        host: str = _LOOPBACK,
    ) -> "subprocess.Popen[bytes]":
        options = " ".join(f"-D{key}={value}" for key, value in self._conf.items())
        told = {
            "SPARK_LOCAL_IP": host,
            "SPARK_NO_DAEMONIZE": "1",
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": f"-XX:+UseSerialGC {options}".strip(),
            "SPARK_PUBLIC_DNS": host,
        }
        # A machine of a cluster knows nothing of whoever submits to it.
        spared = ("PYTHONPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "SPARK_ENV_LOADED")
        bare = {key: value for key, value in os.environ.items() if key not in spared}
        place = ["--host", host, "--port", "0", "--webui-port", "0"]
        command = [str(_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", *place]
        with log.open("ab") as out:
            return subprocess.Popen(
                [*command, *arguments],
                cwd=log.parent,  # never the repository: nothing is importable by luck
                env={**bare, "SPARK_HOME": str(_HOME), **told, **self._env, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _wait(
        self, process: "subprocess.Popen[bytes]", log: Path, is_up: Callable[[str], bool]
    ) -> str:
        end = time.monotonic() + _START_SECONDS
        while not is_up(text := log.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > end:
                raise ClusterError(f"{log.parent.name} does not come up:\n{text[-3000:]}")
            time.sleep(0.05)
        return text

    # -- looking ---------------------------------------------------------------------------

    def alive(self) -> list[Worker]:
        """The workers whose JVM runs."""
        return [worker for worker in self.workers if worker.is_alive]

    def executors(self, worker: Worker) -> list[int]:
        """The ids of its executors' JVMs."""
        return [found.pid for found in self._below(worker) if _BACKEND in _words(found)]

    def pythons(self, worker: Worker) -> list[int]:
        """The ids of its Python workers: those that run tasks, not the daemon that forks them."""
        return [found.pid for found in self._forked(worker) if _is_forked(found)]

    def daemons(self, worker: Worker) -> list[int]:
        """The ids of the daemons that fork its Python workers."""
        return [found.pid for found in self._forked(worker) if not _is_forked(found)]

    def _forked(self, worker: Worker) -> list[psutil.Process]:
        return [found for found in self._below(worker) if "pyspark.daemon" in _words(found)]

    def executors_logs(self) -> str:
        """What all executors have written to stderr."""
        files = sorted(file for worker in self.workers for file in worker.work.rglob("stderr"))
        return "\n".join(f"--- {file}\n{file.read_text(errors='replace')}" for file in files)

    def _below(self, worker: Worker) -> list[psutil.Process]:
        """The living processes that the worker started, and those that they started."""
        if not worker.is_alive:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(worker.pid).children(recursive=True)
            self._seen.update({process.pid: process for process in found})
            return found
        return []

    # -- ending ----------------------------------------------------------------------------

    def kill(self, worker: Worker) -> None:
        """kill -9 of the worker alone; its executors notice, and end by themselves."""
        self._below(worker)  # to end them at the latest with the cluster
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()

    def kill_machine(self, worker: Worker) -> None:
        """kill -9 of the worker and of all that it had started."""
        below = self._below(worker)
        self.kill(worker)
        _kill(below)

    def close(self) -> None:
        """End all that was started here."""
        for worker in self.alive():
            self._below(worker)
        daemons = [worker.process for worker in self.workers]
        for process in [*daemons, *([self._master] if self._master else [])]:
            if process.poll() is None:
                process.kill()
            process.wait()
        # What an executor has started is below no worker any more once that one is gone.
        _kill([*self._seen.values()])


def _kill(processes: Sequence[psutil.Process]) -> None:
    below = [*processes]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            below += process.children(recursive=True)
    for process in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()  # psutil compares the time of birth: never another of the same id
    psutil.wait_procs(below, timeout=10)


def _words(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return " ".join(process.cmdline())
    return ""


def _is_forked(process: psutil.Process) -> bool:
    """Whether a process with a daemon's command line is a fork of the daemon."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        parent = process.parent()
        return parent is not None and "pyspark.daemon" in _words(parent)
    return False


@contextlib.contextmanager
def driver(
    cluster: Cluster, log: Path, arguments: Sequence[str], env: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """`python ARGUMENTS` in a session of its own, ended with what it started at the block's end.

    It runs in the folder of its log, so that nothing is found by a relative path. Both of its
    outputs go to the log; its stdin is a pipe.
    """
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=log.parent,
            env={**os.environ, "SPARK_LOCAL_IP": _LOOPBACK, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for worker in cluster.alive():
            cluster.executors(worker)
        if process.poll() is None:
            found = psutil.Process(process.pid)
            _kill([found, *found.children(recursive=True)])
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()


def wait_for(
    what: Callable[[], object],
    process: "subprocess.Popen[bytes] | None" = None,
    seconds: float = 60,
) -> None:
    """Until it is true. Raises ClusterError when it takes too long, or the process ends before."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end or (process is not None and process.poll() is not None):
            raise ClusterError(f"{what} does not come true")
        time.sleep(0.05)
