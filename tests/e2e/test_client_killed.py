"""The client is killed, or stands still for too long: what it had reported stays, and nothing runs twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from perfect.spool import spools
from perfect.server.settings import ServerSettings
from tests.support.backend import BackendProcess
from tests.support.processes import Script, await_line, catches, poll_until, stop, tell
from tests.support.proxy import Proxy

pytestmark = pytest.mark.e2e

Figures = Callable[..., None]
Write = Callable[..., Script]

# s of silence after which a run is failed: more than between two heartbeats, and the real one
SILENCES = [
    pytest.param(5.0, id="small"),
    pytest.param(ServerSettings().silence, id="full", marks=pytest.mark.soak),
]

ENDLESS = """
    @task
    def endless():
        number = 0
        while True:
            print("line", number, time.time())
            number += 1
            time.sleep(0.01)

    @task
    def first():
        print("first")

    @flow(name=sys.argv[1])
    def killed():
        first()
        endless()

    killed()
"""


def run_of(backend: BackendProcess, name: str) -> dict[str, Any]:
    """The only run of a flow, whole."""
    (found,) = [run for run in backend.runs() if run["flowName"] == name]
    run: dict[str, Any] = backend.get(f"/api/runs/{found['id']}")
    return run


def numbered(lines: list[str]) -> list[float]:
    """When the lines of `ENDLESS` were printed; asserts that they are there without a gap."""
    found = [line.split() for line in lines if line.startswith("line")]
    assert [int(number) for _, number, _ in found] == list(range(len(found)))
    return [float(at) for _, _, at in found]


@pytest.mark.parametrize("silence", SILENCES)
def test_a_killed_client_leaves_what_it_had_said_and_the_run_fails(
    tmp_path: Path, write_script: Write, figures: Figures, silence: float
) -> None:
    script = write_script("killed", ENDLESS)
    with ExitStack() as stack:
        backend, other = (
            stack.enter_context(BackendProcess(tmp_path / name, silence=silence))
            for name in ("backend", "other")
        )
        online = stack.enter_context(script.started("online", backend_url=backend.url))
        offline = stack.enter_context(script.started("offline", backend_url=other.url))
        for process in (online, offline):
            await_line(process, "line 20")
        # One backend is there until the end, the other goes away before it.
        poll_until(lambda: other.runs() and other.lines(other.runs()[0]["id"]))
        other.kill()
        await_line(offline, "line 100")
        delivered = len(numbered(backend.lines(backend.runs()[0]["id"])))
        online.kill()
        offline.kill()
        killed = time.time()
        assert online.wait(10) == offline.wait(10) == -9
        # where the machine is busy, the other one, too, may have put something on disk
        (left,) = [
            one for one in spools(os.environ["PERFECT_HOME"]) if one.backend_url == other.url
        ]
        assert not left.busy and left.events > 50
        # Both backends find out by themselves, at the same time.
        other.start()
        connecting = write_script("connecting", "assert connect(20)", backend_url=other.url)
        assert connecting.run().returncode == 0
        delivered_at = time.time()

        run = backend.wait_for_run(timeout=silence + 5)
        took = time.time() - killed
        assert took < silence + 0.5 <= 10  # the promise is 10 s after the kill
        run = run_of(backend, "online")
        assert run["state"] == "FAILED" and "no sign of life" in run["reason"]
        assert [(t["taskName"], t["state"]) for t in run["tasks"]] == [
            ("first", "COMPLETED"),
            ("endless", "FAILED"),
        ]
        seen = numbered(backend.lines(run["id"]))
        assert len(seen) >= delivered
        # With a backend that answers at once, only what was under way is lost.
        assert killed - seen[-1] < 0.5

        other.wait_for_run(timeout=silence + 5)
        also = time.time() - delivered_at
        assert also < silence + 1
        run = run_of(other, "offline")
        assert run["state"] == "FAILED" and "no sign of life" in run["reason"]
        spooled = numbered(other.lines(run["id"]))
        # While the backend is away, the sender writes at least every 200 ms.
        assert killed - spooled[-1] < 0.2 + 0.5
        assert spools(os.environ["PERFECT_HOME"]) == []
    figures(
        runs=2,
        tasks=4,
        lines=len(seen) + len(spooled),
        kills=3,
        failed_after=took,
        lost_ms_online=round((killed - seen[-1]) * 1000),
        lost_ms_spooled=round((killed - spooled[-1]) * 1000),
    )


def test_who_delivers_for_another_is_killed_too(
    absent: BackendProcess, write_script: Write, figures: Figures
) -> None:
    """Whatever a killed deliverer had got through is neither lost nor doubled."""
    lines = 20_000
    with Proxy(absent.port, seed=3, delay=0.05) as proxy:
        left = write_script(
            "left",
            f"""
            @flow(name="left")
            def left():
                for number in range({lines}):
                    print("line", number)
            left()
            """,
            backend_url=proxy.url,
        )
        assert left.run().returncode == 0
        (spool,) = spools(os.environ["PERFECT_HOME"])
        delivering = write_script(
            "delivering", "connect(20); time.sleep(60)", backend_url=proxy.url
        )
        kills = 0
        with absent:
            for batches in (1, 2, 1):
                seen = len(proxy.ingested())
                with delivering.started() as process:
                    poll_until(lambda: len(proxy.ingested()) >= seen + batches)  # noqa: B023
                    process.kill()
                    kills += 1
            last = write_script("last", "assert connect(20)", backend_url=proxy.url).run()
            assert (last.returncode, last.stderr) == (0, "")
            assert spools(os.environ["PERFECT_HOME"]) == []
            (run,) = absent.runs()
            assert run["state"] == "COMPLETED"
            assert absent.lines(run["id"]) == [f"line {n}" for n in range(lines)]
    figures(runs=1, lines=lines, kills=kills, batches=len(proxy.ingested()))


STOPPED = """
    @task
    def step(number):
        print("step", number)

    @task
    def wait():
        print("waiting")
        sys.stdin.readline()
        print("goes on")

    @task
    def done():
        with open(sys.argv[1], "a") as file:
            file.write(f"{os.getpid()}\\n")

    @flow(name="finished")
    def finished():
        step(1)

    @flow(name="stopped")
    def stopped():
        step(1)
        wait()
        done()

    if sys.argv[2] == "call":
        finished()
        stopped()
    else:
        print("listening")
        listen()
"""


@pytest.mark.parametrize("silence", SILENCES)
def test_a_client_that_stood_still_too_long(
    tmp_path: Path, write_script: Write, figures: Figures, silence: float
) -> None:
    """It is taken for dead and is not: what it says then counts, and nobody else did its work."""
    script = write_script("stopped", STOPPED)
    marks = {kind: tmp_path / kind for kind in ("called", "triggered")}
    with ExitStack() as stack:
        called_on, triggered_on = (
            stack.enter_context(BackendProcess(tmp_path / name, silence=silence))
            for name in ("backend", "other")
        )
        called = stack.enter_context(
            script.started(marks["called"], "call", backend_url=called_on.url)
        )
        listeners = []
        for _ in range(2):  # one takes the request, the other must never get it
            listeners.append(
                stack.enter_context(
                    script.started(marks["triggered"], "listen", backend_url=triggered_on.url)
                )
            )
            await_line(listeners[-1], "listening")
        flow_id = poll_until(
            lambda: [
                f["id"] for f in triggered_on.get("/api/engine/flows") if f["name"] == "stopped"
            ]
        )[0]
        status, answer = triggered_on.request("POST", f"/api/engine/trigger/{flow_id}", {})
        assert status == 200

        def running(backend: BackendProcess) -> bool:
            runs = [run for run in backend.runs() if run["flowName"] == "stopped"]
            return bool(runs) and "waiting" in backend.lines(runs[0]["id"])

        for backend in (called_on, triggered_on):
            poll_until(lambda: running(backend))  # noqa: B023
        stopped = time.monotonic()
        for process in (called, *listeners):
            stop(process)
        for backend in (called_on, triggered_on):
            backend.wait_for_run(
                lambda run: run["flowName"] == "stopped" and run["state"] == "FAILED",
                timeout=silence + 5,
            )
            inferred = run_of(backend, "stopped")
            assert "no sign of life" in inferred["reason"]
        failed_after = time.monotonic() - stopped
        assert run_of(called_on, "finished")["state"] == "COMPLETED"
        # A third client comes meanwhile: a claimed run is not offered to it, however dead it looks.
        third = stack.enter_context(
            script.started(marks["triggered"], "listen", backend_url=triggered_on.url)
        )
        await_line(third, "listening")
        for process in (called, *listeners):
            process.send_signal(signal.SIGCONT)
        for process in (called, *listeners, third):
            tell(process, "go on")
        for backend in (called_on, triggered_on):
            backend.wait_for_run(
                lambda run: run["flowName"] == "stopped" and run["state"] == "COMPLETED"
            )
            run = run_of(backend, "stopped")
            assert [(t["taskName"], t["state"]) for t in run["tasks"]] == [
                ("step", "COMPLETED"),
                ("wait", "COMPLETED"),
                ("done", "COMPLETED"),
            ]
            assert run["reason"] is None and run["progress"] == 100
            assert backend.lines(run["id"]) == ["step 1", "waiting", "goes on"]
        assert run_of(triggered_on, "stopped")["id"] == answer["runId"]
        assert called.wait(20) == 0
        for listener in (*listeners, third):
            # "listening" was printed before listen() had taken the signals over.
            poll_until(lambda: catches(listener, signal.SIGTERM))  # noqa: B023
            listener.terminate()
        for listener in (*listeners, third):
            assert listener.wait(20) in (0, 143), listener.communicate()
        finished = run_of(called_on, "finished")
        assert (finished["state"], finished["reason"]) == ("COMPLETED", None)
        executions = {kind: len(path.read_text().split()) for kind, path in marks.items()}
        assert executions == {"called": 1, "triggered": 1}
    figures(runs=3, stopped=3, failed_after=failed_after, executions=sum(executions.values()))
