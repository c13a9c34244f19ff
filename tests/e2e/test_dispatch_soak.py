"""Many requests, many workers, some of them killed: each run happens once; and how soon a run begins."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from typing import IO

import pytest

from tests.e2e.test_cancel import trigger
from tests.support.backend import BackendProcess
from tests.support.processes import Script, poll_until

pytestmark = pytest.mark.e2e

Figures = Callable[..., None]
Write = Callable[..., Script]

# Lines of at most a few bytes that are appended at once: what was begun and ended is known whoever dies.
WORKER = """
    from perfect import current_run

    def note(what):
        with open(sys.argv[1], "ab", buffering=0) as journal:
            journal.write(f"{what} {current_run().id}\\n".encode())

    @task
    def work():
        note("begun")
        time.sleep(0.03)
        note("ended")

    @flow
    def short():
        work()

    listen(concurrency=2)
"""


@pytest.mark.parametrize(
    ("workers", "requests", "kills"),
    [
        pytest.param(4, 100, 3, id="small"),
        pytest.param(
            *(20, 2_000, 60), id="full", marks=[pytest.mark.soak, pytest.mark.timeout(900)]
        ),
    ],
)
def test_each_request_ends_once_whoever_is_killed(
    tmp_path: Path,
    write_script: Write,
    figures: Figures,
    workers: int,
    requests: int,
    kills: int,
) -> None:
    journal = tmp_path / "journal"
    journal.touch()
    rng = random.Random(20_251_121)
    with (
        BackendProcess(tmp_path / "backend", silence=6.0, lease=3.0) as backend,
        ExitStack() as stack,
    ):
        script = write_script("worker", WORKER, backend_url=backend.url, home=tmp_path / "home")

        def start() -> Popen[str]:
            return stack.enter_context(script.started(journal))

        alive = [start() for _ in range(workers)]
        runs = [trigger(backend, "short")]
        (flow,) = [one["id"] for one in backend.get("/api/engine/flows")]
        killed, every = 0, requests // kills
        for number in range(1, requests):
            if number % every == 0 and killed < kills:
                # only while there is something under way: it is then that a death may lose something
                done = journal.read_bytes().count(b"ended")
                poll_until(lambda: journal.read_bytes().count(b"ended") > done, 60)
                victim = alive.pop(rng.randrange(len(alive)))
                victim.kill()
                killed += 1
                alive.append(start())
            answer = backend.request("POST", f"/api/engine/trigger/{flow}", {})[1]
            runs.append(answer["runId"])

        def all_over() -> bool:
            waiting = backend.get("/api/runs?state=PENDING,RUNNING&limit=1")["runs"]
            return not waiting

        poll_until(all_over, 600, every=0.1)
        states: dict[str, tuple[str, str | None]] = {}
        cursor = ""
        while True:
            page = backend.get(f"/api/runs?limit=500{cursor}")
            states |= {run["id"]: (run["state"], run["reason"]) for run in page["runs"]}
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
    noted = Counter(journal.read_text().splitlines())
    ends = Counter(state for state, _ in states.values())
    figures(workers=workers, requests=requests, killed=killed, **ends)
    assert sorted(states) == sorted(runs) and len(set(runs)) == requests
    assert set(noted.values()) == {1}, "a run happened twice"
    for run, (state, reason) in states.items():
        begun, ended = noted[f"begun {run}"], noted[f"ended {run}"]
        if state == "COMPLETED":
            assert (begun, ended) == (1, 1), run
        else:
            assert state == "FAILED" and reason is not None, (run, state, reason)
            assert reason.startswith(("no sign of life", "it was offered")), reason
    assert ends["FAILED"] <= 2 * kills  # what two places of a killed worker were at
    assert killed == kills


LATENCY = """
    @task
    def first():
        print("at", time.time())

    @flow
    def timed():
        first()

    @flow
    def other():
        first()

    listen()
"""


@pytest.mark.parametrize(
    "count", [pytest.param(30, id="small"), pytest.param(500, id="full", marks=pytest.mark.soak)]
)
def test_how_soon_a_triggered_run_begins(
    own_backend: BackendProcess, write_script: Write, figures: Figures, count: int
) -> None:
    script = write_script("timed", LATENCY, backend_url=own_backend.url)
    took: list[float] = []

    def waits_again() -> bool:
        (client,) = own_backend.get("/api/clients")["clients"]
        (session,) = client["sessions"]
        return bool(session["polling"]) and not session["activeRuns"]

    with script.started() as process:
        assert process.stdout is not None
        trigger(own_backend, "timed")
        (flow,) = [f for f in own_backend.get("/api/engine/flows") if f["name"] == "timed"]
        begun = _begun(process.stdout)
        next(begun)
        for _ in range(count):
            poll_until(waits_again)
            asked = time.time()
            own_backend.request("POST", f"/api/engine/trigger/{flow['id']}", {})
            # told by the worker itself: to ask the backend again and again would slow down what is measured
            took.append((next(begun) - asked) * 1000)
    took.sort()
    figures(
        runs=count,
        trigger_to_first_line_p50_ms=took[count // 2],
        p99_ms=took[min(count - 1, count * 99 // 100)],
    )
    assert len(took) == count


def _begun(output: IO[str]) -> Iterator[float]:
    """When each run of the worker printed its first line; s since the epoch."""
    for line in output:
        if line.startswith("at "):
            yield float(line.split()[1])
