"""From the outbox to the backend: one sender thread, whatever the backend understands.

The flow's threads only ever put records into a queue. The sender takes what has gathered while the
last request was under way: no fixed delay, so a lone event leaves at once and batches grow under
load. What the backend has not acknowledged is kept and sent again.
"""

from __future__ import annotations

import gzip
import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic, sleep, time
from typing import Any, Protocol

from perfect.api import PerfectAPIClient, encode
from perfect.context import Detached, current
from perfect.documented import DocumentedReporter, register
from perfect.errors import BackendError, BackendRefused
from perfect.jsonable import clean
from perfect.records import LogLine, Registration, TaskRun

log = logging.getLogger("perfect")

MOST_EVENTS = 4000  # in one request
GZIP_FROM = 8 << 10  # bytes; below it, compressing costs more than it saves
LARGEST_BODY = 12 << 20  # bytes; the protocol's default limit is 16 MiB
LONGEST_LINE = 64 << 10  # bytes
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0  # s, between attempts
REFUSED_WAIT = 15.0  # s, after 401 or 403: somebody has to act first
HEARTBEAT = 3.0  # s


class Reporter(Protocol):
    """Sends records in one of the two protocols."""

    native: bool

    @property
    def pending(self) -> int:
        """How many events it holds that are not acknowledged."""

    def deliver(self, records: deque[Any]) -> None:
        """Send from the left, removing what the backend has taken for good.

        Raises:
            BackendError: something could not be sent now; what is left is to be tried again.
        """

    def tick(self) -> float | None:
        """Do what time asks for; return s until the next tick, or None when nothing is due."""


class Flush:
    """A mark in the queue: `done` is set when all that stood before it was delivered."""

    def __init__(self) -> None:
        self.done = threading.Event()


class NativeReporter:
    """Batches of events with sequence numbers to ``POST /api/ingest`` (PROTOCOL part 4)."""

    native = True

    def __init__(self, client: PerfectAPIClient) -> None:
        self._client = client
        self._seq = 0
        self._events: list[dict[str, Any]] = []  # numbered, not yet acknowledged
        self.rejected = 0

    @property
    def pending(self) -> int:
        return len(self._events)

    def deliver(self, records: deque[Any]) -> None:
        while records or self._events:
            if records and not self._events and type(records[0]) is Registration:
                register(self._client, records[0].flow)
                records.popleft()
                continue
            # A batch keeps its numbers until it is acknowledged, so that a repeat is recognised.
            if not self._events:
                while records and len(self._events) < MOST_EVENTS:
                    if type(records[0]) is Registration:
                        break
                    event = native_event(records.popleft())
                    if event is not None:
                        self._seq += 1
                        event["seq"] = self._seq
                        self._events.append(event)
            self._post(self._events)
            self._events = []

    def _post(self, events: list[dict[str, Any]]) -> None:
        if not events:
            return
        body = encode({"events": events})
        if len(body) > LARGEST_BODY and len(events) > 1:
            return self._halve(events)
        if len(body) >= GZIP_FROM:
            body = gzip.compress(body, 1)
        try:
            answer = self._client.request("POST", "/api/ingest", body)
        except BackendRefused as refusal:
            if refusal.status not in (400, 413, 422):
                raise
            if len(events) > 1:  # find the one it is about
                return self._halve(events)
            self._reject(events[0], refusal.error)
            return
        rejected = answer.get("rejected") if isinstance(answer, dict) else None
        for entry in rejected if isinstance(rejected, list) else ():
            if isinstance(entry, dict):
                self._reject(entry, str(entry.get("error")))

    def _halve(self, events: list[dict[str, Any]]) -> None:
        middle = len(events) // 2
        for half in (events[:middle], events[middle:]):
            self._post(half)

    def _reject(self, entry: dict[str, Any], reason: str) -> None:
        self.rejected += 1
        if self.rejected <= 5:
            log.warning("the backend refused event %s: %s", entry.get("seq"), reason)

    def tick(self) -> float | None:
        return None


