"""What graphs cost, beside Dask on the same graphs in the same run.

``python -m tests.benchmarks graphs`` prints the table at full size.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_start_method
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any

from perfect import flowkit
from perfect import session as sessions
from perfect.core import (
    DaskExecutor,
    Executor,
    Flow,
    FlowRunner,
    LocalExecutor,
    Node,
    ProcessExecutor,
    State,
    Task,
    ThreadExecutor,
    task,
)
from perfect.testing import mock
from tests.benchmarks.measure import live_backend, task_loop, timed

HAS_DASK = find_spec("dask") is not None
HAS_DISTRIBUTED = find_spec("distributed") is not None
THREADS = 4
PROCESSES = 2
PRIME = 1_000_003  # results stay small numbers

# µs per node, of the task's issue; for other rows there is none.
BUILDING, SEQUENTIAL, THREADED, LIVE = 10.0, 8.0, 25.0, 30.0
BYTES = 1024.0


@dataclass
class Figure:
    """One measurement.

    Attributes:
        shape: of which graph; a column of the table.
        budget: what it may be at the most; None: nothing was said.
    """

    name: str
    shape: str
    value: float
    unit: str = "µs"
    budget: float | None = None


# --- the graphs --------------------------------------------------------------------------------

Shape = list[tuple[int, ...]]  # of each node, those before it whose results it is given


def chain(nodes: int) -> Shape:
    """One after the other."""
    return [(index - 1,) if index else () for index in range(nodes)]


def fan(nodes: int) -> Shape:
    """All but two after the first; the last one after all of these."""
    middle = range(1, nodes - 1)
    return [(), *((0,) for _ in middle), tuple(middle)]


def layered(nodes: int, width: int = 100, seed: int = 4) -> Shape:
    """Layers of nodes with one to three before them in the layer before; one after all that would be last."""
    chance = random.Random(seed)
    shape: Shape = [()] * min(width, nodes - 1)
    unused = set(range(len(shape)))  # Dask leaves out what the last node does not need
    while len(shape) < nodes - 1:
        layer = list(range(len(shape) - width, len(shape)))
        chance.shuffle(layer)
        for first in layer[: nodes - 1 - len(shape)]:
            before = {first, *chance.sample(layer, chance.randint(0, 2))}
            unused.difference_update(before)
            unused.add(len(shape))
            shape.append(tuple(before))
    return [*shape, tuple(sorted(unused))]


SHAPES: dict[str, Callable[[int], Shape]] = {"chain": chain, "fan": fan, "layered": layered}


def lanes(nodes: int) -> Shape:
    """Two chains side by side, and a last one after both."""
    return [(index - 2,) if index > 1 else () for index in range(nodes - 1)] + [
        (nodes - 3, nodes - 2)
    ]


# The work of the tasks: as little as possible. Once as functions for Dask, once as tasks: a process
# finds either by its name.


def plain_start() -> int:
    return 1


def plain_one(a: int) -> int:
    return (a + 1) % PRIME


def plain_two(a: int, b: int) -> int:
    return (a + b) % PRIME


def plain_three(a: int, b: int, c: int) -> int:
    return (a + b + c) % PRIME


def plain_many(values: list[int]) -> int:
    return sum(values) % PRIME


@task
def start() -> int:
    return 1


@task
def one(a: int) -> int:
    return (a + 1) % PRIME


@task
def two(a: int, b: int) -> int:
    return (a + b) % PRIME


@task
def three(a: int, b: int, c: int) -> int:
    return (a + b + c) % PRIME


@task
def many(values: list[int]) -> int:
    return sum(values) % PRIME


# By how many results they are given.
FUNCTIONS: list[Callable[..., int]] = [plain_start, plain_one, plain_two, plain_three]
TASKS: list[Task[..., int]] = [start, one, two, three]


def called(before: tuple[int, ...], results: list[Any]) -> int:
    """The result of a node."""
    if len(before) > 3:
        return plain_many([results[index] for index in before])
    return FUNCTIONS[len(before)](*[results[index] for index in before])


def plain_loop(shape: Shape) -> int:
    """The last result of a graph, by nothing but calls in order."""
    results: list[int] = []
    for before in shape:
        results.append(called(before, results))
    return results[-1]


def minimal_pool(shape: Shape, downstream: list[list[int]], workers: int) -> int:
    """The last result of a graph, by the least that threads can do it with: no errors, no states."""
    jobs: SimpleQueue[int | None] = SimpleQueue()
    done: SimpleQueue[int] = SimpleQueue()
    results: list[Any] = [None] * len(shape)

    def work() -> None:
        while (index := jobs.get()) is not None:
            results[index] = called(shape[index], results)
            done.put(index)

    threads = [Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    missing = [len(before) for before in shape]
    for index, count in enumerate(missing):
        if not count:
            jobs.put(index)
    for _ in shape:
        for after in downstream[done.get()]:
            missing[after] -= 1
            if not missing[after]:
                jobs.put(after)
    for _ in threads:
        jobs.put(None)
    for thread in threads:
        thread.join()
    result: int = results[-1]
    return result


def downstream_of(shape: Shape) -> list[list[int]]:
    """Of each node, those that are given its result."""
    found: list[list[int]] = [[] for _ in shape]
    for index, before in enumerate(shape):
        for early in before:
            found[early].append(index)
    return found


def built(shape: Shape) -> tuple[Flow, Node]:
    """The flow of a graph, and its last node."""
    nodes: list[Any] = []
    with Flow("benchmark") as flow:
        for before in shape:
            if len(before) > 3:
                nodes.append(many([nodes[index] for index in before]))
            else:
                nodes.append(TASKS[len(before)](*[nodes[index] for index in before]))
    return flow, nodes[-1]


def dask_built(shape: Shape) -> dict[str, Any]:
    """The same for Dask; the last key is that of the last node."""
    from dask._task_spec import List, Task, TaskRef

    keys = [f"node-{index}" for index in range(len(shape))]
    graph: dict[str, Any] = {}
    for key, before in zip(keys, shape):
        given = [TaskRef(keys[index]) for index in before]
        if len(before) > 3:
            graph[key] = Task(key, plain_many, List(*given))
        else:
            graph[key] = Task(key, FUNCTIONS[len(before)], *given)
    return graph


# --- measuring ---------------------------------------------------------------------------------


def cost(action: Callable[[], int], expected: int, nodes: int, repeats: int) -> float:
    """µs per node of what gives a graph's last result: the least of several repeats, after one to check."""
    assert action() == expected
    return min(timed(action) for _ in range(repeats)) / nodes * 1e6


