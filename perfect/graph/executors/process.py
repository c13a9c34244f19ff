"""Tasks side by side in worker processes of this machine.

A pool of our own, because one worker must be killable without breaking the rest. Each worker has a pipe of its
own and one attempt at a time, so that nothing is told as running that waits, and nothing waits behind a long task.
"""

from __future__ import annotations

import contextvars
import multiprocessing
import os
import pickle
import select
import selectors
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any

from perfect import session
from perfect.context import Detached, current
from perfect.errors import ConfigurationError, NotSendable, TaskTimeout
from perfect.graph import away, remote
from perfect.graph.executors.base import GRACE, Executor, Pool, Work
from perfect.graph.executors.thread import checked_workers
from perfect.signals import RunCancelled

ENDING = 10.0  # s that idle workers may take to end: one may have a session of its own to close
DYING = 1.0  # s between the end of a worker's pipe and its own

# What a worker tells: one byte, and what belongs to it, pickled.
READY, BEGUN, SAID, OUTCOME, UNREADABLE = b"r", b"b", b"s", b"o", b"u"
# What it is to tell: one byte before the errand.
TELL_BEGUN, TELL_SAID = 1, 2


class ProcessExecutor(Executor):
    """Runs tasks in processes.

    A task is found in the worker by its qualified name; its arguments and its result are pickled. At its
    `timeout` its worker is killed; processes that the task has started itself are not. Where a worker dies,
    its task is computed again in another one, up to three times. Tasks that a task calls are plain calls there.
    When the run is cancelled, `perfect.cancelled` is True there, and a worker that is still at its task 3 s later is
    killed.

    Args:
        max_workers: how many processes; default: as many as this process may use cores.
        start_method: "fork", "spawn" or "forkserver"; default: that of `multiprocessing`. Other than with
            "fork", a script must run its flows under ``if __name__ == "__main__":``.

    Raises:
        ConfigurationError: an argument can't be used.
    """

    def __init__(self, max_workers: int | None = None, *, start_method: str | None = None) -> None:
        self.max_workers = checked_workers(max_workers) or _cores()
        known = multiprocessing.get_all_start_methods()
        if start_method is not None and start_method not in known:
            reason = f"is none of {', '.join(known)}"
            raise ConfigurationError("start_method", start_method, reason)
        self.start_method = start_method

    def start(self) -> Pool:
        """Begin to serve one run.

        Raises:
            ConfigurationError: this is a worker that imports the script it belongs to.
        """
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise ConfigurationError("__name__", "__mp_main__", UNGUARDED)
        return _Processes(self.max_workers, self.start_method)


UNGUARDED = (
    "a worker process imports the script that starts it, and must not run its flows again: put what runs "
    'them under `if __name__ == "__main__":`, or use ProcessExecutor(start_method="fork")'
)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- what forked children must not hold -------------------------------------------------------

# Ends of pipes: while a child has a copy, whoever is at the other end does not learn that this process has died.
_ends: set[Connection] = set()
# Held while a worker is started: no other thread forks meanwhile and takes copies of the ends not noted yet.
_forking = threading.RLock()
_watched = False


def _watch_forks() -> None:
    global _watched
    if not _watched and hasattr(os, "register_at_fork"):
        _watched = True
        os.register_at_fork(
            before=lambda: _forking.acquire(),
            after_in_parent=lambda: _forking.release(),
            after_in_child=_in_child,
        )


def _in_child() -> None:
    global _forking
    _forking = threading.RLock()
    for end in _ends:
        end.close()
    _ends.clear()


@contextmanager
def _starting() -> Iterator[None]:
    """While a worker is started: nobody else forks, and no signal reaches the child before it is ready for it."""
    with _forking:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        # Not the run's scope: `perfect.forking` would relay the child's lines, which come through the pipe.
        token = current.set(Detached())
        try:
            yield
        finally:
            current.reset(token)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


_SIGNALS = {signal.SIGINT, signal.SIGTERM}


# --- at home ----------------------------------------------------------------------------------


class _Worker:
    """A worker process as it is seen from home.

    Attributes:
        conn: this end of its pipe.
        work: the attempt it is at, or None.
        ready: whether it has come to life.
    """

    __slots__ = ("process", "conn", "name", "work", "ready")

    def __init__(self, process: Any, conn: Connection) -> None:
        self.process = process
        self.conn = conn
        self.name = ""
        self.work: Work | None = None
        self.ready = False

    def end(self, patience: float) -> int:
        """See the process to its end, killing it after so many s; its exit code as `multiprocessing` has it."""
        process = self.process
        process.join(patience)
        with _forking:  # another thread that starts a worker may just be reaping this one
            if process.is_alive():
                process.kill()
                process.join()
            code: int = process.exitcode
            process.close()
        return code

    def hang_up(self) -> None:
        """Close this end, which an idle worker takes as its end."""
        _ends.discard(self.conn)
        self.conn.close()


