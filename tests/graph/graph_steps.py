"""Tasks that other processes can import, for the tests of the executors."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import perfect
from perfect.core import Task, task
from perfect.sdk import Secret, TaskResult, flow

log = logging.getLogger("steps")


@task
def one() -> int:
    return 1


@task
def inc(x: int) -> int:
    return x + 1


@task
def double(x: int) -> int:
    return 2 * x


@task
def add(x: int, y: int) -> int:
    return x + y


@task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@task
def several(count: int) -> list[int]:
    return list(range(count))


class Plus(Task[..., Any]):
    """A task as an object with what it needs in it."""

    def __init__(self, number: int, **options: Any) -> None:
        self.number = number
        super().__init__(**options)

    def run(self, x: int) -> int:
        return x + self.number


def times_three(x: int) -> int:
    return 3 * x


named_otherwise = task(name="three times")(times_three)


@task
def nested(x: int) -> int:
    return inc(double(x))


@task
async def waits(x: int) -> int:
    await asyncio.sleep(0)
    return x + 10


@task
def counts(limit: int) -> Iterator[int]:
    yield from range(limit)


@task
def passes() -> TaskResult:
    return TaskResult(True, "fine", [{"a": 1}])


@task
def does_not_pass() -> TaskResult:
    return TaskResult(False, "too few")


@task
def boom(x: int = 0) -> int:
    raise KeyError(f"no such thing as {x}")


class OddError(Exception):
    """One that plain pickle makes wrongly, or not at all."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} against {second}")


class CodedError(Exception):
    """One with facts of its own."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class HoldsLock(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class ExplodesError(Exception):
    """One that can be pickled, but not be read again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _explode, ()


@task
def raises_exploding() -> None:
    raise ExplodesError("at home")


@task
def raises_odd() -> None:
    raise OddError(1, 2)


@task
def raises_coded() -> None:
    raise CodedError(7)


@task
def raises_lock() -> None:
    raise HoldsLock


@task
def leaves() -> None:
    raise SystemExit("enough")


@task(retries=2, delay=0.01)
def third_time(folder: str) -> int:
    """Fails twice; what it knows of earlier attempts is in a folder."""
    attempt = len(os.listdir(folder)) + 1
    Path(folder, str(attempt)).touch()
    if attempt < 3:
        raise ValueError(f"attempt {attempt}")
    return attempt


@task(timeout=0.3)
def too_slow(gate: str) -> None:
    """Waits for what never comes: a file that only the end of the test makes."""
    print("waiting")
    while not os.path.exists(gate):
        time.sleep(0.01)


@task(timeout=0.2)
async def too_slow_async() -> None:
    await asyncio.sleep(60)


@task(when=lambda x: x > 10)
def only_large(x: int) -> int:
    return x


@task
def talks(who: str) -> str:
    print(who, "begins")
    log.warning("%s warns", who)
    perfect.progress(0.25)
    print(who, "ends\nwithout a newline", end="")
    return who


@task
def says_much(lines: int) -> None:
    for number in range(lines):
        print("line", number)


@task
def size(data: bytes) -> int:
    return len(data)