def native_event(record: Any) -> dict[str, Any] | None:
    """A record as its event, without `seq`; None when it says nothing new."""
    if type(record) is LogLine:
        return {
            "type": "log",
            "run": record.run,
            "t": _ms(record.time),
            "index": record.task_index,
            "stream": record.stream,
            "level": record.level,
            "text": cut_line(record.text),
        }
    if type(record) is TaskRun:
        return _task_event(record)
    if not record.announced:
        record.announced = True
        return {
            "type": "run.started",
            "run": record.id,
            "t": _ms(record.started),
            "flow": record.flow,
            "configuration": record.configuration,
            "parameters": record.parameters,
            "parent": record.parent,
            "trigger": record.trigger,
        }
    return {
        "type": "run.ended",
        "run": record.id,
        "t": _ms(record.ended),
        "state": record.state,
        "task_count": record.task_count,
        "error": record.error,
        "reason": record.reason,
    }


def _task_event(record: TaskRun) -> dict[str, Any] | None:
    state = record.state
    if record.told is not None and record.told.is_terminal:
        return None
    record.told = state
    task = record.task
    started = _ms(record.started)
    event: dict[str, Any] = {
        "type": "task",
        "run": record.run.id,
        "t": started,
        "index": record.index,
        "name": task.name,
        "state": state,
        "attempt": record.attempt,
        "started": started,
        "estimate": task.estimated_time,
        "crucial": task.crucial_pass,
    }
    if task.weight is not None:
        event["weight"] = task.weight
    if record.ended is not None and state.is_terminal:
        # The wall clock may have been set back meanwhile.
        event["ended"] = event["t"] = max(started, _ms(record.ended))
    if record.progress is not None:
        event["progress"] = round(record.progress * 100, 2)
    if record.result is not None:
        event["result"] = record.result
    if record.error is not None:
        event["error"] = record.error
    if record.reason is not None:
        event["reason"] = record.reason
    return event


def _ms(seconds: float | None) -> int:
    return int((time() if seconds is None else seconds) * 1000)


def cut_line(text: str) -> str:
    """A log line as it may travel: valid UTF-8 and at most 64 KiB, with a marker where it was cut."""
    if len(text) * 4 <= LONGEST_LINE:
        return clean(text)
    data = text.encode("utf-8", "replace")
    if len(data) <= LONGEST_LINE:
        return data.decode()
    kept = data[: LONGEST_LINE - 64]
    return f"{kept.decode('utf-8', 'ignore')}… [cut, {len(data) - len(kept)} bytes]"


