"""The executors that the shared suite runs over; another one is one more entry here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

import pytest

from perfect.core import DaskExecutor, Executor, LocalDaskExecutor
from perfect.core import LocalExecutor, ProcessExecutor, ThreadExecutor
from tests.support.dask import shared_cluster


class UnderTest(NamedTuple):
    """An executor, and what may be expected of it.

    Attributes:
        make: gives one for the time of a block, with at least two workers if it has any.
        code: makes one in a script that has imported all of `perfect.core`.
        parallel: whether two tasks can be under way at once.
        elsewhere: whether tasks run in other processes.
        scripted: whether the tests with scripts of their own (Ctrl+C) are to run over it.
    """

    name: str
    make: Callable[[], AbstractContextManager[Executor]]
    code: str
    parallel: bool = True
    elsewhere: bool = False
    scripted: bool = True


@contextmanager
def local() -> Iterator[Executor]:
    yield LocalExecutor()


@contextmanager
def threads() -> Iterator[Executor]:
    yield ThreadExecutor(3)


@contextmanager
def processes() -> Iterator[Executor]:
    yield ProcessExecutor(3)


@contextmanager
def spawned() -> Iterator[Executor]:
    yield ProcessExecutor(2, start_method="spawn")


@contextmanager
def dask() -> Iterator[Executor]:
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    yield DaskExecutor(shared_cluster())


@contextmanager
def dask_threads() -> Iterator[Executor]:
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    yield LocalDaskExecutor(num_workers=2)


EXECUTORS: list[UnderTest] = [
    UnderTest("local", local, "LocalExecutor()", parallel=False),
    UnderTest("thread", threads, "ThreadExecutor(3)"),
    UnderTest("process", processes, "ProcessExecutor(3)", elsewhere=True),
    UnderTest("process-spawn", spawned, "ProcessExecutor(2, start_method='spawn')", elsewhere=True),
    UnderTest("dask", dask, "DaskExecutor(n_workers=2)", elsewhere=True),
    UnderTest("dask-threads", dask_threads, "LocalDaskExecutor(num_workers=2)"),
]
