"""Sockets that `distributed` leaves open.

Now and then one is found by the garbage collector after two clusters have closed at once, or a worker was killed.
It is none of ours, but would fail whichever test the collector happens to run in.
"""

import gc
from collections.abc import Iterator

import pytest

LEFT_OPEN = "ignore:unclosed <socket:ResourceWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "dask" in item.nodeid:
            item.add_marker(pytest.mark.filterwarnings(LEFT_OPEN))


@pytest.fixture(autouse=True)
def _swept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test with Dask left is collected before the next test begins."""
    yield
    if "dask" in request.node.nodeid:
        gc.collect()
