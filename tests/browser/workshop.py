"""A client's program whose runs the tests look at, and the pages that it fills."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.backend import BackendProcess
from tests.support.processes import Script, await_line, poll_until

# "gated" goes on when the test opens the gate, which is a file.
FLOWS = '''
    from datetime import date
    from pathlib import Path

    from perfect import CronSchedule, cancelled, core, progress

    GATE = Path(sys.argv[1])

    @task
    def prepare():
        """Get everything ready."""
        print("\\x1b[32mprepared\\x1b[0m <b>everything</b>")
        return TaskResult(
            passed=True,
            note="three rows were prepared",
            table=[{"city": "Lima", "high": 33.7}, {"city": "Oslo", "high": 34.6}],
        )

    @task
    def wait_at_the_gate():
        print("at the gate", flush=True)
        progress(0.4)
        while not GATE.exists() and not cancelled():
            time.sleep(0.02)
        print("past the gate", flush=True)

    @task
    def break_down():
        print("about to break", file=sys.stderr)
        raise ValueError("the third row is empty")

    @task
    def greet(name):
        print(f"hello {name}")

    @flow(tags={"team": "data"}, description="Waits in the middle until it may go on.")
    def gated():
        prepare()
        wait_at_the_gate()

    @flow(tags={"team": "ops"}, description="Fails in its second task.")
    def broken():
        prepare()
        break_down()

    @flow(description="Greets somebody a number of times.")
    def greeting(name: str, times: int = 2, day: date = date(2024, 2, 29)):
        for _ in range(times):
            greet(name)

    @flow(schedule=CronSchedule("30 2 * * *", timezone="Europe/Berlin"))
    def nightly():
        prepare()

    @core.task
    def look_up(number=0):
        return number

    @core.task
    def add_up(numbers):
        print(sum(numbers))

    with core.Flow("drawn up", executor=core.ThreadExecutor(2)) as drawn_up:
        add_up(look_up.map([1, 2, 3]))

    drawn_up.register()
    connect()
    print("serving", flush=True)
    listen(concurrency=4)
'''
NAMES = {"gated", "broken", "greeting", "nightly", "drawn up"}


@dataclass(frozen=True)
class Workshop:
    """A backend with a client that serves the flows above."""

    backend: BackendProcess
    gate: Path

    def run(self, flow: str, **body: Any) -> str:
        """The id of a run that was asked for."""
        found = next(one for one in self.backend.get("/api/engine/flows") if one["name"] == flow)
        status, answer = self.backend.request("POST", f"/api/engine/trigger/{found['id']}", body)
        assert status == 200, answer
        run: str = answer["runId"]
        return run

    def until(self, run: str, *states: str) -> dict[str, Any]:
        """The run as soon as it is in one of the states."""

        def shown() -> dict[str, Any] | None:
            found: dict[str, Any] = self.backend.get(f"/api/runs/{run}")
            return found if found["state"] in states else None

        found = poll_until(shown, what=f"{run} {states}")
        assert found is not None
        return found

    def open_the_gate(self) -> None:
        """Let "gated" go on."""
        self.gate.touch()

    def fill(self) -> dict[str, str]:
        """One run of each kind, and the pages there are to see: what each is of, and its address."""
        done, failed, asked = (
            self.run("nightly"),
            self.run("broken"),
            self.run("greeting", parameters={"name": "Ada"}, configuration="release"),
        )
        for run in (done, failed, asked):
            self.until(run, "COMPLETED", "FAILED")
        drawn, running = self.run("drawn up"), self.run("gated")
        self.until(drawn, "COMPLETED", "FAILED")
        poll_until(lambda: "at the gate" in self.backend.lines(running))
        return {
            "library": "/",
            "history": "/history",
            "history filtered": "/history?state=FAILED&flow=broken",
            "history without any": "/history?q=nothing-is-called-so",
            "run completed": f"/runs/{done}",
            "run failed": f"/runs/{failed}",
            "run with parameters": f"/runs/{asked}",
            "run of a graph": f"/runs/{drawn}",
            "run running": f"/runs/{running}",
            "run unknown": "/runs/unknown",
            "schedules": "/schedules",
            "statistics": "/statistics",
            "statistics of a flow": "/flows/greeting",
            "clients": "/clients",
        }


@contextmanager
def workshop(backend: BackendProcess, folder: Path) -> Iterator[Workshop]:
    """Start the client.

    Args:
        backend: that it is a client of.
        folder: where its program is put.
    """
    gate = folder / "gate"
    script = Script(folder / "workshop.py", FLOWS, backend_url=backend.url)
    with script.started(gate) as process:
        await_line(process, "serving")
        poll_until(lambda: NAMES <= {one["name"] for one in backend.get("/api/engine/flows")})
        yield Workshop(backend, gate)
