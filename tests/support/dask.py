"""A Dask cluster of real processes for tests: a scheduler and workers that can be killed."""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.processes import poll_until

ROOT = Path(__file__).parents[2]


class DaskCluster:
    """A scheduler on a free port, without workers at first.

    Attributes:
        address: of the scheduler.
        workers: in the order they were started; they have no nanny, so a killed one stays dead.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.address = ""
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str) -> DaskCluster:
        """Start the scheduler."""
        self.scheduler = self._run(
            *("scheduler", "--host", "tcp://127.0.0.1", "--port", "0", "--no-dashboard"),
            *("--no-show", "--dashboard-address", "127.0.0.1:0", *options),
        )
        said = (self._folder / "scheduler-0.log").read_text()
        found = re.search(r"Scheduler at: *(tcp://\S+)", said)
        assert found is not None, said
        self.address = found[1]
        return self

    def add_worker(self, *options: str, threads: int = 1) -> subprocess.Popen[bytes]:
        """Start a worker; does not wait for it."""
        worker = self._run(
            *("worker", self.address, "--nthreads", str(threads), "--no-nanny", "--no-dashboard"),
            *("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"),
            *("--local-directory", str(self._folder), *options),
        )
        self.workers.append(worker)
        return worker

    def _run(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        said = self._folder / f"{what}-{len(self.workers)}.log"
        with said.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{what}", *options],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self._stack.callback(process.wait, 20)
        self._stack.callback(process.kill)
        ready = b"Start worker at" if what == "worker" else b"Scheduler at"
        poll_until(lambda: process.poll() is not None or ready in said.read_bytes(), what=str(said))
        assert process.poll() is None, said.read_text()
        return process


@contextmanager
def dask_cluster(folder: Path, workers: int = 0) -> Iterator[DaskCluster]:
    """A cluster that ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        cluster = DaskCluster(folder, stack).start()
        for _ in range(workers):
            cluster.add_worker()
        yield cluster


@cache
def shared_cluster() -> str:
    """The address of a cluster with two workers, for all tests of this process that leave it as it is."""
    stack = ExitStack()
    atexit.register(stack.close)
    folder = stack.enter_context(TemporaryDirectory(prefix="perfect-test-dask-"))
    return stack.enter_context(dask_cluster(Path(folder), 2)).address
