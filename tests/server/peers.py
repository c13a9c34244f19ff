"""Peers that speak to a backend over real sockets, and the events they send."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from collections.abc import Callable
from typing import Any


class Answer:
    """An HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    def ok(self) -> Any:
        assert self.status == 200, (self.status, self.body)
        return self.json

    def refused(self, status: int) -> dict[str, Any]:
        """The failure, which has the one shape and the expected status."""
        assert self.status == status, (self.status, self.body)
        failure: dict[str, Any] = self.json
        assert set(failure) == {"success", "error", "detail"} and failure["success"] is False
        assert isinstance(failure["error"], str) and failure["error"]
        return failure


class Peer:
    """A client: without headers it is one of the documented kind, with them a native one."""

    def __init__(self, port: int, client: str | None = None, session: str | None = None) -> None:
        self.port = port
        self.headers = {}
        self.seq = 0
        if client is not None:
            self.headers = {
                "X-Perfect-Client": client,
                "X-Perfect-Session": session or str(uuid.uuid4()),
            }

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout: float = 20,
    ) -> Answer:
        data = (
            body
            if isinstance(body, bytes) or body is None
            else json.dumps(body, ensure_ascii=False).encode()
        )
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, data, self.headers | (headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path: str, **kwargs: Any) -> Answer:
        return self.send("GET", path, **kwargs)

    def post(self, path: str, body: Any = None, **kwargs: Any) -> Answer:
        return self.send("POST", path, body, **kwargs)

    def register(self, name: str, *tasks: Any, **more: Any) -> dict[str, Any]:
        defined = [{"name": task} if isinstance(task, str) else task for task in tasks]
        flow: dict[str, Any] = self.post(
            "/api/flows", {"name": name, "tasks": defined, **more}
        ).ok()["flow"]
        return flow

    def begin(self, flow_id: str) -> str:
        run: str = self.post(f"/api/engine/run/{flow_id}", {"configuration": "development"}).ok()[
            "runId"
        ]
        return run

    def task(self, run: str, index: int, state: str, **more: Any) -> Answer:
        return self.post(f"/api/runs/{run}/tasks/{index}/state", {"state": state, **more})

    def complete(self, run: str, count: int) -> Answer:
        return self.post(f"/api/runs/{run}/complete", {"taskCount": count})

    def run(self, run: str) -> Any:
        return self.get(f"/api/runs/{run}").ok()

    def ingest(self, *events: dict[str, Any]) -> Any:
        """Send native events; those without a sequence number get the next."""
        numbered = []
        for event in events:
            if "seq" not in event:
                self.seq += 1
                event = {"seq": self.seq, **event}
            numbered.append(event)
        return self.post("/api/ingest", {"events": numbered}).ok()

    def poll(self, slots: int | None = None, timeout: float = 20) -> Any:
        query = "" if slots is None else f"?slots={slots}"
        return self.get(f"/api/execution-requests{query}", timeout=timeout).ok()


def started(run: str, name: str, *tasks: str, t: int = 1_700_000_000_000) -> dict[str, Any]:
    """A native ``run.started``."""
    flow = {"name": name, "tasks": [{"name": task} for task in tasks]}
    return {"type": "run.started", "run": run, "t": t, "flow": flow, "trigger": "call"}


def ended(
    run: str, count: int, state: str = "COMPLETED", t: int = 1_700_000_001_000
) -> dict[str, Any]:
    """A native ``run.ended``."""
    return {"type": "run.ended", "run": run, "t": t, "state": state, "task_count": count}


def wait_until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """What the condition returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.01)
    return value
