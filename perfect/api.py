"""The documented client of the backend, on top of a transport.

`PerfectAPIClient` has the documented methods, which answer True or False and never raise, and one
method `request` that raises, which everything else of perfect is built on. `MockPerfectClient` is
the same client over a transport that keeps what it was asked in memory.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from perfect import __version__
from perfect.errors import BackendError, BackendRefused
from perfect.jsonable import snapshot
from perfect.records import new_id
from perfect.transport import MockTransport, Transport, UrllibTransport

log = logging.getLogger("perfect")

REQUEST_TIMEOUT = 10.0  # s
POLL_TIMEOUT = 35.0  # s; a poll is answered after 30 s at the latest
SHORT_POLL = 0.1  # s; a backend that answers with nothing sooner does not hold polls open


@dataclass(frozen=True)
class ExecutionRequest:
    """A run that somebody asked this client to execute.

    Attributes:
        trigger: "request", or "schedule" where nobody but its schedule asked.
        retry_of: id of the run that this one repeats, or None.
        lease: proof that it was handed to this session; None from a documented backend.
    """

    run_id: str
    flow_name: str
    configuration: str = "development"
    parameters: dict[str, Any] = field(default_factory=dict)
    lease: str | None = None
    trigger: str = "request"
    retry_of: str | None = None

    @classmethod
    def from_answer(cls, answer: Any) -> ExecutionRequest | None:
        """Read a poll's answer; None when it hands out nothing."""
        if not isinstance(answer, dict) or not isinstance(answer.get("run_id"), str):
            return None
        parameters = answer.get("parameters")
        lease, retry_of = answer.get("lease"), answer.get("retry_of")
        return cls(
            run_id=answer["run_id"],
            flow_name=str(answer.get("flow_name", "")),
            configuration=str(answer.get("configuration") or "development"),
            parameters=parameters if isinstance(parameters, dict) else {},
            lease=None if lease is None else str(lease),
            trigger="schedule" if answer.get("trigger") == "schedule" else "request",
            retry_of=None if retry_of is None else str(retry_of),
        )