def last_result(state: State, last: Node) -> int:
    """The last result of a run."""
    assert state.is_successful(), state
    result: int = state.result[last].result
    return result


def untracked(flow: Flow, last: Node, executor: Executor) -> Callable[[], int]:
    """A run by the engine alone."""
    return lambda: last_result(FlowRunner(flow).run(executor=executor), last)


def tracked(flow: Flow, last: Node, executor: Executor) -> Callable[[], int]:
    """A run that the session hears of."""
    return lambda: last_result(flow.run(executor=executor), last)


def measure_engine(name: str, nodes: int, repeats: int) -> Iterator[Figure]:
    """Building, and running in this process without telling anybody."""
    shape = SHAPES[name](nodes)
    expected = plain_loop(shape)

    def per_node(action: Callable[[], object]) -> float:
        return min(timed(action) for _ in range(repeats)) / nodes * 1e6

    yield Figure("building, core.Flow", name, per_node(lambda: built(shape)), budget=BUILDING)
    if HAS_DASK:
        yield Figure("  dict of dask Tasks", name, per_node(lambda: dask_built(shape)))
    flow, last = built(shape)
    downstream = downstream_of(shape)
    local = cost(untracked(flow, last, LocalExecutor()), expected, nodes, repeats)
    yield Figure("untracked, LocalExecutor", name, local, budget=SEQUENTIAL)
    if HAS_DASK:
        from dask.local import get_sync  # also known as dask.get

        graph = dask_built(shape)
        key = next(reversed(graph))
        yield Figure(
            "  dask.get", name, cost(lambda: get_sync(graph, key), expected, nodes, repeats)
        )
    yield Figure("  plain loop", name, cost(lambda: plain_loop(shape), expected, nodes, repeats))
    threads = cost(untracked(flow, last, ThreadExecutor(THREADS)), expected, nodes, repeats)
    yield Figure(f"untracked, ThreadExecutor({THREADS})", name, threads, budget=THREADED)
    if HAS_DASK:
        from dask.threaded import get

        by_dask = cost(lambda: get(graph, key, num_workers=THREADS), expected, nodes, repeats)
        yield Figure("  dask.threaded.get", name, by_dask)
    least = cost(lambda: minimal_pool(shape, downstream, THREADS), expected, nodes, repeats)
    yield Figure("  minimal thread pool", name, least)


