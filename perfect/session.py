"""This process's connection to a backend: one outbox, one sender, one heartbeat, one listener.

Nothing happens at import. The first flow that is called makes the session; its threads start then.
In mock mode there are no threads: what is reported stays in `Session.recorded`.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from time import sleep
from typing import TYPE_CHECKING, Any

from perfect import forking
from perfect import settings as settings_module
from perfect.errors import ConfigurationError
from perfect.records import FlowRun, new_id
from perfect.settings import Settings

if TYPE_CHECKING:
    from perfect.api import PerfectAPIClient
    from perfect.delivery import Sender
    from perfect.heart import Heart
    from perfect.listener import Execute, Listener
    from perfect.transport import Transport

log = logging.getLogger("perfect")

CROWDED = (
    100_000  # records that may wait for the sender (20 to 40 MiB) before flows give it a moment
)
RELIEF = 0.01  # s
CANCELLED = "cancelled from the dashboard"
INTERRUPTED_FLUSH = 3.0  # s that delivery may take after Ctrl+C or SIGTERM


class Session:
    """One life of this process towards one backend.

    Attributes:
        id: UUID, the same for everything this session reports.
        put: hands a record to the outbox; never blocks, callable from any thread and signal handler.
        recorded: in mock mode, every record in order; else None.
        stubs: by task name, what is called in the task's place (`perfect.testing`).
        active: the runs that have begun and not ended, by id.
    """

    def __init__(self, settings: Settings) -> None:
        self.id = new_id()
        self.settings = settings
        self.recorded: list[Any] | None = [] if settings.mock else None
        self._outbox: SimpleQueue[Any] = SimpleQueue()
        self.put: Callable[[Any], None] = (
            self._outbox.put if self.recorded is None else self.recorded.append
        )
        self.stubs: dict[str, Callable[..., Any]] = {}
        self.active: dict[str, FlowRun] = {}
        self.kept = self.lost = 0  # events left when the session closed: on disk, and nowhere
        self.interrupted = False  # by Ctrl+C or SIGTERM: the end of the process is not to take long
        self._busy = threading.Event()
        self._lock = threading.RLock()
        self._sender: Sender | None = None
        self._heart: Heart | None = None
        self._listener: Listener | None = None
        self._closed = False

    # --- runs ------------------------------------------------------------------------------

    def begin(self, run: FlowRun) -> None:
        """A run begins: connect if need be, and report it."""
        self._start()
        self.active[run.id] = run
        self._busy.set()
        self.put(run)

    def end(self, run: FlowRun) -> None:
        """A run has ended: report it, once."""
        if self.active.pop(run.id, None) is None:
            return
        self.put(run)
        if not self.active:
            self._busy.clear()
            if self.active:  # another thread has begun one in between
                self._busy.set()

    def cancel(self, run_id: str) -> None:
        """The backend wants a run to end: it begins no further task, and neither do the runs that it has called.

        What is not active is left alone: the backend says it again until the run has ended.
        """
        wanted = {run_id}
        for run in list(self.active.values()):  # a run comes before those that it has called
            if run.id in wanted or run.parent in wanted:
                wanted.add(run.id)
                if run.cancelled is None:
                    run.cancelled = CANCELLED
                    log.info("perfect: run %s of %r is %s", run.id, run.name, CANCELLED)

    def relieve(self) -> None:
        """Let the sender catch up for a moment when very much waits for it, so that memory stays bounded.

        It waits for the sender's work only, never for the network: the sender puts what can't be sent on disk.
        """
        if self._outbox.qsize() > CROWDED:
            sleep(RELIEF)

    # --- connection --------------------------------------------------------------------------

    @property
    def client(self) -> PerfectAPIClient | None:
        """The client in use, or None before the first connection and in mock mode."""
        return None if self._sender is None else self._sender.client

    def _start(self) -> None:
        if self._sender is not None or self.settings.mock or self._closed:
            return
        with self._lock:
            if self._sender is not None:
                return
            # Loaded at the first connection: urllib, ssl and gzip cost tens of ms.
            from perfect.delivery import Sender
            from perfect.heart import Heart

            try:
                sender = Sender(self.settings, self.id, self._outbox, self._new_client)
                self._heart = Heart(sender, self._busy)
                self._sender = sender
            except RuntimeError as error:  # no more threads to be had: the next run tries again
                log.warning("perfect: this run is not tracked yet: %s", error)

    def _new_client(self, session_id: str, transport: Transport | None = None) -> PerfectAPIClient:
        from perfect.api import PerfectAPIClient

        return PerfectAPIClient(
            self.settings.backend_url,
            self.settings.client_id,
            session_id=session_id,
            api_key=self.settings.api_key,
            cancel_handler=self.cancel if session_id == self.id else None,
            transport=transport,
        )

    def connect(self, timeout: float) -> bool:
        """Start the session; whether the backend answered within `timeout` s (mock: always)."""
        self._start()
        return True if self._sender is None else self._sender.connect(timeout)

    def flush(self, timeout: float) -> bool:
        """Wait until everything reported is delivered; False if `timeout` s were not enough."""
        return True if self._sender is None else self._sender.flush(timeout)

    def serve(self, flows: Iterable[dict[str, Any]], execute: Execute, concurrency: int) -> None:
        """Have the backend's execution requests for these flows executed, in threads.

        Args:
            flows: registration bodies, added to those served already.
            execute: runs one request to its end; called in a thread of its own.
            concurrency: how many at a time.
        """
        self._start()
        if self._sender is None:
            return
        with self._lock:
            if self._listener is None:
                from perfect.keeping import KeepingTransport
                from perfect.listener import Listener

                try:
                    client = self._new_client(self.id, KeepingTransport(self.settings.backend_url))
                    self._listener = Listener(client, self._sender, self.put, execute)
                except RuntimeError as error:  # no more threads to be had
                    log.warning("perfect: this process takes no execution requests: %s", error)
                    return
            self._listener.serve(flows, concurrency)

    def drain(self, timeout: float | None) -> bool:
        """Take no further requests and wait for those under way; False if `timeout` s were not enough."""
        return True if self._listener is None else self._listener.drain(timeout)

    def close(self) -> None:
        """Stop polling, let triggered runs end, deliver what is left; bounded by the settings' timeouts."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        hurried = self.interrupted
        self.drain(min(self.settings.shutdown_timeout, 0.5 if hurried else 3600))
        self._cancel_active("the process ended before the run did")
        if self._sender is not None and self._heart is not None:
            self._heart.close()
            flush = min(self.settings.flush_timeout, INTERRUPTED_FLUSH if hurried else 3600)
            self.kept, self.lost = self._sender.close(flush)
            self._sender.client.close()
            for thread in (self._heart.thread, self._sender.thread):
                thread.join(0.5)
            if self._listener is not None:
                self._listener.thread.join(0.5)

    def forget_lock(self) -> None:
        """In a forked child: let go of the spool's lock, which lives as long as anyone holds it."""
        if self._sender is not None:
            self._sender.forget_lock()

    def _cancel_active(self, reason: str) -> None:
        for run in list(self.active.values()):
            run.abandon(reason)


