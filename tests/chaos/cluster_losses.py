"""Losses: what dies on a cluster, and how: always by kill -9, and without a warning.

executor  the JVM that runs tasks; its Python workers are orphans for a moment
python    a Python worker, or the daemon that forks them
machine   a worker's process with all that it had started; another comes a second later
driver    the process of `wit`, alone or together with its JVM
zombie    the driver, while Python workers of an executor that is dead as well are frozen; they
          wake in the middle of the next driver's work, and do what they were about to do
"""

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import psutil

from tests.cluster.standalone import Cluster, Worker

KINDS = ("executor", "python", "machine", "driver", "zombie")
OF_DRIVER = ("driver", "zombie")
_AGAIN_SECONDS = 1.0


class Losses:
    """Kills on a cluster. Whoever made it calls `wait` before the cluster ends."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self._cluster, self._chance = cluster, chance
        self._replacing: list[threading.Thread] = []
        self._frozen: list[psutil.Process] = []
        self.late: dict[str, int] = {"frozen": 0, "awoken": 0}
        """Python workers of dead drivers."""

    def strike(self, kind: str, driver: "subprocess.Popen[bytes]") -> bool:
        """Kill one of a kind; whether there was one."""
        kill: Callable[[], bool] = {
            "executor": self._executor,
            "python": self._python,
            "machine": self._machine,
            "driver": lambda: self._driver(driver),
            "zombie": lambda: self._zombie(driver),
        }[kind]
        return kill()

    def wake(self) -> None:
        """Let what is frozen go on."""
        for process in self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
                self.late["awoken"] += 1
        self._frozen.clear()

    def settle(self) -> None:
        """Wait until killed machines are replaced."""
        for thread in self._replacing:
            thread.join()
        self._replacing.clear()

    def _workers(self) -> list[Worker]:
        found = self._cluster.alive()
        self._chance.shuffle(found)
        return found

    def _executor(self) -> bool:
        return any(_kill(self._cluster.executors(worker)[:1]) for worker in self._workers())

    def _python(self) -> bool:
        of_daemon = self._chance.random() < 0.3
        find = self._cluster.daemons if of_daemon else self._cluster.pythons
        for worker in self._workers():
            found = find(worker)
            if _kill([self._chance.choice(found)] if found else []):
                return True
        return False

    def _machine(self) -> bool:
        for worker in self._workers()[:1]:
            self._cluster.kill_machine(worker)
            again = threading.Thread(target=self._start_later)
            again.start()
            self._replacing.append(again)
            return True
        return False

    def _start_later(self) -> None:
        time.sleep(_AGAIN_SECONDS)
        self._cluster.start_worker(wait=False)

    def _driver(self, driver: "subprocess.Popen[bytes]") -> bool:
        if driver.poll() is not None:
            return False
        below = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        driver.wait()
        # Alone half of the time: its JVM then ends by itself, and in its own order.
        if self._chance.random() < 0.5:
            _kill([process.pid for process in below])
        return True

    def _zombie(self, driver: "subprocess.Popen[bytes]") -> bool:
        at_work = [(worker, self._cluster.pythons(worker)) for worker in self._workers()]
        if driver.poll() is not None or not any(pythons for _, pythons in at_work):
            return False
        for worker, pythons in at_work:
            found = [psutil.Process(pid) for pid in pythons if psutil.pid_exists(pid)]
            # The daemon first: when it ends, the kernel wakes and ends its frozen ones. The JVM
            # last: without it, whoever waits for rows ends by itself.
            daemons = self._cluster.daemons(worker)
            _kill(daemons)
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    _wait_until_orphan(process, daemons)
                    process.suspend()
                    self._frozen.append(process)
                    self.late["frozen"] += 1
            _kill(self._cluster.executors(worker))
        return self._driver(driver)


def _wait_until_orphan(process: psutil.Process, parents: list[int], seconds: float = 1.0) -> None:
    end = time.monotonic() + seconds
    while process.ppid() in parents and time.monotonic() < end:
        time.sleep(0.001)


def _kill(pids: list[int]) -> int:
    """How many of them lived."""
    killed = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed
