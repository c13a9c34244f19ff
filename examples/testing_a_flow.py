"""How to test a flow: ``pytest examples/testing_a_flow.py``. No backend is needed.

The fixture `perfect_mock` comes with perfect. While a test uses it, flows run in memory; what they
report can be read back, and a task can be replaced or made to fail by its name.
"""

from __future__ import annotations

import pytest

from perfect.errors import TaskFailed, TaskStubbed
from perfect.sdk import TaskResult, flow, task
from perfect.testing import Recorder


@task
def fetch_prices() -> list[float]:
    """Fetch today's prices from a service that no test should call"""
    raise ConnectionError("there is no such service")


@task
def check_prices(prices: list[float]) -> TaskResult:
    """Refuse prices that can't be right"""
    wrong = [price for price in prices if price <= 0]
    return TaskResult(passed=not wrong, note=f"{len(wrong)} of {len(prices)} prices are wrong")


@task(crucial_pass=False)
def notify(total: float) -> None:
    """Tell the team; the flow does not depend on it"""
    print(f"The basket costs {total:.2f}")


@flow(name="Price Basket")
def price_basket() -> float:
    """What all of today's prices come to"""
    prices = fetch_prices()
    check_prices(prices)
    notify(sum(prices))
    return sum(prices)


def test_it_adds_the_prices_up(perfect_mock: Recorder) -> None:
    perfect_mock.stub("fetch_prices", [1.5, 2.25])  # this value instead of a call

    assert price_basket() == 3.75

    run = perfect_mock.run
    assert run.state == "COMPLETED"
    assert [task.name for task in run.tasks] == ["fetch_prices", "check_prices", "notify"]
    assert run.task("check_prices").result == {
        "passed": True,
        "note": "0 of 2 prices are wrong",
        "table": [],
    }
    assert run.task("notify").logs == ["The basket costs 3.75"]


def test_a_wrong_price_fails_the_flow(perfect_mock: Recorder) -> None:
    perfect_mock.stub(fetch_prices, [1.5, -1.0])  # the task itself will do for its name

    with pytest.raises(TaskFailed, match="1 of 2 prices are wrong"):
        price_basket()

    assert perfect_mock.run.state == "FAILED"
    assert [task.name for task in perfect_mock.run.tasks] == ["fetch_prices", "check_prices"]


def test_the_flow_goes_on_when_nobody_can_be_notified(perfect_mock: Recorder) -> None:
    perfect_mock.stub("fetch_prices", [1.0])
    perfect_mock.fail("notify", "the chat is down")

    assert price_basket() == 1.0

    assert perfect_mock.run.state == "COMPLETED"
    assert perfect_mock.run.task("notify").state == "FAILED"


def test_the_flow_fails_when_the_service_does(perfect_mock: Recorder) -> None:
    perfect_mock.fail("fetch_prices")

    with pytest.raises(TaskStubbed):
        price_basket()

    assert perfect_mock.run.state == "FAILED"