class _Processes(Pool):
    def __init__(self, limit: int, start_method: str | None) -> None:
        self.slots = limit
        self._context: Any = multiprocessing.get_context(start_method)
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._done: list[Work] = []
        self._deadlines: dict[_Worker, float] = {}  # monotonic s
        self._selector = selectors.PollSelector()
        # What is written there is never read: once it can be, the run is to end, for every worker.
        self._told, self._tell = self._context.Pipe(duplex=False)
        self._cancelled: str | None = None  # why the run is
        _watch_forks()

    def submit(self, work: Work) -> None:
        if work.body is work.task.body:
            self._hand_over(work)
            return
        # What a test put in its place can't be found by a name.
        work.make()
        if work.error is not None and not isinstance(
            work.error, (Exception, SystemExit, RunCancelled)
        ):
            raise work.error
        self._done.append(work)

    def wait(self, timeout: float | None) -> Iterable[Work]:
        limit = None if timeout is None else monotonic() + timeout
        while not self._done:
            due = min(self._deadlines.values(), default=None)
            if due is None or limit is not None and limit < due:
                due = limit
            patience = None if due is None else max(0.0, due - monotonic())
            for key, _ in self._selector.select(patience):
                if key.data in self._workers:  # else it was found dead meanwhile
                    self._hear(key.data)
            if due is not None:
                now = monotonic()
                for worker in [one for one, end in self._deadlines.items() if end <= now]:
                    self._stop(worker)
                if limit is not None and limit <= now:
                    break
        done, self._done = self._done, []
        return done

    def interrupt(self, reason: str) -> Iterable[Work]:
        self._cancelled = reason
        self._tell.send_bytes(b"")
        for worker in [one for one in self._workers if one.work is not None]:
            self._limit(worker, GRACE)
        return ()

    def close(self, *, hurried: bool) -> None:
        workers, self._workers = self._workers, set()
        if hurried:
            for worker in workers:
                if worker.process.pid is not None:
                    worker.process.kill()
        for worker in workers:
            worker.hang_up()
        self._selector.close()
        self._told.close()
        self._tell.close()
        limit = monotonic() + ENDING
        for worker in workers:
            if worker.process.pid is not None:  # else Ctrl+C came before it was there
                worker.end(max(0.0, limit - monotonic()))

    def _hand_over(self, work: Work) -> None:
        try:
            # The timeout is held here, where the worker can be killed.
            errand = remote.packed(remote.errand_of(work)._replace(timeout=None))
        except NotSendable as error:
            work.error = error
            self._done.append(work)
            return
        tell = TELL_BEGUN | TELL_SAID if work.tracker is not None else 0
        if work.task.timeout is not None:
            tell |= TELL_BEGUN
        message = bytes((tell,)) + errand
        while True:
            worker = self._idle.pop() if self._idle else self._started()
            try:
                worker.conn.send_bytes(message)
            except OSError:
                if worker.ready:  # it died while it had nothing to do
                    self._gone(worker)
                    continue
                worker.work = work
                self._gone(worker)
            else:
                worker.work = work
            return

    def _started(self) -> _Worker:
        with _starting():
            ours, theirs = self._context.Pipe()
            try:
                process = self._context.Process(
                    target=_work,
                    args=(theirs, self._told),
                    name=f"perfect-process-{len(self._workers)}",
                )
                worker = _Worker(process, ours)
                # Noted before it is there: if Ctrl+C comes in between, that our end is closed ends it.
                _ends.add(ours)
                self._workers.add(worker)
                process.start()
            finally:
                theirs.close()
        worker.name = f"process {process.pid}"
        self._selector.register(ours, selectors.EVENT_READ, worker)
        return worker

    def _hear(self, worker: _Worker) -> None:
        """Take a worker's next message."""
        try:
            message = memoryview(worker.conn.recv_bytes())
        except (EOFError, OSError):
            self._gone(worker)
            return
        kind, work = message[:1], worker.work
        if kind == READY:
            worker.ready = True
        elif work is None:  # it said something when it had nothing to do
            pass
        elif kind == SAID:
            remote.hear(work, pickle.loads(message[1:]))
        elif kind == BEGUN:
            remote.begun(work)
            if work.task.timeout is not None:
                self._limit(worker, work.task.timeout)
        else:
            self._deadlines.pop(worker, None)
            worker.work = None
            self._idle.append(worker)
            remote.take_home(work, _outcome(worker, work, message))
            self._done.append(work)

    def _limit(self, worker: _Worker, seconds: float) -> None:
        """A worker's task is to take so long at most, from now on."""
        due = monotonic() + seconds
        self._deadlines[worker] = min(due, self._deadlines.get(worker, due))

    def _stop(self, worker: _Worker) -> None:
        """A worker's task has reached its limit."""
        work = worker.work
        assert work is not None
        worker.process.kill()
        _, last = self._forget(worker)
        if last is None and self._cancelled is not None:
            work.error = RunCancelled(self._cancelled)
        elif last is None:
            assert work.task.timeout is not None
            work.error = TaskTimeout(work.task.name, work.task.timeout)
        else:  # it was in time, but not heard in time
            remote.take_home(work, _outcome(worker, work, last))
        self._done.append(work)

    def _gone(self, worker: _Worker) -> None:
        """A worker has died by itself."""
        work = worker.work
        code, _ = self._forget(worker)
        if not worker.ready and code > 0:
            raise ConfigurationError(
                "start_method",
                self._context.get_start_method(),
                f"a worker process ended with exit code {code} before it could begin; its own error stands "
                f"above, on stderr. Most often {UNGUARDED}",
            )
        if work is None:
            return
        if self._cancelled is not None:
            work.error = RunCancelled(self._cancelled)
        elif remote.lost(work, f"{worker.name} ({_told(code)})"):
            self._hand_over(work)
            return
        self._done.append(work)

    def _forget(self, worker: _Worker) -> tuple[int, memoryview | None]:
        """See a worker to its end: its exit code, and the outcome of its task if that was its last word."""
        self._workers.remove(worker)
        self._selector.unregister(worker.conn)
        code = worker.end(DYING)
        work, last = worker.work, None
        try:
            while worker.conn.poll():
                message = memoryview(worker.conn.recv_bytes())
                if message[:1] == SAID and work is not None:
                    remote.hear(work, pickle.loads(message[1:]))
                elif message[:1] in (OUTCOME, UNREADABLE):
                    last = message
        except (EOFError, OSError):
            pass
        self._deadlines.pop(worker, None)
        if worker in self._idle:
            self._idle.remove(worker)
        worker.hang_up()
        return code, last


