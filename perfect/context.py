"""Which run this thread or coroutine is in.

A `Scope` is what calls and printed lines of the present thread or coroutine belong to: a flow run,
one of its task runs, or nothing. It lives in a ContextVar, so threads and asyncio tasks don't see
each other's. Threads inherit no context (before Python 3.14), so a thread that was started while
exactly one run is active is taken to belong to that run; where several are active, `propagate`
says which.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from threading import get_ident
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from perfect.about import RunInfo

P = ParamSpec("P")
R = TypeVar("R")


class Caller(Protocol):
    """Calls tasks on behalf of a scope: a run, a graph that is being built, or nothing."""

    def call(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What ``task(…)`` comes to."""

    def submit(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What ``task.submit(…)`` comes to."""

    def map(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What ``task.map(…)`` comes to."""


# A longer unfinished line is not kept whole; what is past this is only counted (characters).
LONGEST_PARTIAL = 1 << 20


class LineBuffer:
    """Gathers the pieces of one line until its newline comes.

    A carriage return begins the line anew, so that a progress bar is kept as it stands, not with
    all that it ever said.
    """

    __slots__ = ("pieces", "size", "dropped", "returned")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.size = 0
        self.dropped = 0  # characters that no longer fitted
        self.returned = False  # whether the cursor stands at the line's beginning again

    def add(self, piece: str) -> None:
        if not self.returned and "\r" not in piece:
            self.size += len(piece)
            if self.size <= LONGEST_PARTIAL:  # nearly always
                self.pieces.append(piece)
                return
            self.size -= len(piece)
        if self.returned and piece.strip("\r"):
            self._clear()
        if "\r" in piece:
            # What follows the last return counts; a return at the very end overwrites nothing yet.
            whole = piece.rstrip("\r")
            start = whole.rfind("\r") + 1
            if start:
                self._clear()
            self.returned = len(whole) < len(piece)
            piece = whole[start:]
        room = LONGEST_PARTIAL - self.size
        if len(piece) > room:
            self.dropped += len(piece) - room
            piece = piece[:room]
        if piece:
            self.pieces.append(piece)
            self.size += len(piece)

    def take(self) -> str:
        text = "".join(self.pieces)
        if self.dropped:
            text = f"{text}… [cut, {self.dropped} characters]"
        self.pieces = []
        self.size = self.dropped = 0
        self.returned = False
        return text

    def _clear(self) -> None:
        self.pieces.clear()
        self.size = self.dropped = 0
        self.returned = False


class Scope:
    """What the calls and lines of a thread or coroutine belong to.

    Attributes:
        caller: calls a task on behalf of this scope.
        partials: unfinished lines by (stream, thread id): threads that share a scope don't mix.
    """

    __slots__ = ("caller", "partials")

    caller: Caller
    partials: dict[tuple[str, int], LineBuffer]
    run: Any = None  # the FlowRun this belongs to, or None
    flow: Any = None  # the graph flow that is being built here, or None

    def emit(self, stream: str, level: str, text: str) -> None:
        """Take one whole line, without its newline."""
        raise NotImplementedError

    def about(self) -> RunInfo | None:
        """The run that this belongs to, or None."""
        run = self.run
        return None if run is None else run.about()

    def cancellation(self) -> str | None:
        """Why that run is to end; None while nobody wants it to."""
        run = self.run
        return None if run is None else run.cancelled

    def report_progress(self, fraction: float) -> None:
        """Take what a task says of its own progress, 0–1; where no task is, nothing happens."""

    def feed(self, stream: str, text: str) -> None:
        """Take text as it is written; whole lines go on to `emit`."""
        key = (stream, get_ident())
        buffer = self.partials.get(key)
        if buffer is None:
            buffer = self.partials[key] = LineBuffer()
        if text == "\n":  # what print() writes last
            self.emit(stream, "INFO", buffer.take())
            return
        if "\n" not in text:
            buffer.add(text)
            return
        *whole, rest = text.split("\n")
        for line in whole:
            if buffer.pieces:
                buffer.add(line)
                line = buffer.take()
            self.emit(stream, "INFO", _shown(line))
        buffer.add(rest)

    def flush_lines(self) -> None:
        """Emit what was written without a last newline."""
        while self.partials:
            (stream, _), buffer = self.partials.popitem()
            if buffer.size:
                self.emit(stream, "INFO", _shown(buffer.take()))


def _shown(line: str) -> str:
    """A line as a terminal would leave it: what a carriage return overwrote is gone."""
    if "\r" in line:
        line = line.rstrip("\r")
        return line[line.rfind("\r") + 1 :]
    return line


class PlainCaller:
    """The caller where no run is: the task is the function it wraps."""

    def call(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return task.call_alone(args, kwargs)

    def submit(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return task.submit_alone(args, kwargs)

    def map(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return task.map_alone(args, kwargs)


PLAIN = PlainCaller()


class Detached(Scope):
    """The scope of threads that belong to no run whatever else is going on: perfect's own."""

    __slots__ = ()

    def __init__(self) -> None:
        self.caller = PLAIN
        self.partials = {}

    def feed(self, stream: str, text: str) -> None:
        pass

    def emit(self, stream: str, level: str, text: str) -> None:
        pass


current: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("perfect", default=None)
"""The scope of this thread or coroutine; None where no run is."""

# Scopes of the runs active in this process, each with the threads alive when it began.
_active: dict[Scope, frozenset[int | None]] = {}


def enter_run(scope: Scope) -> None:
    """Note that a run has begun (in this process, in whatever thread)."""
    _active[scope] = frozenset(thread.ident for thread in threading.enumerate())


def leave_run(scope: Scope) -> None:
    """Note that a run has ended."""
    _active.pop(scope, None)


def find_scope() -> Scope | None:
    """The scope of this thread or coroutine, also in a thread that a run's code has started."""
    scope = current.get()
    if scope is None and len(_active) == 1:
        for run, elders in tuple(_active.items()):
            if get_ident() not in elders:
                return run
    return scope


def cancellation() -> str | None:
    """Why the run of this thread or coroutine is to end; None while nobody wants that, or where no run is."""
    scope = find_scope()
    return None if scope is None else scope.cancellation()


def propagate(function: Callable[P, R]) -> Callable[P, R]:
    """Bind a function to the run it was handed out in; outside a run it stays as it is.

    ``pool.map(propagate(work), items)`` lets calls and prints in the pool's threads belong to this
    run, also while other runs are active in the process.
    """
    scope = find_scope()
    if scope is None:
        return function

    @wraps(function)
    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        token = current.set(scope)
        try:
            return function(*args, **kwargs)
        finally:
            current.reset(token)

    return bound


def forget_runs() -> None:
    """In a forked child: the parent's runs are not active here."""
    _active.clear()
