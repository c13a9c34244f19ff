"""From the outbox to the backend: one sender thread, whatever the backend understands.

The flow's threads only ever put records into a queue. The sender takes what has gathered while the last
request was under way: no fixed delay, so a lone event leaves at once and batches grow under load. An event
stays in the backlog until the backend has answered that it is committed. While the backend does not answer,
the backlog is written to disk at least every 200 ms; the requests themselves are carried by a second thread,
so that a hanging one does not keep the sender from that.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any, NamedTuple

from perfect.api import PerfectAPIClient
from perfect.backlog import Backlog
from perfect.documented import DocumentedReporter
from perfect.errors import BackendError, BackendRefused
from perfect.events import Encoder, Event
from perfect.native import NativeReporter
from perfect.records import Registration
from perfect.redaction import Redactor
from perfect.reporting import Reporter, shake_hands
from perfect.settings import Settings
from perfect.spool import Spool, SpoolFailed, orphans
from perfect.threads import Carrier, spawn

log = logging.getLogger("perfect")

MOST_EVENTS = 8000  # in one request
LARGEST_BATCH = 4 << 20  # bytes in one request, unless a single event has more
HOT = 1000  # records gathered at once that tell of a busy flow
ENOUGH = 80_000  # records; flows are slowed from 100,000 on (session.CROWDED)
REST = 9  # times as long as the encoding took: a tenth of the processor is the sender's
LONGEST_REST = 0.2  # s
SPILL_EVERY = 0.2  # s: no older than this is what a SIGKILL may take while the backend is away
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0  # s, between attempts
REFUSED_WAIT = 15.0  # s, after 401 or 403: somebody has to act first
SPOOL_TIME = 2.0  # s that writing the rest to disk may take at the end

NewClient = Callable[[str], PerfectAPIClient]  # for a session's id


class Flush:
    """A mark in the queue: `done` is set when all that stood before it was delivered."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.seq = 0


class Stopped(Exception):
    """The time for delivering is over."""


