"""The benchmarks run, at a small size; how fast is printed, never asserted."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from perfect.core import FlowRunner
from tests.benchmarks import graphs, measure


@pytest.mark.e2e
def test_every_benchmark_gives_a_figure(record_property: Callable[[str, object], None]) -> None:
    figures = measure.measure_all(calls=500, lines=500, idle=1)
    assert len(figures) == 11
    assert all(figure.measured > 0 for figure in figures if figure.unit in ("µs", "ms", "MiB"))
    record_property("figures", measure.table(figures))


@pytest.mark.parametrize("make", [*graphs.SHAPES.values(), graphs.lanes])
@pytest.mark.parametrize("nodes", [3, 10, 250])
def test_a_graph_has_as_many_nodes_as_asked_and_the_same_result_everywhere(
    make: Callable[[int], graphs.Shape], nodes: int
) -> None:
    shape = make(nodes)
    flow, last = graphs.built(shape)
    expected = graphs.plain_loop(shape)
    assert len(shape) == len(flow.tasks) == nodes
    assert flow.terminal_tasks() == [last]
    assert shape == make(nodes)  # the random one too is the same each time
    assert graphs.last_result(FlowRunner(flow).run(), last) == expected
    assert graphs.minimal_pool(shape, graphs.downstream_of(shape), 4) == expected


# Each measurement sees before it takes the time that the last result is that of a plain loop.
@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_every_graph_benchmark_gives_a_figure(
    record_property: Callable[[str, object], None],
) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: nothing to compare with")
    figures = graphs.measure_all(nodes=60, few=30, large=120, repeats=1)
    assert all(0 < figure.value < math.inf for figure in figures)
    assert len(figures) == 79
    record_property("figures", graphs.table(figures))
