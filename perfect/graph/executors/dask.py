"""Tasks on a Dask cluster, through `dask.distributed` (the extra ``dask``).

Each attempt is one Dask task, and its outcome comes home at once: a node that has finished is not computed
again when a worker dies later. Workers need perfect installed. A task goes by its name; one
that a worker could not find so (of a script or notebook, a closure, a lambda) goes by value.

Home hears through the scheduler's stream of events, which keeps the order: that an attempt begins, what it says,
and then that it has ended. The client's event loop only puts what comes into a queue; the thread that
runs the graph reads it.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import math
import multiprocessing
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from perfect.errors import ConfigurationError, MissingExtra, NotSendable, WorkerLost
from perfect.graph import remote
from perfect.graph.executors import dask_worker
from perfect.graph.executors.base import GRACE, Executor, Pool, Work
from perfect.graph.remote import Said
from perfect.records import new_id
from perfect.signals import RunCancelled
from perfect.threads import spawn

log = logging.getLogger("perfect")

ANSWER_WITHIN = 10.0  # s, for a scheduler
LOOK_EVERY = 1.0  # s, at how many threads the cluster has
LONELY_AFTER = 10.0  # s without any worker, until a line says so
AHEAD = 6  # beyond two a thread: with fewer, small tasks wait for messages (measured)
LARGE = 1_000_000  # bytes: above, Dask would advise against sending it with the task
# What the cluster evaluates. Were it given the function itself, a worker without perfect could not read the
# message, and would end; and so would the next one.
CALL = f"__import__('importlib').import_module({dask_worker.__name__!r}).carry_out(*given)"
CANCEL = f"__import__('importlib').import_module({dask_worker.__name__!r}).cancel(*given)"
CALL_HERE = f"__import__('importlib').import_module({__name__!r}).make_here(*given)"
UNGUARDED = (
    "a worker process imports the script that starts it, and must not run its flows again: put what runs "
    'them under `if __name__ == "__main__":`'
)


class DaskExecutor(Executor):
    """Runs tasks on a Dask cluster.

    A worker that is killed costs the attempts it was at: they are made again elsewhere, each shown as a further attempt.
    At its `timeout` an attempt fails; its thread on the worker can't be stopped and is left to itself. When the run is
    cancelled, `perfect.cancelled` is True there; an attempt that goes on 3 s later is left to itself, too, or is killed
    with its worker where the cluster was made for the run.

    Args:
        address: of a running scheduler, as "tcp://10.0.0.1:8786". None: a cluster of processes on this
            machine, made for each run and closed after it; a script must then begin its work under
            ``if __name__ == "__main__":``, because new processes import it.
        n_workers: how many processes; default: as many as give a thread to each core.
        threads_per_worker: attempts that one of them makes at a time.

    Raises:
        ConfigurationError: an argument can't be used. `start` raises it where no scheduler answers.
        MissingExtra: by `start`: Dask is not installed.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        n_workers: int | None = None,
        threads_per_worker: int = 1,
    ) -> None:
        if address is not None and (not isinstance(address, str) or not address):
            raise ConfigurationError("address", address, "is not the address of a scheduler")
        if address is not None and n_workers is not None:
            raise ConfigurationError(
                "n_workers", n_workers, "the cluster at an address has the workers it has"
            )
        self.address = address
        self.n_workers = None if n_workers is None else _count("n_workers", n_workers)
        self.threads_per_worker = _count("threads_per_worker", threads_per_worker)

    def start(self) -> Pool:
        if self.address is not None:
            return _started(partial(_join, self.address))
        return _started(partial(_make, True, self.n_workers, self.threads_per_worker))


class LocalDaskExecutor(Executor):
    """Runs tasks on a Dask cluster on this machine, made for each run and closed after it.

    Args:
        scheduler: "threads": in threads of this process, where nothing has to be pickled; or "processes".
        num_workers: how many; default: one for each core.

    Raises:
        ConfigurationError: an argument can't be used.
        MissingExtra: by `start`: Dask is not installed.
    """

    def __init__(self, scheduler: str = "threads", num_workers: int | None = None) -> None:
        if scheduler not in ("threads", "processes"):
            raise ConfigurationError("scheduler", scheduler, "is neither 'threads' nor 'processes'")
        self.scheduler = scheduler
        self.num_workers = None if num_workers is None else _count("num_workers", num_workers)

    def start(self) -> Pool:
        if self.scheduler == "processes":
            return _started(partial(_make, True, self.num_workers, 1))
        return _started(partial(_make, False, 1, self.num_workers))


