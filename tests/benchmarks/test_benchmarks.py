"""The benchmarks run, at a small size; how fast is printed, never asserted."""

from __future__ import annotations

import pytest

from tests.benchmarks import measure


@pytest.mark.e2e
def test_every_benchmark_gives_a_figure(capsys: pytest.CaptureFixture[str]) -> None:
    figures = measure.measure_all(calls=500, lines=500, idle=1)
    assert len(figures) == 11
    assert all(figure.measured > 0 for figure in figures if figure.unit in ("µs", "ms", "MiB"))
    with capsys.disabled():
        print("\n" + measure.table(figures))