def measure_lanes(nodes: int, repeats: int) -> Iterator[Figure]:
    """What handing each node over to another thread costs: a mere chain is run without."""
    shape = lanes(nodes)
    expected = plain_loop(shape)
    ours = cost(untracked(*built(shape), ThreadExecutor(THREADS)), expected, nodes, repeats)
    yield Figure(
        f"untracked, ThreadExecutor({THREADS}), two chains", "chain", ours, budget=THREADED
    )
    downstream = downstream_of(shape)
    least = cost(lambda: minimal_pool(shape, downstream, THREADS), expected, nodes, repeats)
    yield Figure("  minimal thread pool", "chain", least)


def measure_mock(name: str, nodes: int, repeats: int) -> Iterator[Figure]:
    """Running tracked, with nobody to be told."""
    shape = SHAPES[name](nodes)
    flow, last = built(shape)
    expected = plain_loop(shape)
    for executor in (LocalExecutor(), ThreadExecutor(THREADS)):
        took = []
        for _ in range(repeats + 1):
            with mock():  # the records of each run go with its session
                took.append(cost(tracked(flow, last, executor), expected, nodes, 1))
        yield Figure(f"tracked, mock, {type(executor).__name__}", name, min(took))


def measure_live(name: str, nodes: int, repeats: int) -> Iterator[Figure]:
    """Running tracked by a real backend: as the flow sees it, and until the last task is committed."""
    shape = SHAPES[name](nodes)
    flow, last = built(shape)
    expected = plain_loop(shape)
    for executor in (LocalExecutor(), ThreadExecutor(THREADS)):
        run = tracked(flow, last, executor)
        seen, committed = [], []
        for _ in range(repeats + 1):
            gc.collect()
            began = perf_counter()
            assert run() == expected
            seen.append((perf_counter() - began) / nodes * 1e6)
            assert sessions.get_session().flush(300)
            committed.append((perf_counter() - began) / nodes * 1e6)
        kind = type(executor).__name__
        yield Figure(f"tracked, live, {kind}, as the flow sees it", name, min(seen), budget=LIVE)
        yield Figure("  until committed", name, min(committed), budget=LIVE)


def measure_live_calls(nodes: int, repeats: int) -> Iterator[Figure]:
    """As many calls of a task in an `@flow`, to compare with."""
    flow = task_loop(nodes)
    seen, committed = [], []
    for _ in range(repeats + 1):
        gc.collect()
        began = perf_counter()
        seen.append(flow() / nodes * 1e6)
        assert sessions.get_session().flush(300)
        committed.append((perf_counter() - began) / nodes * 1e6)
    yield Figure("(calls in an @flow, live, as the flow sees it)", "chain", min(seen))
    yield Figure("  until committed", "chain", min(committed))