class PerfectAPIClient:
    """Talks to a Perfect backend.

    Args:
        base_url: for example ``http://localhost:3000``.
        client_id: the group that this process belongs to.
        session_id: this process's life; default: a new one.
        api_key: bearer token.
        timeout: s that a request may take.
        execution_handler: called by `listen_for_executions` with each `ExecutionRequest`.
        cancel_handler: called with the id of each run that an answer wants to be cancelled, in the thread of the
            request; the backend says it again until the run has ended.
        transport: what carries the requests; default: urllib.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:3000",
        client_id: str = "perfect_example",
        *,
        session_id: str | None = None,
        api_key: str | None = None,
        timeout: float = REQUEST_TIMEOUT,
        execution_handler: Callable[[ExecutionRequest], object] | None = None,
        cancel_handler: Callable[[str], object] | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.base_url = base_url
        self.client_id = client_id
        self.session_id = session_id or new_id()
        self.timeout = timeout
        self.execution_handler = execution_handler
        self.cancel_handler = cancel_handler
        self.transport: Transport = transport or UrllibTransport(base_url)
        self._headers = {
            "Accept": "application/json",
            "X-Perfect-Client": client_id,
            "X-Perfect-Session": self.session_id,
            "User-Agent": _agent(),
        }
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._stopped = threading.Event()

    # --- what everything is built on -------------------------------------------------

    def request(
        self, method: str, path: str, body: Any = None, *, timeout: float | None = None
    ) -> Any:
        """Send JSON and return the answer's JSON.

        Args:
            body: what `json` can encode, or bytes of JSON already encoded.
            timeout: s; default: the client's.

        Raises:
            BackendUnreachable: no answer.
            BackendRefused: a status other than 2xx, or an answer that is no JSON.
        """
        headers = dict(self._headers)
        data: bytes | None = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = body if isinstance(body, bytes) else encode(body)
            if data[:2] == b"\x1f\x8b":
                headers["Content-Encoding"] = "gzip"
        elif method == "POST":
            data = b""
        response = self.transport.send(method, path, data, headers, timeout or self.timeout)
        try:
            answer = json.loads(response.body) if response.body else None
        except (ValueError, RecursionError):
            start = response.body[:200].decode("utf-8", "replace")
            raise BackendRefused(response.status, f"not JSON: {start}") from None
        if not 200 <= response.status < 300:
            said = answer if isinstance(answer, dict) else {}
            raise BackendRefused(
                response.status,
                str(said.get("error") or said.get("detail") or "no reason given"),
                said.get("detail"),
                _retry_after(response.headers),
            )
        if self.cancel_handler is not None and isinstance(answer, dict) and answer.get("cancel"):
            named = answer["cancel"]
            for run_id in named if isinstance(named, list) else [named]:
                self.cancel_handler(str(run_id))
        return answer

    def break_off(self) -> None:
        """Break off what is under way; what comes later is sent as ever."""
        self.transport.break_off()

    def close(self) -> None:
        """Break off whatever is under way and refuse what comes later."""
        self._stopped.set()
        self.transport.close()

    # --- the documented methods -------------------------------------------------------

    def register_flow(self, flow_definition: dict[str, Any]) -> bool:
        """Register a flow (`POST /api/flows`); False if the backend did not take it."""
        return self._try("POST", "/api/flows", flow_definition)

    def send_log(self, run_id: str, log_message: str) -> bool:
        """Append to a run's log; False if the backend did not take it."""
        return self._try("POST", f"/api/flows/{quote(run_id)}/logs", {"log": log_message})

    def update_task_state(
        self,
        run_id: str,
        task_index: int,
        state: str,
        progress: int | None = None,
        duration_ms: int | None = None,
        result: dict[str, Any] | None = None,
        task_name: str | None = None,
        estimated_time: int | None = None,
        crucial_pass: bool | None = None,
    ) -> bool:
        """Tell where a task stands; False if the backend did not take it.

        Args:
            task_index: counts the task calls of the run from 0.
            progress: 0–100.
            duration_ms, estimated_time: ms.
            result: ``{"passed", "note", "table"}``.
        """
        body = {
            "state": str(state),
            "progress": progress,
            "durationMs": duration_ms,
            "result": result,
            "taskName": task_name,
            "estimatedTime": estimated_time,
            "crucialPass": crucial_pass,
        }
        return self._try(
            "POST",
            f"/api/runs/{quote(run_id)}/tasks/{int(task_index)}/state",
            {name: value for name, value in body.items() if value is not None},
        )

    def complete_run(self, run_id: str, task_count: int) -> bool:
        """Say that a run is over after so many task calls; False if the backend did not take it."""
        return self._try(
            "POST", f"/api/runs/{quote(run_id)}/complete", {"taskCount": int(task_count)}
        )

    def send_heartbeat(self) -> bool:
        """Give a sign of life; False if the backend did not hear it."""
        return self._try("POST", "/api/heartbeat", None)

    def poll_execution(self, slots: int = 1, *, timeout: float = POLL_TIMEOUT) -> Any:
        """Ask once for an execution request and return the answer's JSON (None: there is none).

        Raises:
            BackendError: no answer, or a refusal.
        """
        return self.request("GET", f"/api/execution-requests?slots={int(slots)}", timeout=timeout)

    def listen_for_executions(self, poll_interval: float = 0.1) -> None:
        """Hand execution requests to `execution_handler` until `close` is called.

        Args:
            poll_interval: s to wait after a poll that failed, or was answered with nothing at once.
        """
        while not self._stopped.is_set():
            asked = monotonic()
            try:
                request = ExecutionRequest.from_answer(self.poll_execution())
            except BackendError:
                request = None
            if request is not None and self.execution_handler is not None:
                try:
                    self.execution_handler(request)
                except Exception:
                    log.exception("perfect: the handler of execution requests failed")
            elif monotonic() - asked < SHORT_POLL:
                self._stopped.wait(max(poll_interval, 0.05))

    def _try(self, method: str, path: str, body: Any) -> bool:
        try:
            answer = self.request(method, path, body)
        except BackendError:
            return False
        return not (isinstance(answer, dict) and answer.get("success") is False)


class MockPerfectClient(PerfectAPIClient):
    """A client without a network; `requests` shows what it was asked."""

    def __init__(self, client_id: str = "perfect_example") -> None:
        self.mock = MockTransport()
        super().__init__("http://mock.invalid", client_id, transport=self.mock)

    @property
    def requests(self) -> list[tuple[str, str, Any]]:
        """(method, path, JSON body) in order."""
        return self.mock.requests


def encode(body: Any) -> bytes:
    """JSON bytes; whatever JSON can't hold is snapshotted first."""
    try:
        # Not ASCII escapes: those could spell lone surrogates, and take up to three times the room.
        return json.dumps(body, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return json.dumps(snapshot(body), separators=(",", ":"), ensure_ascii=False).encode()


def quote(segment: str) -> str:
    """A text as one segment of a URL's path."""
    return urllib.parse.quote(str(segment), safe="")


def _agent() -> str:
    """This program and where it runs, for those who look who is connected."""
    host = socket.gethostname().encode("ascii", "ignore").decode()
    return f"perfect-client/{__version__} ({host}; pid {os.getpid()})"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    for name, value in headers.items():
        if name.lower() == "retry-after":
            try:
                return max(0.0, float(value))
            except ValueError:
                return None
    return None