class Sender:
    """The thread between outbox and backend.

    Args:
        settings: the client's.
        session: this session's id.
        outbox: what the flows put records into; `Flush` marks may stand among them.
        new_client: makes a client that speaks for a session.

    Attributes:
        reporter: None until the handshake has settled the protocol.
        last_success: monotonic s of the last answer that said yes; 0 if there was none.
    """

    def __init__(
        self, settings: Settings, session: str, outbox: SimpleQueue[Any], new_client: NewClient
    ) -> None:
        self.client = new_client(session)
        self.reporter: Reporter | None = None
        self.last_success = 0.0
        self.reached = threading.Event()  # set when the protocol is settled
        self._settings = settings
        self._session = session
        self._outbox = outbox
        self._new_client = new_client
        self._encoder = Encoder(Redactor(settings.redact))
        self._backlog = Backlog(self._open_spool, settings.memory_limit)
        self._registrations: deque[dict[str, Any]] = deque()
        self._marks: deque[Flush] = deque()
        self._orphans: Iterator[Spool] | None = None  # what dead processes left, while gone through
        self._orphan: _Orphan | None = None  # the one being delivered
        self._rest_until = 0.0  # monotonic s
        self._failures = 0  # in a row
        self._warned: set[str] = set()
        self._closing = threading.Event()
        self._give_up_at = float("inf")  # monotonic s
        self._kept = 0  # events on disk at the end
        self._carrier = Carrier()
        self.thread = spawn("perfect-sender", self._run)

    # --- asked for by other threads ------------------------------------------------------

    def connect(self, timeout: float) -> bool:
        """Wait until the backend has answered; False if `timeout` s were not enough."""
        self._outbox.put(Flush())
        return self.reached.wait(timeout)

    def flush(self, timeout: float) -> bool:
        """Wait until all that was put before is delivered; False if `timeout` s were not enough.

        When there is nothing to deliver, it waits for what dead processes have left to be delivered.
        """
        mark = Flush()
        self._outbox.put(mark)
        return mark.done.wait(timeout)

    def close(self, timeout: float) -> tuple[int, int]:
        """Deliver what can be delivered within `timeout` s, and keep the rest on disk.

        A backend that was never there is tried once more, not waited for.

        Returns:
            How many events were kept on disk, and how many were lost.
        """
        self._give_up_at = monotonic() + timeout
        self._closing.set()
        self._outbox.put(Flush())
        self.thread.join(timeout + SPOOL_TIME)
        lost = self._backlog.in_memory + self._outbox.qsize() + self._backlog.given_up
        return self._kept, lost

    def forget_lock(self) -> None:
        """In a forked child: the spool is the parent's."""
        self._backlog.forget_lock()

    # --- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not (self._closing.is_set() and self._is_idle()):
                try:
                    self._step()
                except BackendError as error:
                    self._stay_away(self._failed(error))
        except Stopped:
            pass
        except Exception:
            log.exception("perfect: the delivery has failed; what is left is kept on disk")
        self._gather()
        self._spill()
        self._kept = len(self._backlog) - self._backlog.in_memory
        self._backlog.close()
        self._close_orphan()
        self._carrier.close()

    def _is_idle(self) -> bool:
        waiting = len(self._backlog) or self._registrations or not self._outbox.empty()
        return not (waiting or self._orphans or self._orphan)

    def _step(self) -> None:
        """Do the next thing there is to do, or wait for one."""
        if self.reporter is None:
            self._wait(None)
            if self._is_idle() and not self._marks:
                return
            self.reporter = self._carry(lambda: shake_hands(self.client))
            self._succeeded()
            self.reached.set()
            self._look_for_orphans()
        reporter = self.reporter
        self._rest()
        self._gather()
        if self._registrations:
            flows = list(islice(self._registrations, reporter.flows_at_once))
            self._carry(lambda: reporter.register(flows))
            for _ in flows:
                self._registrations.popleft()
            self._succeeded()
        elif len(self._backlog):
            self._send(reporter, self._backlog.head(MOST_EVENTS, LARGEST_BATCH), self._backlog)
            self._release_marks()
        elif self._orphan is not None:
            self._deliver_orphan(self._orphan)
        elif self._orphans is not None:
            self._take_orphan(self._orphans)
        else:
            due = reporter.next_tick()
            if due is not None and due <= 0:
                self._carry(reporter.tick)
            else:
                self._wait(due)

    def _send(self, reporter: Reporter, events: list[Event], kept: Backlog | Spool) -> None:
        """Send a batch, and forget where it is kept what the backend has of it."""
        try:
            self._carry(lambda: reporter.send(events))
        finally:
            kept.settle(reporter.settled)
        self._succeeded()

    def _carry(self, job: Callable[[], Any]) -> Any:
        """Have the carrier do a job; while it takes long, keep memory bounded and the disk up to date.

        Raises:
            BackendError: what the job has raised.
            Stopped: the time is over.
        """
        self._carrier.jobs.put(job)
        while True:
            try:
                done, answer = self._carrier.replies.get(timeout=SPILL_EVERY)
            except Empty:
                self._gather()
                self._spill()
                if monotonic() >= self._give_up_at:
                    raise Stopped from None
                continue
            if not done:
                raise answer
            return answer

    def _stay_away(self, pause: float) -> None:
        """Wait before the next attempt, writing to disk what comes in meanwhile."""
        until = monotonic() + pause
        was_closing = self._closing.is_set()
        while True:
            self._gather()
            self._spill()
            left = until - monotonic()
            if self._closing.is_set():
                if not was_closing:
                    return  # one attempt more, whatever the backend was before
                if not self.last_success or monotonic() + FIRST_WAIT >= self._give_up_at:
                    raise Stopped
                sleep(min(FIRST_WAIT, max(left, 0.0)))
                return
            if left <= 0:
                return
            self._closing.wait(min(left, SPILL_EVERY))

    def _wait(self, seconds: float | None) -> None:
        """Block until something is put, up to so many s; nothing is under way."""
        self._release_marks()
        # Closing is announced first and then a mark is put: one of both is always seen here.
        if not self._is_idle() or self._marks or self._closing.is_set():
            return
        try:
            self._sort(self._outbox.get(timeout=seconds))
        except Empty:
            pass

    def _gather(self) -> None:
        """Take what has been put."""
        waiting = self._outbox.qsize()
        began = monotonic()
        for _ in range(waiting):
            self._sort(self._outbox.get())
        if waiting >= HOT:
            self._rest_until = monotonic() + min(LONGEST_REST, REST * (monotonic() - began))

    def _rest(self) -> None:
        """Leave the processor to a flow that puts very much: what it puts meanwhile goes in fewer, larger batches.

        Encoding holds the interpreter's lock, so the flow would pay for it. Once much has gathered there is no rest.
        """
        rest = self._rest_until - monotonic()
        if rest > 0 and not self._marks and HOT <= self._outbox.qsize() < ENOUGH:
            self._closing.wait(rest)

    def _sort(self, record: Any) -> None:
        if type(record) is Flush:
            record.seq = self._encoder.seq
            self._marks.append(record)
        elif type(record) is Registration:
            self._registrations.append(self._encoder.redactor.redact_flow(record.flow))
        else:
            try:
                event = self._encoder.encode(record)
            except Exception:  # must not end the delivery of the rest
                log.exception("perfect: a record can't be encoded and is given up")
                return
            if event is not None:
                self._backlog.add(event)
                if self._backlog.size > self._settings.memory_limit:
                    self._spill()

    def _release_marks(self) -> None:
        if self.reporter is None or self._registrations:
            return
        settled = self.reporter.settled if len(self._backlog) else self._encoder.seq
        while self._marks and self._marks[0].seq <= settled:
            self._marks.popleft().done.set()

    def _spill(self) -> None:
        self._backlog.spill({} if self.reporter is None else self.reporter.notes())

    def _open_spool(self) -> Spool:
        about = {
            "backend_url": self._settings.backend_url,
            "client_id": self._settings.client_id,
        }
        return Spool(self._settings.home, self._session, about)

    def _look_for_orphans(self) -> None:
        """Go through what dead processes of the same backend have left."""
        self._orphans = orphans(self._settings.home, self._settings.backend_url, self._session)

    def _take_orphan(self, left: Iterator[Spool]) -> None:
        spool = next(left, None)
        if spool is None:
            self._orphans = None
            return
        client = self._new_client(spool.session)
        native = self.reporter is not None and self.reporter.native
        reporter: Reporter = NativeReporter(client) if native else DocumentedReporter(client)
        self._orphan = _Orphan(spool, client, reporter)

    def _deliver_orphan(self, orphan: _Orphan) -> None:
        """Send one batch of it; what is put meanwhile comes first again."""
        try:
            if orphan.reporter.settled == 0:
                orphan.reporter.recall(orphan.spool.about())
            events = orphan.spool.head(MOST_EVENTS, LARGEST_BATCH)
            if events:
                self._send(orphan.reporter, events, orphan.spool)
                return
        except SpoolFailed as error:
            log.warning("perfect: %s can't be delivered: %s", orphan.spool.path, error)
        self._close_orphan()

    def _close_orphan(self) -> None:
        orphan, self._orphan = self._orphan, None
        if orphan is not None:
            orphan.spool.close()
            orphan.client.close()

    # --- how it goes -----------------------------------------------------------------------

    def _succeeded(self) -> None:
        if self._failures and self.last_success:
            log.info("perfect: the backend at %s is back", self.client.base_url)
            self._look_for_orphans()  # others may have died while it was away
        self.last_success = monotonic()
        self._failures = 0
        self._warned.clear()

    def _failed(self, error: BackendError) -> float:
        """Say so, once, and return how many s to wait."""
        self._failures += 1
        pause: float = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self._failures - 1, 10))
        pause *= random.uniform(0.5, 1.0)
        url = self.client.base_url
        if isinstance(error, BackendRefused):
            if error.status in (401, 403):
                self._warn(
                    "access",
                    f"the backend at {url} refuses access ({error.error}); set PERFECT_API_KEY or "
                    "configure(api_key=…). Events are kept and tried again",
                )
                return REFUSED_WAIT
            if error.retry_after is not None:
                return min(error.retry_after, 60.0)
            self._warn("refused", f"{url}: {error}; events are kept and tried again")
        elif not self.last_success:
            self._warn(
                "absent",
                f"no backend at {url} ({error}): flows run all the same, and are reported when "
                "there is one. Start it with: perfect server",
            )
        else:
            self._warn("lost", f"the backend at {url} is away ({error}); events are kept")
        return pause

    def _warn(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            log.warning("perfect: %s", message)


class _Orphan(NamedTuple):
    """A dead process's spool while it is delivered in that process's name."""

    spool: Spool
    client: PerfectAPIClient
    reporter: Reporter
