"""Takes execution requests from the backend and has them executed in threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from time import monotonic
from typing import Any, Protocol

from perfect.api import SHORT_POLL, ExecutionRequest, PerfectAPIClient, quote
from perfect.delivery import FIRST_WAIT, LONGEST_WAIT, REFUSED_WAIT, Sender
from perfect.errors import BackendError, BackendRefused, BackendUnreachable
from perfect.records import Put, Registration
from perfect.threads import spawn

log = logging.getLogger("perfect")

ONLY_LISTEN_AFTER = 1.0  # s without a free place; most runs are over by then


class Execute(Protocol):
    """Runs one request to its end, in the calling thread."""

    def __call__(self, request: ExecutionRequest, /) -> Any: ...

    def refuse(self, request: ExecutionRequest, error: Exception) -> None:
        """End the run as FAILED instead."""


class Listener:
    """The thread that polls.

    Args:
        client: one of its own, so that its poll can be broken off by itself.
        sender: polling starts when its handshake is done.
        put: the outbox; flows are registered through it.
        execute: runs one request to its end.

    Attributes:
        concurrency: how many requests may be under way at a time.
    """

    def __init__(
        self,
        client: PerfectAPIClient,
        sender: Sender,
        put: Put,
        execute: Execute,
    ) -> None:
        self.concurrency = 0
        self._client = client
        self._sender = sender
        self._put = put
        self._execute = execute
        self._flows: dict[str, dict[str, Any]] = {}
        self._running: set[threading.Thread] = set()
        self._changed = threading.Condition()
        self._stopped = False
        self._only_listens = False  # whether the open poll takes no request, for want of a place
        self._interrupted = False
        self._claiming = False
        self.thread = spawn("perfect-listener", self._run)

    def serve(self, flows: Iterable[dict[str, Any]], concurrency: int) -> None:
        """Add flows, by their registration bodies; take at least so many requests at a time."""
        for flow in flows:
            if self._flows.get(flow["name"]) != flow:
                self._flows[flow["name"]] = flow
                self._put(Registration(flow))
        with self._changed:
            self.concurrency = max(self.concurrency, concurrency)
            self._changed.notify_all()

    def drain(self, timeout: float | None) -> bool:
        """Take nothing more; wait for what is under way. False if `timeout` s were not enough."""
        deadline = None if timeout is None else monotonic() + timeout
        with self._changed:
            self._stopped = True
            if not self._claiming:  # what is being claimed may be ours already
                self._client.close()  # an open poll is broken off, what it would have got stays there
            self._changed.notify_all()
            while self._running:
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
        return True

    # --- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        pause = FIRST_WAIT
        while not self._stopped:
            try:
                if self._sender.reporter is None:
                    self._sender.flush(LONGEST_WAIT)
                    continue
                free = self._wait_for_place()
                if self._stopped:
                    return
                asked = monotonic()
                answer = self._poll(free)
                if pause > FIRST_WAIT:  # it is back, perhaps without what it knew of us
                    pause = FIRST_WAIT
                    for flow in list(self._flows.values()):
                        self._put(Registration(flow))
                if free and not self._take(answer) and monotonic() - asked < SHORT_POLL:
                    self._wait(FIRST_WAIT)
            except Exception as error:
                if not isinstance(error, BackendError):
                    log.exception("perfect: an execution request could not be read")
                refused = isinstance(error, BackendRefused) and error.status in (401, 403)
                self._wait(REFUSED_WAIT if refused else pause)
                pause = min(LONGEST_WAIT, pause * 2)

    def _poll(self, free: int) -> Any:
        """Ask for a request; without a place only for word of cancellations, until there is a place."""
        try:
            return self._client.poll_execution(free)
        except BackendUnreachable:
            if self._interrupted:
                return None
            raise
        finally:
            with self._changed:
                self._only_listens = self._interrupted = False
                self._changed.notify_all()

    def _wait(self, seconds: float) -> None:
        with self._changed:
            if not self._stopped:
                self._changed.wait(seconds)

    def _wait_for_place(self) -> int:
        """Block until a request may be taken, and return how many may; 0 after a while without a place."""
        native = self._sender.reporter is not None and self._sender.reporter.native
        until = monotonic() + ONLY_LISTEN_AFTER
        with self._changed:
            while len(self._running) >= self.concurrency and not self._stopped:
                left = until - monotonic() if native and self._running else None
                if left is not None and left <= 0:
                    self._only_listens = True
                    return 0
                self._changed.wait(left)
            return self.concurrency - len(self._running)

    def _take(self, answer: Any) -> bool:
        """Start what the answer asks for; False if that is nothing."""
        request = ExecutionRequest.from_answer(answer)
        if request is None:
            return False
        thread = threading.Thread(
            target=self._execute_one, args=(request,), name=f"perfect-run-{request.run_id}"
        )
        thread.daemon = True
        with self._changed:
            if self._stopped and request.lease is not None:
                return False  # it is offered to another session
            self._claiming = True
            self._running.add(thread)  # who waits for what is under way waits for this, too
        try:
            if not self._claim(request):
                self._ended(thread)
                return False
            thread.start()
        except RuntimeError as error:  # no thread is to be had
            self._execute.refuse(request, error)
            self._ended(thread)
            self._wait(LONGEST_WAIT)  # the next request is for others, if there are any
        finally:
            with self._changed:
                self._claiming = False
                if self._stopped:
                    self._client.close()
        return True

    def _claim(self, request: ExecutionRequest) -> bool:
        """Whether this session may execute the request (PROTOCOL part 4, claim)."""
        if request.lease is None:  # handed over means started
            return True
        path = f"/api/execution-requests/{quote(request.run_id)}/claim"
        pause = FIRST_WAIT
        while True:
            try:
                self._client.request("POST", path, {"lease": request.lease})
                return True
            except BackendRefused as refusal:
                if not refusal.may_pass:
                    log.info("perfect: run %s went elsewhere: %s", request.run_id, refusal)
                    return False
            except BackendUnreachable:
                pass
            # It may have been granted, and the answer lost: then nobody else will execute the run, and our
            # silence ends it. Else it is offered to another session.
            if self._stopped:
                return False
            self._wait(pause)
            pause = min(LONGEST_WAIT, pause * 2)

    def _ended(self, thread: threading.Thread) -> None:
        with self._changed:
            self._running.discard(thread)
            self._changed.notify_all()

    def _execute_one(self, request: ExecutionRequest) -> None:
        try:
            self._execute(request)
        finally:
            self._ended(threading.current_thread())
            with self._changed:
                while self._only_listens and not self._stopped:
                    # Again, because the poll may only just be setting out.
                    self._interrupted = True
                    self._client.break_off()
                    self._changed.wait(SHORT_POLL)