class Sender:
    """The thread between outbox and backend.

    Args:
        client: how to reach the backend.
        outbox: what the flows put records into; `Flush` marks may stand among them.
    """

    def __init__(self, client: PerfectAPIClient, outbox: SimpleQueue[Any]) -> None:
        self.client = client
        self.reporter: Reporter | None = None  # None until the handshake has settled the protocol
        self.last_success = 0.0  # monotonic s of the last answer that said yes
        self._outbox = outbox
        self._records: deque[Any] = deque()
        self._marks: list[Flush] = []
        self._failures = 0  # in a row
        self._warned: set[str] = set()
        self._closing = threading.Event()
        self._give_up_at = float("inf")  # monotonic s
        self.thread = spawn("perfect-sender", self._run)

    # --- asked for by other threads ------------------------------------------------------

    def flush(self, timeout: float) -> bool:
        """Wait until all that was put before is delivered; False if `timeout` s were not enough."""
        mark = Flush()
        self._outbox.put(mark)
        return mark.done.wait(timeout)

    def close(self, timeout: float) -> int:
        """Deliver what can be delivered within `timeout` s and return how many records are left.

        A backend that was never there is tried once more, not waited for.
        """
        self._give_up_at = monotonic() + timeout
        self._closing.set()
        self._outbox.put(Flush())
        self.thread.join(timeout)
        unsettled = self.reporter.pending if self.reporter is not None else 0
        return len(self._records) + self._outbox.qsize() + unsettled

    # --- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        wait: float | None = None
        while True:
            self._take(wait)
            try:
                if self.reporter is None:
                    self.reporter = shake_hands(self.client)
                    self._succeeded()
                if self._records or self.reporter.pending:
                    self.reporter.deliver(self._records)
                    self._succeeded()
                wait = self.reporter.tick()
            except Exception as error:
                if not isinstance(error, BackendError):
                    # A record or an answer nobody thought of must not end the delivery of the rest.
                    log.exception("perfect: a record could not be sent and is given up")
                    if self._records:
                        self._records.popleft()
                    continue
                pause = self._failed(error)
                if self._closing.is_set():
                    if not self.last_success or monotonic() + FIRST_WAIT > self._give_up_at:
                        return
                    sleep(min(pause, FIRST_WAIT))
                else:
                    self._closing.wait(pause)
                continue
            for mark in self._marks:
                mark.done.set()
            self._marks.clear()
            if self._closing.is_set() and self._outbox.empty():
                return

    def _take(self, wait: float | None) -> None:
        """Gather what stands in the queue; with nothing in hand, block up to `wait` s for it."""
        unsettled = self.reporter is not None and self.reporter.pending
        if not self._records and not self._marks and not unsettled:
            try:
                self._sort(self._outbox.get(timeout=wait))
            except Empty:
                return
        for _ in range(self._outbox.qsize()):
            self._sort(self._outbox.get())

    def _sort(self, entry: Any) -> None:
        if type(entry) is Flush:
            self._marks.append(entry)
        else:
            self._records.append(entry)

    def _succeeded(self) -> None:
        if self._failures and self.last_success:
            log.info("the backend at %s is back", self.client.base_url)
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
                f"no backend at {url} ({error}): flows run all the same, untracked. "
                "Start one with: perfect server",
            )
        else:
            self._warn("lost", f"the backend at {url} is away ({error}); events are kept")
        return pause

    def _warn(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            log.warning("perfect: %s", message)


class Heart:
    """Tells the backend every 3 s that this session lives, while a run is active.

    Args:
        busy: set while a run is active; the thread sleeps without waking while it is not.
    """

    def __init__(self, sender: Sender, busy: threading.Event) -> None:
        self._sender = sender
        self._busy = busy
        self._stopped = threading.Event()
        self.thread = spawn("perfect-heartbeat", self._run)

    def close(self) -> None:
        """Stop beating."""
        self._stopped.set()
        self._busy.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._busy.wait()
            if self._stopped.wait(HEARTBEAT) or not self._busy.is_set():
                continue
            sender = self._sender
            if sender.reporter is None:
                continue  # nobody to tell
            if sender.reporter.native and monotonic() - sender.last_success < HEARTBEAT / 2:
                continue  # any request is a sign of life there
            try:
                sender.client.request("POST", "/api/heartbeat")
            except BackendError:  # the sender finds out by itself
                pass


def shake_hands(client: PerfectAPIClient) -> Reporter:
    """Find out which protocol the backend speaks (PROTOCOL part 4, handshake).

    Raises:
        BackendError: that can't be told yet.
    """
    try:
        answer = client.request("GET", "/api/version")
    except BackendRefused as refusal:
        # 200 with something else than JSON is a documented backend's catch-all page.
        if refusal.status not in (200, 404):
            raise
        return DocumentedReporter(client)
    if isinstance(answer, dict) and answer.get("name") == "perfect" and answer.get("protocol") == 2:
        return NativeReporter(client)
    return DocumentedReporter(client)


def spawn(name: str, target: Callable[[], None]) -> threading.Thread:
    """Start a daemon thread of perfect's own: what it prints belongs to no run."""

    def run() -> None:
        current.set(Detached())
        target()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