def _outcome(worker: _Worker, work: Work, message: memoryview) -> remote.Outcome:
    name = work.task.name
    try:
        content = pickle.loads(message[1:])
    except Exception as error:
        problem = (
            f"the result of task {name!r} was pickled in another process, but can't be read here: "
            f"{type(error).__name__}: {error}"
        )
        return away.not_carried_out(name, problem, worker.name)
    if message[:1] == UNREADABLE:
        problem = f"task {name!r} was sent to another process, but can't be read there: {content}"
        return away.not_carried_out(name, problem, worker.name)
    assert isinstance(content, remote.Outcome)
    return content


def _told(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    known = [one.name for one in signal.Signals if one == -code]
    return f"killed by {known[0] if known else f'signal {-code}'}"


# --- there ------------------------------------------------------------------------------------


class _Home:
    """Home as it is seen from a worker.

    Attributes:
        busy: whether there is a task under way.
        gone: whether the other end of the pipe is closed.
    """

    def __init__(self, conn: Connection, told: Connection) -> None:
        self.conn = conn
        self.busy = self.gone = False
        self._told = told.fileno()
        self.name = away.this_process()

    def tell(self, kind: bytes, content: bytes = b"") -> None:
        try:
            self.conn.send_bytes(kind + content)
        except OSError:  # it is gone: the next attempt to hear from it says so
            pass

    def say(self, said: list[remote.Said]) -> None:
        self.tell(SAID, pickle.dumps(said, pickle.HIGHEST_PROTOCOL))

    def cancels(self) -> bool:
        """Whether the run is to end. For any thread: 2 µs."""
        poll = select.poll()
        poll.register(self._told, select.POLLIN)
        return any(what & select.POLLIN for _, what in poll.poll(0))

    def watch(self) -> None:
        """Wait until home is gone; what is under way then is for nobody."""
        poll = select.poll()
        poll.register(self.conn.fileno(), 0)  # hang-ups are told without being asked for
        poll.poll()
        self.gone = True
        if self.busy:
            os._exit(1)


def _work(conn: Connection, told: Connection) -> None:
    """Make attempts until home hangs up.

    Args:
        told: can be read once the run is cancelled.
    """
    # Ctrl+C is for home to decide on. A handler, because to ignore it would be inherited by what tasks start.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    current.set(None)
    _watch_forks()
    _ends.add(conn)
    home = _Home(conn, told)
    threading.Thread(target=home.watch, name="perfect-home", daemon=True).start()
    home.tell(READY)
    # What a task sets in context variables is gone with it.
    while contextvars.copy_context().run(_serve, home):
        pass
    session.reset()  # of flows that tasks have called


def _serve(home: _Home) -> bool:
    """Make one attempt; False if home has hung up. Afterwards nothing of it is kept."""
    try:
        message = home.conn.recv_bytes()
    except (EOFError, OSError):
        return False
    home.busy = True
    if home.gone:
        return False
    try:
        errand = pickle.loads(memoryview(message)[1:])
    except Exception as error:
        home.busy = False
        home.tell(UNREADABLE, pickle.dumps(f"{type(error).__name__}: {error}"))
        return True
    tell = message[0]
    del message
    outcome = away.carry_out(
        errand,
        home.say if tell & TELL_SAID else None,
        home.name,
        (lambda: home.tell(BEGUN)) if tell & TELL_BEGUN else None,
        cancelled=home.cancels,
    )
    for stream in (sys.stdout, sys.stderr):  # what it printed is seen before what comes of it
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # none, gone or closed
            pass
    message = away.packed_outcome(errand, outcome)
    home.busy = False  # before it is told: home may hang up as soon as it knows
    home.tell(OUTCOME, message)
    return True
