"""A graph on a Dask cluster of real processes, one of which is killed midway."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.backend import BackendProcess
from tests.support.dask import dask_cluster
from tests.support.processes import Script, await_line, poll_until

pytest.importorskip("distributed", reason="the extra dask is not installed")
pytestmark = pytest.mark.e2e

NODES, WORKERS = 1000, 3
MIDWAY = NODES // 2

GRAPH = """
    import random
    from pathlib import Path
    from perfect.core import *

    address, folder = sys.argv[1], Path(sys.argv[2])

    def mix(index, *given):
        return (31 * index + sum(given) * 17 + 7) % 1_000_003

    @task
    def node(index, *given):
        print("node", index)
        if index == MIDWAY:
            first = not list(folder.iterdir())
            (folder / f"{os.getpid()}").touch()
            while first:  # until it is killed
                time.sleep(0.01)
        return mix(index, *given)

    if __name__ == "__main__":
        shape = random.Random(7)
        layers = 20
        width = NODES // layers
        values, nodes = [], []
        with Flow("layered") as flow:
            for index in range(NODES):
                start = index // width * width
                earlier = range(max(0, start - 3 * width), start)
                chosen = shape.sample(earlier, min(len(earlier), shape.randint(1, 3)))
                values.append(mix(index, *(values[one] for one in chosen)))
                nodes.append(node(index, *(nodes[one] for one in chosen)))
        state = flow.run(executor=DaskExecutor(address))
        assert state.is_successful(), state
        assert [state.result[one].result for one in nodes] == values
        print("all well")
"""


def test_a_worker_is_killed_in_the_middle_of_a_graph(
    backend: BackendProcess,
    tmp_path: Path,
    write_script: Callable[..., Script],
    figures: Callable[..., None],
) -> None:
    text = GRAPH.replace("NODES", str(NODES)).replace("MIDWAY", str(MIDWAY))
    script = write_script("layered", text, backend_url=backend.url, client_id="dask")
    seen = tmp_path / "seen"
    seen.mkdir()
    with dask_cluster(tmp_path / "dask", WORKERS) as cluster:
        began = time.monotonic()
        with script.started(cluster.address, seen) as process:
            poll_until(lambda: process.poll() is not None or any(seen.iterdir()), 60)
            assert process.poll() is None, process.communicate()
            (killed,) = [int(path.name) for path in seen.iterdir()]
            # It is told that the worker is at it: what dies before that was never seen to begin.
            going = backend.wait_for_run(lambda run: run["clientId"] == "dask")
            poll_until(lambda: f"node {MIDWAY}" in backend.lines(going["id"]), 30)
            assert killed in [worker.pid for worker in cluster.workers]
            os.kill(killed, signal.SIGKILL)
            await_line(process, "all well")
            _, errors = process.communicate(timeout=60)
        took = time.monotonic() - began
    assert process.returncode == 0
    assert all("computed again" in line for line in errors.splitlines()), errors

    found = backend.wait_for_run(
        lambda run: run["clientId"] == "dask" and run["state"] != "RUNNING"
    )
    run = backend.get(f"/api/runs/{found['id']}")
    assert run["state"] == "COMPLETED"
    # Each node is one task run, whatever became of the worker.
    tasks = sorted(run["tasks"], key=lambda one: int(one["index"]))
    assert [one["index"] for one in tasks] == list(range(NODES))
    assert {one["state"] for one in tasks} == {"COMPLETED"}

    again = [one for one in tasks if one["attempt"] > 1]
    assert MIDWAY in [one["index"] for one in again]
    assert len(again) <= 4  # what it was at, and what was on its way home
    earlier = [attempt for one in again for attempt in one["attempts"]]
    assert len(earlier) == len(again) == len([one for one in again if one["attempt"] == 2])
    assert len({attempt["worker"] for attempt in earlier}) == 1  # the killed one
    assert {attempt["error"]["type"] for attempt in earlier} == {"WorkerLost"}
    lines = backend.lines(run["id"])
    assert len([line for line in lines if "computed again" in line]) == len(again)
    # What had finished was not computed again, and no line is lost or doubled.
    computed = Counter(int(line.split()[1]) for line in lines if line.startswith("node "))
    assert computed.total() == NODES + len(again)
    assert {index for index, times in computed.items() if times > 1} == {
        one["index"] for one in again
    }
    figures(nodes=NODES, computed_again=len(again), run_seconds=took)