def measure_processes(name: str, nodes: int, repeats: int) -> Iterator[Figure]:
    """Running in a pool of processes; its start is counted, as it is with Dask."""
    shape = SHAPES[name](nodes)
    expected = plain_loop(shape)
    ours = cost(untracked(*built(shape), ProcessExecutor(PROCESSES)), expected, nodes, repeats)
    yield Figure(f"untracked, ProcessExecutor({PROCESSES}), {nodes:,} nodes", name, ours)
    if HAS_DASK:
        from dask import config
        from dask.multiprocessing import get

        graph = dask_built(shape)
        key = next(reversed(graph))

        def by_dask() -> int:
            result: int = get(graph, key, num_workers=PROCESSES, optimize_graph=False)
            return result

        with config.set({"multiprocessing.context": get_start_method()}):  # as ours starts them
            theirs = cost(by_dask, expected, nodes, repeats)
        yield Figure("  dask.multiprocessing.get", name, theirs)


@contextmanager
def cluster() -> Iterator[Any]:
    """A client of a Dask cluster of real processes."""
    distributed: Any = import_module("distributed")  # its functions have no types
    with (
        distributed.LocalCluster(
            n_workers=PROCESSES,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
        ) as made,
        distributed.Client(made) as client,
    ):
        yield client


def measure_cluster(client: Any, name: str, nodes: int, repeats: int) -> Iterator[Figure]:
    """Running on a Dask cluster that is there already."""
    shape = SHAPES[name](nodes)
    expected = plain_loop(shape)
    executor = DaskExecutor(client.scheduler.address)
    ours = cost(untracked(*built(shape), executor), expected, nodes, repeats)
    yield Figure(f"untracked, DaskExecutor, {nodes:,} nodes", name, ours)
    graph = dask_built(shape)
    key = next(reversed(graph))
    theirs = cost(lambda: client.get(graph, key), expected, nodes, repeats)
    yield Figure("  distributed, client.get", name, theirs)


def measure_large(name: str, nodes: int, repeats: int) -> Iterator[Figure]:
    """Building and running many nodes: the time must be as small per node, and the memory not large."""
    shape = SHAPES[name](nodes)
    expected = plain_loop(shape)
    size = f"{nodes:,} nodes"
    building = min(timed(lambda: built(shape)) for _ in range(repeats)) / nodes * 1e6
    yield Figure(f"building, {size}", name, building, budget=BUILDING)
    flow, last = built(shape)
    local = cost(untracked(flow, last, LocalExecutor()), expected, nodes, repeats)
    yield Figure(f"untracked, LocalExecutor, {size}", name, local, budget=SEQUENTIAL)
    threads = cost(untracked(flow, last, ThreadExecutor(THREADS)), expected, nodes, repeats)
    yield Figure(f"untracked, ThreadExecutor({THREADS}), {size}", name, threads, budget=THREADED)
    del flow, last
    held, most = memory(shape, expected)
    yield Figure(f"graph, plan and states, {size}", name, held, "B", BYTES)
    yield Figure("  at the peak of building and running", name, most, "B", BYTES)


