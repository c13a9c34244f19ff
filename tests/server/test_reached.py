"""The progress of very large runs in lists."""

from __future__ import annotations

from collections.abc import Callable

from perfect.server.engine import reached
from perfect.server.engine.reached import Reached
from tests.server.conftest import Running
from tests.server.peers import started


class _Clock:
    """Every look at it takes a second."""

    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        self.time += 1.0
        return self.time


def test_of_a_large_run_progress_is_believed_for_a_while_of_a_small_one_never(
    launch: Callable[..., Running], run_id: str
) -> None:
    backend = launch()
    peer = backend.peer("c")
    number = reached._MANY + 1
    peer.ingest(started(run_id, "large"))
    small = run_id[:-1] + ("0" if run_id[-1] != "0" else "1")
    peer.ingest(started(small, "small"))

    def say(run: str, of: range, state: str) -> None:
        event = {"type": "task", "run": run, "name": "a", "state": state}
        peer.ingest(*({**event, "index": index, "started": 1_700_000_000_000} for index in of))

    def listed() -> dict[str, float]:
        return {run["id"]: run["progress"] for run in peer.get("/api/runs").ok()["runs"]}

    clock = _Clock()
    backend.server.backend.reached = Reached(clock.monotonic)
    say(run_id, range(number // 2), "COMPLETED")
    say(run_id, range(number // 2, number), "PENDING")
    say(small, range(2), "COMPLETED")
    say(small, range(2, 4), "PENDING")
    before = listed()
    assert before[small] == 50 and 49 < before[run_id] < 51
    say(run_id, range(number // 2, number - 1), "COMPLETED")
    say(small, range(2, 3), "COMPLETED")
    assert listed() == {run_id: before[run_id], small: 75}
    # the run by itself is asked for exactly
    assert peer.run(run_id)["progress"] == 99
    clock.time += reached._LONGEST
    assert listed()[run_id] == 99
    clock.time -= 2 * reached._LONGEST
    peer.ingest(
        {
            "type": "run.ended",
            "run": run_id,
            "t": 1_700_000_009_000,
            "state": "COMPLETED",
            "task_count": number - 1,
        }
    )
    assert listed()[run_id] == 100
