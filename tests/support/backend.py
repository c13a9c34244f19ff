"""A real backend process for tests: started on a free port, killed and started again at will."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback, no proxy


class BackendProcess:
    """``python -m perfect.server`` in a process of its own; a context manager.

    Args:
        folder: where it keeps its database and what it says on stderr.
        options: for the command line.
        port: 0 takes a free one.
        database: path or URL; None is a file in the folder.
        settings: of `ServerSettings`, beyond what the command line has.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        port: int = 0,
        database: str | Path | None = None,
        **settings: Any,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.database = folder / "perfect.db" if database is None else database
        self.port = port
        self.options = options
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> BackendProcess:
        """Start it, on the same port and database as before if there was a before."""
        environment = {**os.environ, "PERFECT_HOME": str(self.folder), "PYTHONUNBUFFERED": "1"}
        module = ["perfect.server"]
        if self.settings:
            module = ["tests.support.backend_with", json.dumps(self.settings)]
        command = [sys.executable, "-m", *module, "--port", str(self.port)]
        with (self.folder / "backend.err").open("a") as errors:
            self.process = subprocess.Popen(
                [*command, "--db", str(self.database), *self.options],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                cwd=Path(__file__).parents[2],
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "http://" not in line:
            said = (self.folder / "backend.err").read_text()
            self.kill()
            raise AssertionError(f"the backend did not start: {line!r}\n{said}")
        self.url = line.split()[-1].rstrip("/")
        self.port = int(self.url.rsplit(":", 1)[1].split("/")[0])
        return self

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self._reap()

    def freeze(self) -> None:
        """SIGSTOP: connections are accepted, and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def said(self) -> str:
        """All that it said on stderr in its lives."""
        return (self.folder / "backend.err").read_text()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        process, self.process = self.process, None
        assert process is not None and process.stdout is not None
        code = process.wait(20)
        process.stdout.close()
        return code

    def __enter__(self) -> BackendProcess:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        if self.process is not None:
            self.kill()

    # --- what tests ask ----------------------------------------------------------------------

    def get(self, path: str) -> Any:
        """The JSON of a GET."""
        return self.request("GET", path)[1]

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """(status, JSON or text) of any request; a body that is not bytes is sent as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path,
            data=data,
            method=method,
            headers={"Content-Type": "application/json", **self._access(), **(headers or {})},
        )
        try:
            with _OPENER.open(request, timeout=40) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, content = error.code, error.read()
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content.decode("utf-8", "replace")

    def _access(self) -> dict[str, str]:
        token = self.settings.get("token")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def runs(self) -> list[dict[str, Any]]:
        """Every run, newest first."""
        found: list[dict[str, Any]] = self.get("/api/engine/runs?limit=1000")
        return found

    def lines(self, run_id: str) -> list[str]:
        """Every line of a run's log, in order."""
        found: list[str] = []
        after = 0
        while True:
            page = self.get(f"/api/runs/{run_id}/logs?after={after}&limit=1000")
            found += [line["text"] for line in page["logs"]]
            if not page.get("next"):
                return found
            after = page["next"]

    def wait_for_run(
        self,
        matches: Callable[[dict[str, Any]], bool] = lambda run: run["state"] != "RUNNING",
        timeout: float = 20.0,
    ) -> dict[str, Any]:
        """The first run that matches, with its tasks; asks until there is one."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for run in self.runs():
                if matches(run):
                    return run
            time.sleep(0.02)  # the backend is another process: there is no event to wait for
        found = [(run["flowName"], run["state"]) for run in self.runs()]
        raise AssertionError(f"no such run within {timeout} s, only {found[:20]}")
