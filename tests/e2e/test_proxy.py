"""Between client and backend stands something that delays, drops, truncates and repeats at random."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Callable

import pytest

from perfect.spool import spools
from tests.support.backend import BackendProcess
from tests.support.processes import Script
from tests.support.proxy import Proxy

pytestmark = pytest.mark.e2e

FAULTS = {"refuse": 0.08, "drop": 0.12, "truncate": 0.12, "repeat": 0.12, "double": 0.08}


@pytest.mark.parametrize(
    ("delay", "rounds", "steps"),
    [
        pytest.param(0.2, 1, 40, id="small"),
        pytest.param(2.0, 9, 100, id="full", marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
    ],
)
def test_a_bad_proxy(
    own_backend: BackendProcess,
    write_script: Callable[..., Script],
    figures: Callable[..., None],
    delay: float,
    rounds: int,
    steps: int,
) -> None:
    """Nothing is lost, nothing doubled, and the flow does not feel it."""
    seed = random.randrange(1 << 32)
    script = write_script(
        "proxied",
        """
        steps, number = int(sys.argv[1]), sys.argv[2]

        @task
        def step(index):
            print(f"{index} begins")
            time.sleep(0.03)
            print(f"{index} ends")

        @flow(name="proxied")
        def proxied(number):
            for index in range(steps):
                step(index)

        configure(flush_timeout=90)
        connect(0.3)  # the threads are there before the clock runs
        began = time.perf_counter()
        proxied(number)
        sys.stderr.write(f"took {time.perf_counter() - began}\\n")
        """,
    )
    times: dict[str, list[float]] = {"direct": [], "proxied": []}
    with Proxy(own_backend.port, seed=seed, delay=delay, faults=FAULTS) as proxy:
        for number in range(rounds):
            for kind, url in (("direct", own_backend.url), ("proxied", proxy.url)):
                done = script.run(steps, f"{kind} {number}", timeout=115, backend_url=url)
                assert done.returncode == 0, (seed, done.stderr)
                (line,) = [line for line in done.stderr.splitlines() if line.startswith("took")]
                times[kind].append(float(line.split()[1]))
    runs = {run["parameters"]["number"]: run["id"] for run in own_backend.runs()}
    assert len(own_backend.runs()) == len(runs) == 2 * rounds, f"seed {seed}"
    seen = Counter[str]()
    for run_id in runs.values():
        run = own_backend.get(f"/api/runs/{run_id}")
        assert run["state"] == "COMPLETED", f"seed {seed}"
        assert [(t["taskName"], t["state"]) for t in run["tasks"]] == [
            ("step", "COMPLETED")
        ] * steps, f"seed {seed}"
        expected = [line for n in range(steps) for line in (f"{n} begins", f"{n} ends")]
        assert own_backend.lines(run_id) == expected, f"seed {seed}"
        seen.update(runs=1, tasks=steps, lines=len(expected))
    assert spools(str(own_backend.folder.parent / "home")) == []
    assert own_backend.said() == ""
    ratio = statistics.median(times["proxied"]) / statistics.median(times["direct"])
    if rounds > 1:
        assert 0.95 < ratio < 1.05
    assert ratio < 1.5
    figures(
        **seen, requests=len(proxy.seen), faults=dict(proxy.done), flow_time_ratio=ratio, seed=seed
    )