_given: dict[str, Any] = {}
_session: Session | None = None
_lock = threading.RLock()
_inherited: list[Session] = []


def configure(**given: Any) -> Settings:
    """Set the client's settings; a session in use is closed first and a new one takes its place.

    With nothing given, nothing changes: it tells the settings in force.

    Raises:
        ConfigurationError: a value can't be used, or a run is active.
    """
    settings = settings_module.resolve({**_given, **given})
    if all(value is None for value in given.values()):
        return settings if _session is None else _session.settings
    if _session is not None and _session.active:
        run = next(iter(_session.active.values()))
        raise ConfigurationError("configure", run.name, "can't change while a run of it is active")
    reset()
    _given.update({name: value for name, value in given.items() if value is not None})
    return settings


def get_session() -> Session:
    """This process's session, made now if there is none.

    Raises:
        ConfigurationError: the environment or config.toml says something wrong.
    """
    global _session
    session = _session
    if session is None:
        with _lock:
            if _session is None:
                _session = Session(settings_module.resolve(_given))
                forking.install(_after_fork)
                atexit.register(_at_exit)
            session = _session
    return session


@contextmanager
def temporary(**given: Any) -> Iterator[Session]:
    """Use a session of its own for a block; the one before, which stays open, comes back after it."""
    global _session
    with _lock:
        former, made = _session, Session(settings_module.resolve({**_given, **given}))
        forking.install(_after_fork)
        _session = made
    try:
        yield made
    finally:
        with _lock:
            if _session is made:
                _session = former
        made.close()


def reset(*, forget: bool = False) -> None:
    """Close the session, if there is one; with `forget`, also what `configure` was told."""
    global _session
    with _lock:
        session, _session = _session, None
        atexit.unregister(_at_exit)
    if session is not None:
        session.close()
    if forget:
        _given.clear()


def _after_fork() -> None:
    """In a forked child: the parent's connection is not ours."""
    global _session, _lock
    if _session is not None:
        _session.active.clear()
        _inherited.append(_session)  # never closed here: its spool is the parent's
        _session.forget_lock()
    _session = None
    _lock = threading.RLock()


def _at_exit() -> None:
    session = _session
    if session is None:
        return
    try:
        session.close()
    except KeyboardInterrupt:  # a second one: the user does not want to wait
        return
    if session.kept:
        log.warning(
            "perfect: %d events for %s wait in %s: the next process that connects delivers them",
            session.kept,
            session.settings.backend_url,
            session.settings.home,
        )
    if session.lost:
        log.error("perfect: %d events are lost: there was no room for them", session.lost)
