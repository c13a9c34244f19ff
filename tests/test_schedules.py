"""Schedules: what is accepted, what is refused, and what the refusal says."""

from __future__ import annotations

import math
import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfect.errors import ConfigurationError, ScheduleError
from perfect.schedules import CronSchedule, IntervalSchedule, check_cron
from tests.support.cron_corpus import ACCEPTED, REFUSED


@pytest.mark.parametrize("expression", ACCEPTED)
def test_an_accepted_expression_is_kept_as_it_is(expression: str) -> None:
    assert str(CronSchedule(expression)) == expression
    assert str(IntervalSchedule(expression)) == expression
    assert IntervalSchedule(expression).seconds is None


@pytest.mark.parametrize(("expression", "field"), REFUSED, ids=lambda value: value[:20])
def test_a_refused_expression_is_named_with_its_field(expression: str, field: str) -> None:
    for kind in (CronSchedule, IntervalSchedule):
        with pytest.raises(ScheduleError) as caught:
            kind(expression)
        error = caught.value
        assert error.field == field
        assert error.value == expression
        assert error.argument == "expression"
        assert field in str(error)
        assert error.reason and error.reason in str(error)
        assert isinstance(error, ConfigurationError) and isinstance(error, ValueError)


def test_white_space_is_made_single() -> None:
    assert CronSchedule("  0\t0 *  * * \n").expression == "0 0 * * *"


@pytest.mark.parametrize("expression", [None, 5, b"* * * * *", ["*"] * 5])
def test_a_cron_schedule_is_made_of_text(expression: Any) -> None:
    with pytest.raises(ScheduleError, match="is not text"):
        CronSchedule(expression)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(1, 1), (90, 90), (60.0, 60), (timedelta(minutes=5), 300), (366 * 86400, 366 * 86400)],
)
def test_an_interval_in_seconds(given: Any, seconds: int) -> None:
    schedule = IntervalSchedule(given)
    assert schedule.seconds == seconds
    assert str(schedule) == f"every {seconds} s"


@pytest.mark.parametrize(
    "given",
    [
        *(0, -1, 0.5, 1.5, True, None, [], b"5", math.nan, math.inf, -math.inf),
        *(366 * 86400 + 1, 10**400, timedelta(0), timedelta(milliseconds=1500), timedelta.max),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_an_interval_that_is_none(given: Any) -> None:
    with pytest.raises(ScheduleError) as caught:
        IntervalSchedule(given)
    assert caught.value.field == "interval"
    assert caught.value.value is given


def test_schedules_are_values() -> None:
    assert CronSchedule("0  0 * * *") == CronSchedule("0 0 * * *")
    assert CronSchedule("0 0 * * *") != IntervalSchedule("0 0 * * *")
    assert IntervalSchedule(60) == IntervalSchedule(timedelta(minutes=1))
    assert len({CronSchedule("0 0 * * *"), CronSchedule("0 0 * * *")}) == 1
    assert CronSchedule("0 0 * * *") != "0 0 * * *"
    assert repr(CronSchedule("0 0 * * *")) == "CronSchedule('0 0 * * *')"
    assert pickle.loads(pickle.dumps(IntervalSchedule(60))) == IntervalSchedule(60)


@given(st.text(alphabet="0123456789*/-, JANMOFRI?L#", max_size=30))
def test_whatever_is_written_is_accepted_or_refused_with_a_reason(expression: str) -> None:
    try:
        kept = check_cron(expression)
    except ScheduleError as error:
        assert error.field in {
            *("expression", "minute", "hour", "day of month", "month", "day of week")
        }
        assert error.reason
    else:
        assert check_cron(kept) == kept == " ".join(expression.split())