def memory(shape: Shape, expected: int) -> tuple[float, float]:
    """Bytes per node after a run while all of it is held, and at the peak; without the tasks' results."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        flow, last = built(shape)
        state = FlowRunner(flow).run()
        gc.collect()
        after, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert last_result(state, last) == expected
    results = {id(one.result): one.result for one in state.result.values()}
    # The small numbers are there once for all.
    own = sum(sys.getsizeof(result) for result in results.values() if result > 256)
    return (after - before - own) / len(shape), (most - before - own) / len(shape)


def measure_flowkit(nodes: int, repeats: int) -> Iterator[Figure]:
    """A chain of so many tasks wired with ``>>``; runs are tracked, with nobody to be told."""

    def wired() -> None:
        flowkit.Task.clear_registry()
        before: Any = None
        for index in range(nodes):
            function = FUNCTIONS[1] if index else FUNCTIONS[0]
            made = flowkit.task(name=f"task {index}")(function)
            before = before >> made if index else made

    dag = flowkit.DAG("benchmark")
    wiring, graph = [], []
    for _ in range(repeats):
        wiring.append(timed(wired) / nodes * 1e6)
        graph.append(timed(dag._graph) / nodes * 1e6)  # the first time, signatures are read
    yield Figure(f"flowkit: making tasks and wiring with >>, {nodes:,}", "chain", min(wiring))
    yield Figure("  the graph of their DAG, built anew for each run", "chain", min(graph))
    shape = chain(nodes)
    expected = plain_loop(shape)
    flow, last = built(shape)

    def run(executor: str) -> int:
        result: int = dag.run(executor)[f"task {nodes - 1}"]
        return result

    for executor in (LocalExecutor(), ThreadExecutor()):
        kind = "local" if isinstance(executor, LocalExecutor) else "thread"
        with mock():
            ours = cost(lambda: run(kind), expected, nodes, repeats)
            yield Figure(f'flowkit: DAG.run("{kind}"), mock, {nodes:,}', "chain", ours)
        with mock():
            core = cost(tracked(flow, last, executor), expected, nodes, repeats)
            yield Figure("  core.Flow.run of the same chain, built before", "chain", core)
    flowkit.Task.clear_registry()


def measure_all(nodes: int, few: int, large: int, repeats: int = 5) -> list[Figure]:
    """Every figure.

    Args:
        nodes: of the graphs.
        few: of those that run in other processes (on a cluster a quarter), and of Flowkit's chain.
        large: of those that show whether it all grows linearly.
    """
    figures: list[Figure] = []
    for name in SHAPES:
        figures += measure_engine(name, nodes, repeats)
    figures += measure_lanes(nodes, repeats)
    for name in SHAPES:
        figures += measure_mock(name, nodes, repeats)
    with live_backend():
        for name in SHAPES:
            figures += measure_live(name, nodes, repeats)
        figures += measure_live_calls(nodes, repeats)
    for name in SHAPES:
        figures += measure_processes(name, few, max(1, repeats // 2))
    if HAS_DISTRIBUTED:
        with cluster() as client:
            for name in SHAPES:
                figures += measure_cluster(client, name, few // 4, max(1, repeats // 2))
    for name in SHAPES:
        figures += measure_large(name, large, max(1, repeats // 2))
    figures += measure_flowkit(few, repeats)
    return figures


def table(figures: list[Figure]) -> str:
    """The figures as a table of text: a column for each shape, and the budget where there is one."""
    rows: dict[tuple[str, int], dict[str, Figure]] = {}
    seen: dict[str, int] = {}  # an indented row belongs to the one before it
    group = 0
    for figure in figures:
        if not figure.name.startswith("  "):
            group = seen.setdefault(figure.name, len(seen))
        rows.setdefault((figure.name, group), {})[figure.shape] = figure
    lines = [f"{'per node':60}" + "".join(f"{name:>10}" for name in SHAPES) + "     budget  met"]
    for (name, _), cells in sorted(rows.items(), key=lambda row: row[0][1]):
        line = f"{name:60}"
        for shape in SHAPES:
            line += f"{cells[shape].value:10.2f}" if shape in cells else f"{'':10}"
        budget = next(iter(cells.values())).budget
        line += f" {next(iter(cells.values())).unit:2}"
        if budget is not None:
            missed = [shape for shape, cell in cells.items() if cell.value > budget]
            line += f" {budget:7.0f}  " + (f"NO: {', '.join(missed)}" if missed else "yes")
        lines.append(line.rstrip())
    lines.append(f"({os.cpu_count()} cores, Python {sys.version.split()[0]}; least of the repeats)")
    return "\n".join(lines)