@task
def large(count: int) -> bytes:
    return bytes(range(256)) * (count // 256)


@task
def says_and_waits(gate: str) -> None:
    """Waits until somebody has heard it."""
    print("are you there?")
    perfect.progress(0.5)
    while not os.path.exists(gate):
        time.sleep(0.01)


@task
def meets(folder: str, who: str, others: int) -> str:
    """Ends when so many others are under way at the same time."""
    Path(folder, who).touch()
    while len(os.listdir(folder)) <= others:
        time.sleep(0.005)
    return who


@task
def pid(x: int = 0) -> int:
    return os.getpid()


# --- of processes only ------------------------------------------------------------------------


@task(retries=1, delay=0.01)
def dies(folder: str, times: int, how: str = "exit") -> int:
    """Takes its process with it, so many times."""
    attempt = len(os.listdir(folder)) + 1
    Path(folder, str(attempt)).touch()
    print("attempt", attempt)
    if attempt <= times:
        if how == "exit":
            os._exit(3)
        os.kill(os.getpid(), 9)
    return attempt


@task
def waits_for(gate: str, told: str) -> int:
    """Writes its process id into a file and waits for another file."""
    Path(told + ".part").write_text(str(os.getpid()))
    os.rename(told + ".part", told)
    while not os.path.exists(gate):
        time.sleep(0.01)
    return os.getpid()


@task
def until_cancelled(told: str) -> str:
    """Writes its process id into a file and goes on until its run is cancelled."""
    print("cancelled:", perfect.cancelled())
    Path(told + ".part").write_text(str(os.getpid()))
    os.rename(told + ".part", told)
    while not perfect.cancelled():
        time.sleep(0.01)
    print("cancelled:", perfect.cancelled())
    return "ended by itself"


@task
def dies_when_cancelled(told: str) -> None:
    until_cancelled(told)
    os._exit(3)


class Bomb:
    """Can be pickled, but not be read again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _explode, ()


def _explode() -> None:
    raise pickle.UnpicklingError("it explodes")


@task
def takes(x: Any, y: Any = None) -> str:
    return f"{type(x).__name__}"


@task
def gives_lock() -> Any:
    return threading.Lock()


@task
def gives_bomb() -> Any:
    return Bomb()


class Tracer:
    """Something whose life can be watched from outside."""

    alive = 0

    def __init__(self) -> None:
        Tracer.alive += 1

    def __del__(self) -> None:
        Tracer.alive -= 1

    def __reduce__(self) -> tuple[Any, ...]:
        return Tracer, ()


@task
def keeps_nothing(x: Any) -> Any:
    """Gets what can be watched, and gives such a thing."""
    return Tracer()


@task
def alive(after: Any = None) -> int:
    """How many tracers this process holds."""
    return Tracer.alive


_counted: ContextVar[int] = ContextVar("counted", default=0)


@task
def sets_context() -> int:
    _counted.set(_counted.get() + 1)
    return _counted.get()


@task
def forks() -> int:
    """A child of the worker prints: it must neither hang nor write in between."""
    child = os.fork()
    if not child:
        print("from the child", flush=True)
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@task
def has_thread() -> None:
    thread = threading.Thread(target=print, args=("in a thread",))
    thread.start()
    thread.join()


@task
def signals() -> tuple[bool, bool]:
    """Whether SIGINT is survived, and SIGTERM has its default."""
    import signal

    os.kill(os.getpid(), signal.SIGINT)
    return True, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@task(timeout=0.3)
def hogs() -> None:
    """Keeps the interpreter lock and hears no signal: backtracking without end."""
    import re

    re.match(r"(a+)+$", "a" * 60 + "b")


@task
def variadic(*values: Any, **named: Any) -> int:
    return len(values) + len(named)


@flow(name="called in a task")
def inner_flow() -> int:
    return one()


@task
def calls_flow() -> int:
    return inner_flow()


@task
def sleeps(seconds: float, x: Any = None) -> int:
    time.sleep(seconds)
    return os.getpid()


@task
def tells_and_sleeps(x: Any = None) -> None:
    os.write(1, b"pid %d\n" % os.getpid())  # in one piece
    time.sleep(60)


@task
async def waits_for_ever() -> None:
    await asyncio.Event().wait()


@task
def tells_secret(word: str) -> None:
    secret = Secret(word)
    print("the word is", secret.get())
    raise ValueError(f"not {secret.get()}")


@task
def leaves_child(path: str) -> int:
    """Leaves a child behind and dies; the next attempt tells the child's id."""
    if os.path.exists(path):
        return int(Path(path).read_text())
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    Path(path).write_text(str(child))
    os._exit(3)


@task
def says_and_ends(begun: str, ended: str) -> str:
    Path(begun).touch()
    for number in range(5):
        print("line", number)
    Path(ended).touch()
    return "in time"
