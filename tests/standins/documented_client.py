"""A stand-in for a deployed client: one that knows only what is documented.

Its ways, with each of which a backend must cope:

- it asks for every run with ``{"configuration": "development"}``
- while a task runs it sends bare ``{"state": "RUNNING"}`` about every 100 ms
- one request per printed line, prefixed ``[Task Output]``
- it polls for 0.5 s and then closes the connection, whatever is on its way to it
- it may send no heartbeat; the oldest never send `complete` either
- no header says who it is; a schedule is a cron string or null; a weight is in ms
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit


@dataclass(frozen=True)
class Step:
    """A task that the client says it ran.

    Attributes:
        estimated: ms.
        outcome: "COMPLETED", "FAILED", or "RUNNING" for a task that is never ended.
        result: the ``{passed, note, table}`` sent with the outcome, or None.
        logs: printed lines.
        weight: ms, or None to send none.
        duration: s it runs, ticking.
        until: it runs, ticking, until this is set too.
    """

    name: str
    estimated: int = 1000
    outcome: str = "COMPLETED"
    result: Mapping[str, Any] | None = None
    logs: Sequence[str] = ()
    crucial: bool = True
    weight: int | None = None
    description: str = ""
    duration: float = 0.0
    until: threading.Event | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Answer:
    """What was sent and what came back.

    Attributes:
        body: the parsed JSON, or the text where it was none.
    """

    method: str
    path: str
    sent: Any
    status: int
    body: Any


class DocumentedClient:
    """A documented client of one backend; a context manager that ends its heartbeat.

    Args:
        base_url: of the backend.
        heartbeat: send one every ``heartbeat_interval`` s from the first request for a run on.
        oldest: never send `complete`.
        tick: s between two bare RUNNING updates.
        poll_timeout: s after which a poll is given up.

    Attributes:
        answers: every answer so far, heartbeats included.
    """

    def __init__(
        self,
        base_url: str,
        heartbeat: bool = True,
        oldest: bool = False,
        *,
        tick: float = 0.1,
        heartbeat_interval: float = 3.0,
        poll_timeout: float = 0.5,
    ) -> None:
        url = urlsplit(base_url)
        assert url.hostname and url.port, base_url
        self._address = (url.hostname, url.port)
        self._prefix = url.path.rstrip("/")
        self.heartbeat = heartbeat
        self.oldest = oldest
        self.tick = tick
        self.heartbeat_interval = heartbeat_interval
        self.poll_timeout = poll_timeout
        self.answers: list[Answer] = []
        self._registered: dict[str, Sequence[Step]] = {}
        self._stopping = threading.Event()
        self._beating: threading.Thread | None = None

    def __enter__(self) -> DocumentedClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Fall silent."""
        self._stopping.set()
        if self._beating:
            self._beating.join(10)

    # One request each

    def request(
        self, method: str, path: str, body: Any = None, timeout: float | None = 10.0
    ) -> Answer:
        """Send one request on a connection of its own.

        Raises:
            OSError: no answer came (TimeoutError within that many s); the connection is closed.
            http.client.HTTPException: the connection was cut before the answer.
        """
        connection = http.client.HTTPConnection(*self._address, timeout=timeout)
        try:
            headers = {"Connection": "close"}
            if body is not None:
                headers["Content-Type"] = "application/json"
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, self._prefix + path, content, headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = text
        answer = Answer(method, path, body, response.status, parsed)
        self.answers.append(answer)
        return answer

    def register(
        self,
        name: str,
        tasks: Sequence[Step],
        *,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        schedule: str | None = None,
        auto_trigger: bool | None = None,
    ) -> Any:
        """Register a flow and return the answered ``flow``."""
        body: dict[str, Any] = {
            "name": name,
            "description": description,
            "tags": dict(tags or {}),
            "tasks": [_declared(step) for step in tasks],
            "schedule": schedule,
        }
        if auto_trigger is not None:
            body["autoTrigger"] = auto_trigger
        self._registered[name] = tasks
        return _expect(self.request("POST", "/api/flows", body))["flow"]

    def start_run(self, flow_id: str) -> str | None:
        """Ask for a run; None where the backend doesn't know the flow (any more)."""
        self._start_heartbeat()
        path = f"/api/engine/run/{quote(flow_id, safe='')}"
        run_id: str | None = _expect(
            self.request("POST", path, {"configuration": "development"})
        ).get("runId")
        return run_id

    def update(self, run_id: str, index: int, **body: Any) -> Answer:
        """Send one state update."""
        return self.request("POST", f"/api/runs/{run_id}/tasks/{index}/state", body)

    def log(self, run_id: str, line: str) -> Answer:
        """Send one printed line."""
        return self.request("POST", f"/api/flows/{run_id}/logs", {"log": f"[Task Output] {line}"})

    def complete(self, run_id: str, task_count: int) -> Answer:
        """Say that the flow is over."""
        return self.request("POST", f"/api/runs/{run_id}/complete", {"taskCount": task_count})

    def beat(self) -> Answer:
        """Send one heartbeat."""
        return self.request("POST", "/api/heartbeat")

    def poll(self) -> dict[str, Any] | None:
        """Poll once; an answer that isn't there in time is left behind with its connection."""
        try:
            answer = self.request("GET", "/api/execution-requests", timeout=self.poll_timeout)
        except TimeoutError:
            return None
        request: dict[str, Any] | None = _expect(answer)
        return request

    def open_poll(self) -> http.client.HTTPConnection:
        """Send a poll and leave the rest, and the moment of leaving, to the caller."""
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        connection.request("GET", f"{self._prefix}/api/execution-requests")
        return connection

    # Whole flows

    def run_flow(
        self,
        name: str,
        tasks: Sequence[Step],
        *,
        declared: Sequence[Step] | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        schedule: str | None = None,
    ) -> str:
        """Register the flow, ask for a run, report every task, and return the run's id.

        Args:
            declared: the tasks to register, if other than those that run.
        """
        known = tasks if declared is None else declared
        for _ in range(2):
            flow = self.register(name, known, description=description, tags=tags, schedule=schedule)
            run_id = self.start_run(flow["id"])
            if run_id is not None:
                self.execute(run_id, tasks)
                return run_id
        raise AssertionError(f"no run for {name!r}: {self.answers[-1]}")

    def execute(self, run_id: str, tasks: Sequence[Step]) -> None:
        """Report the tasks as part of the run; a crucial one that fails is the last."""
        called = 0
        for index, step in enumerate(tasks):
            called += 1
            self._execute_task(run_id, index, step)
            if step.outcome == "FAILED" and step.crucial:
                break
        if not self.oldest:
            self.complete(run_id, called)

    def serve_once(self, timeout: float = 10.0) -> str:
        """Poll until a request arrives, execute it as registered, and return its run's id.

        Raises:
            AssertionError: none arrived within so many s.
        """
        self._start_heartbeat()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            request = self.poll()
            if request:
                self.execute(request["run_id"], self._registered[request["flow_name"]])
                run_id: str = request["run_id"]
                return run_id
        raise AssertionError(f"no execution request within {timeout} s")

    def _execute_task(self, run_id: str, index: int, step: Step) -> None:
        started = time.monotonic()
        self.update(
            run_id,
            index,
            state="RUNNING",
            progress=0,
            taskName=step.name,
            estimatedTime=step.estimated,
            crucialPass=step.crucial,
        )
        for line in step.logs:
            self.log(run_id, line)
        while time.monotonic() - started < step.duration or not _over(step.until):
            if self._stopping.wait(self.tick):
                return
            self.update(run_id, index, state="RUNNING")
        if step.outcome == "RUNNING":
            return
        took = int((time.monotonic() - started) * 1000)
        progress = (
            100 if step.outcome == "COMPLETED" else min(99, took * 100 // max(1, step.estimated))
        )
        last: dict[str, Any] = {"state": step.outcome, "progress": progress, "durationMs": took}
        if step.result is not None:
            last["result"] = dict(step.result)
        self.update(run_id, index, **last)

    def _start_heartbeat(self) -> None:
        if self.heartbeat and self._beating is None:
            self._beating = threading.Thread(target=self._beat, daemon=True)
            self._beating.start()

    def _beat(self) -> None:
        while not self._stopping.is_set():
            with suppress(OSError, http.client.HTTPException):
                self.beat()
            self._stopping.wait(self.heartbeat_interval)


def _declared(step: Step) -> dict[str, Any]:
    task: dict[str, Any] = {
        "name": step.name,
        "description": step.description,
        "estimatedTime": step.estimated,
        "crucialPass": step.crucial,
    }
    if step.weight is not None:
        task["weight"] = step.weight
    return task


def _over(event: threading.Event | None) -> bool:
    return event is None or event.is_set()


def _expect(answer: Answer) -> Any:
    """The body of an answer that must be a success."""
    assert answer.status == 200, answer
    return answer.body