def _count(argument: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(argument, value, "is no whole number of 1 or more")
    return value


# --- a cluster is joined or made ---------------------------------------------------------------


def _distributed() -> Any:
    """The package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import distributed
    except ImportError as error:
        raise MissingExtra("dask", "a Dask executor") from error
    return distributed


def _started(enter: Callable[[ExitStack], Pool]) -> Pool:
    """Start a pool in a thread, so that Ctrl+C leaves no half of it.

    Args:
        enter: makes the pool, and notes how each part of it is closed.
    """
    made: Future[Pool] = Future()
    leave = ExitStack()

    def start() -> None:
        try:
            made.set_result(enter(leave))
        except BaseException as error:
            made.set_exception(error)

    thread = spawn("perfect-dask", start)
    try:
        return made.result()
    except BaseException:
        thread.join(ANSWER_WITHIN)
        leave.close()
        raise


def _join(address: str, leave: ExitStack) -> Pool:
    distributed = _distributed()
    leave.enter_context(_silence())
    try:
        client = distributed.Client(address, timeout=ANSWER_WITHIN, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError("address", address, f"no scheduler answers: {error}") from error
    leave.callback(client.close, timeout=ANSWER_WITHIN)
    return _Cluster(client, f"the Dask scheduler at {address}", leave)


def _make(processes: bool, n_workers: int | None, threads: int | None, leave: ExitStack) -> Pool:
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigurationError("__name__", "__mp_main__", UNGUARDED)
    distributed = _distributed()
    leave.enter_context(_silence())
    options: dict[str, Any] = {"n_workers": n_workers, "processes": processes}
    if processes:
        folder = tempfile.mkdtemp(prefix="perfect-dask-")
        leave.callback(shutil.rmtree, folder, ignore_errors=True)
        options.update(local_directory=folder, preload=[dask_worker.__name__], protocol="tcp://")
    else:
        # No sockets between threads: tornado leaves one open now and then when two clusters close at once.
        # The worker's HTTP server would be open to all hosts were it not given an address.
        options.update(protocol="inproc://", worker_dashboard_address="127.0.0.1:0")
        options["memory_limit"] = 0  # what else is in this process would count, too
    try:
        cluster = distributed.LocalCluster(
            threads_per_worker=threads or os.cpu_count(),
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False, "allowed_failures": remote.MOST_LOST - 1},
            silence_logs=logging.CRITICAL,
            **options,
        )
    except RuntimeError as error:
        reason = f"no cluster comes up ({_root(error)}). Most often {UNGUARDED}"
        raise ConfigurationError("n_workers", n_workers, reason) from error
    leave.callback(cluster.close, timeout=ANSWER_WITHIN)
    client = distributed.Client(cluster, timeout=ANSWER_WITHIN, set_as_default=False)
    leave.callback(client.close, timeout=ANSWER_WITHIN)
    kind = _Cluster if processes else _HereInThreads
    return kind(client, "the Dask cluster of this run", leave, cluster)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


_silence_lock = threading.Lock()
_silenced: dict[logging.Logger, int] = {}  # the loggers' own levels
_silences = 0


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what distributed logs from the terminal and the run; what matters is told by the run itself."""
    global _silences
    with _silence_lock:
        _silences += 1
        if _silences == 1:
            names = [name for name in logging.root.manager.loggerDict if _of_distributed(name)]
            for logger in map(logging.getLogger, names):
                if logger.level or logger.name == "distributed":
                    _silenced[logger] = logger.level
                    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        with _silence_lock:
            _silences -= 1
            if not _silences:
                for logger, level in _silenced.items():
                    logger.setLevel(level)
                _silenced.clear()


def _of_distributed(name: str) -> bool:
    return name == "distributed" or name.startswith("distributed.")


# --- at home -------------------------------------------------------------------------------------


def _slots(threads: dict[str, int]) -> int:
    """How much to hand over: when a thread ends one, the next is there."""
    return 2 * sum(threads.values()) + AHEAD


class _Call:
    """An attempt that the cluster has been given.

    Attributes:
        worker: who is at it, or None before it has begun.
        fetching: waits for what comes of it.
        context: what the caller has in its context variables holds for its tasks too.
    """

    __slots__ = ("work", "worker", "fetching", "context")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.worker: str | None = None
        self.fetching: Future[None] | None = None
        self.context = contextvars.copy_context()

    def give_up(self) -> None:
        """Where it has not begun, it won't any more; else nobody waits for it."""
        if self.fetching is not None:
            self.fetching.cancel()


class _Cluster(Pool):
    """A cluster of processes.

    Args:
        client: connected to its scheduler.
        name: what errors call it.
        leave: closes all of it.
        own: the cluster, if it was made for this run.
    """

    def __init__(self, client: Any, name: str, leave: ExitStack, own: Any = None) -> None:
        self._client = client
        self._name = name
        self._leave = leave
        self._own = own
        self._topic = f"perfect-{new_id()}"
        self._news: SimpleQueue[tuple[str, int, Any]] = SimpleQueue()  # what, about which call
        self._calls: dict[int, _Call] = {}
        self._number = 0
        self._withdrawn: dict[int, str] = {}  # the tasks' names
        self._cancelled = ""  # why the run is
        self._give_up_at = math.inf  # monotonic s
        self._loop: asyncio.AbstractEventLoop = client.loop.asyncio_loop
        self.slots = _slots(client.nthreads())
        self._in_loop(self._enter()).result(ANSWER_WITHIN)
        self._looking = self._in_loop(self._look())

    def submit(self, work: Work) -> None:
        number = self._add(work)
        if work.body is not work.task.body:  # what a test put in its place
            work.make()
            self._news.put(("made", number, None))
            return
        try:
            sent = dask_worker.packed_errand(work)
        except NotSendable as error:
            work.error = error
            self._news.put(("made", number, None))
            return
        # Processes of our own write to the terminal themselves.
        heard = work.tracker is not None or self._own is None
        self._send(number, CALL, heard, work.task.name, sent)

    def _add(self, work: Work) -> int:
        self._number += 1
        self._calls[self._number] = _Call(work)
        return self._number

    def wait(self, timeout: float | None) -> Iterable[Work]:
        ended: list[Work] = []
        patience = self._give_up_at - monotonic()
        if timeout is not None or patience < math.inf:
            timeout = max(0.0, min(math.inf if timeout is None else timeout, patience))
        try:
            self._hear(*self._news.get(timeout=timeout), ended)
            while True:
                self._hear(*self._news.get_nowait(), ended)
        except Empty:
            if monotonic() >= self._give_up_at:
                ended += self._given_up()
            return ended

    def withdraw(self) -> Iterable[Work]:
        taken = []
        for number, call in list(self._calls.items()):
            if call.worker is None and call.fetching is not None:
                del self._calls[number]
                call.give_up()
                self._withdrawn[number] = call.work.task.name
                taken.append(call.work)
        return taken

    def interrupt(self, reason: str) -> Iterable[Work]:
        self._cancelled = reason
        self._give_up_at = monotonic() + GRACE
        self._in_loop(self._tell_workers())
        return ()

    def _given_up(self) -> list[Work]:
        """What was not made, or did not end by itself, in a run that is cancelled."""
        ended = []
        for number, call in list(self._calls.items()):
            if call.fetching is not None:
                del self._calls[number]
                call.give_up()
                if call.worker is not None and self._own is None:
                    log.warning(
                        "task %r is at work at worker %s: it is left to itself",
                        call.work.task.name,
                        call.worker,
                    )
                call.work.error = RunCancelled(self._cancelled)
                ended.append(call.work)
        return ended

    def close(self, *, hurried: bool) -> None:
        try:
            self._looking.cancel()
            for call in self._calls.values():
                call.give_up()
            self._in_loop(self._exit(hurried)).result(ANSWER_WITHIN)
        except TimeoutError:
            pass
        finally:
            self._leave.close()

    # --- what has come in, in the thread that runs the graph --------------------------------

    def _hear(self, what: str, number: int, said: Any, ended: list[Work]) -> None:
        if what == "lonely":
            log.warning(
                "no worker at %s for %g s: the run goes on when there is one",
                self._name,
                LONELY_AFTER,
            )
            return
        call = self._calls.get(number)
        if call is None:
            if what == "begun" and number in self._withdrawn:
                log.warning(
                    "task %r had begun at worker %s when it was given up: it is left to itself",
                    self._withdrawn.pop(number),
                    said,
                )
            return
        work = call.work
        if what == "said":
            remote.hear(work, [Said(*one) for one in json.loads(said)])
            return
        if what == "begun":
            former, call.worker = call.worker, said
            if self._cancelled and former is not None:  # a worker is lost: nothing is made again
                work.error = RunCancelled(self._cancelled)
            elif former is None or remote.lost(work, f"worker {former}"):
                remote.begun(work)
                return
            call.give_up()
        elif what == "returned":
            call.give_up()  # where it has come as an event, it need not be fetched
            remote.take_home(work, dask_worker.unpacked(work.task.name, said))
        elif what == "raised":
            work.error = self._meaning(work.task.name, said)
        del self._calls[number]
        ended.append(work)

    def _meaning(self, task: str, error: BaseException) -> BaseException:
        """What has kept the cluster from making an attempt, in words of ours."""
        if type(error).__name__ == "KilledWorker":
            lost = WorkerLost(task, f"worker {getattr(error, 'last_worker').address}")
            lost.add_note(str(error))
            return lost
        if isinstance(error, asyncio.CancelledError) or type(error).__name__.endswith(
            ("CancelledError", "ClosedError")
        ):
            return WorkerLost(task, self._name)
        reason = _root(error)
        if isinstance(reason, ImportError) and (reason.name or "").split(".")[0] == "perfect":
            return NotSendable(
                task,
                f"task {task!r}: perfect is not installed for {self._name} and all of its workers, or "
                f"is of another version there: {reason}",
            )
        return error

    # --- in the client's event loop ---------------------------------------------------------

    def _send(self, number: int, code: str, *given: Any) -> None:
        call = self._calls[number]
        # The name comes first: Dask's dashboard groups by it, and its estimates are by it.
        key = f"{call.work.task.name}-{self._topic}-{number}"
        call.fetching = self._in_loop(self._fetch(number, key, code, given))

    def _in_loop(self, coroutine: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _fetch(self, number: int, key: str, code: str, given: tuple[Any, ...]) -> None:
        """Have an attempt made, and put what came of it."""
        client = self._client
        scope = {"given": (self._topic, number, *given)}
        try:
            if client.status != "running":  # it would wait for another scheduler to come
                raise asyncio.CancelledError
            with _large_is_well(given):
                future = client.submit(eval, code, scope, key=key, pure=False, retries=0)
            try:
                news = ("returned", number, await future)
            finally:
                future.release()
        except BaseException as error:
            news = ("raised", number, error)
        self._news.put(news)  # to nobody if it was given up

    async def _tell_workers(self) -> None:
        with suppress(Exception):  # whoever is not told does not end by itself
            scope = {"given": (self._topic,)}
            await asyncio.wait_for(self._client.run(eval, CANCEL, scope, on_error="ignore"), GRACE)

    async def _enter(self) -> None:
        self._client.subscribe_topic(self._topic, self._on_event)

    def _on_event(self, event: tuple[float, list[Any]]) -> None:
        number, what, said = event[1]
        self._news.put((what, number, said))

    async def _look(self) -> None:
        """See how many threads there are, again and again."""
        since: float | None = monotonic()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                threads = await self._client.nthreads()
            except Exception:  # no scheduler: whoever waits for an attempt hears of it
                continue
            if self.slots != _slots(threads):
                self.slots = _slots(threads)
                self._news.put(("slots", 0, None))  # more may be handed over
            if threads:
                since = monotonic()
            elif since is not None and monotonic() - since > LONELY_AFTER:
                since = None  # once is enough
                self._news.put(("lonely", 0, None))

    async def _exit(self, hurried: bool) -> None:
        client = self._client
        if client.status != "running":
            return
        client.unsubscribe_topic(self._topic)
        if self._own is None:
            with suppress(Exception):  # it only takes up room there
                await asyncio.wait_for(client.run_on_scheduler(dask_worker.forget, self._topic), 1)
        elif hurried:
            workers = self._own.workers.values()  # nobody waits for what they are at
            await asyncio.gather(*map(self._ended, workers), return_exceptions=True)

    def _ended(self, worker: Any) -> Any:
        return worker.close(timeout=0.1)


class _HereInThreads(_Cluster):
    """A cluster in this process: its workers' threads take the attempts as they are."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        _here[self._topic] = self

    def submit(self, work: Work) -> None:
        number = self._add(work)
        self._send(number, CALL_HERE)

    def make_here(self, number: int) -> None:
        call = self._calls.get(number)
        if call is not None:  # else it was withdrawn
            call.worker = "this process"
            call.context.run(call.work.make)

    def interrupt(self, reason: str) -> Iterable[Work]:
        return ()  # threads of this process end by themselves

    def _ended(self, worker: Any) -> Any:
        return worker.close(timeout=0.1, executor_wait=False)

    def _hear(self, what: str, number: int, said: Any, ended: list[Work]) -> None:
        super()._hear("made" if what == "returned" else what, number, said, ended)

    def close(self, *, hurried: bool) -> None:
        del _here[self._topic]
        super().close(hurried=hurried)


_here: dict[str, _HereInThreads] = {}


def make_here(topic: str, number: int) -> None:
    pool = _here.get(topic)
    if pool is not None:  # else it has been given up
        pool.make_here(number)


@contextmanager
def _large_is_well(given: tuple[Any, ...]) -> Iterator[None]:
    """Send large arguments with the task without being warned.

    Data that is put into the cluster beforehand ("scattered") is lost with the worker that holds it.
    """
    if not given or len(given[-1]) < LARGE:
        yield
        return
    import dask

    with dask.config.set({"distributed.admin.large-graph-warning-threshold": 1 << 60}):
        yield
