"""Schedules: what is accepted, what is refused, and what the refusal says."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import perfect
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


def test_a_schedule_has_a_zone_and_says_what_becomes_of_missed_and_overlapping_runs() -> None:
    plain = CronSchedule("0 9 * * *")
    assert (plain.timezone, plain.catchup, plain.overlap) == ("UTC", "skip", "allow")
    full = CronSchedule("0 9 * * *", timezone="Europe/Berlin", catchup="latest", overlap="skip")
    assert (full.timezone, full.catchup, full.overlap) == ("Europe/Berlin", "latest", "skip")
    assert str(full) == "0 9 * * *"
    assert repr(full) == (
        "CronSchedule('0 9 * * *', timezone='Europe/Berlin', catchup='latest', overlap='skip')"
    )
    assert full == pickle.loads(pickle.dumps(full)) and hash(full) != hash(plain)
    interval = IntervalSchedule(60, "Europe/Berlin", "all", "skip")
    assert interval.seconds == 60 and str(interval) == "every 60 s"
    assert interval == IntervalSchedule(timedelta(minutes=1), "Europe/Berlin", "all", "skip")


@pytest.mark.parametrize(
    "option", [{"timezone": "Europe/Berlin"}, {"catchup": "all"}, {"overlap": "skip"}]
)
def test_schedules_that_differ_in_one_option_are_not_equal(option: dict[str, str]) -> None:
    assert CronSchedule("0 0 * * *", **option) != CronSchedule("0 0 * * *")
    assert IntervalSchedule(60, **option) != IntervalSchedule(60)


@pytest.mark.parametrize(
    ("schedule", "wire"),
    [
        (CronSchedule("0 0 * * *"), "0 0 * * *"),
        (IntervalSchedule("*/5 * * * *"), "*/5 * * * *"),
        (IntervalSchedule(90), "every 90 s"),
        (
            CronSchedule("0 0 * * *", "Australia/Lord_Howe"),
            {
                "cron": "0 0 * * *",
                "timezone": "Australia/Lord_Howe",
                "catchup": "skip",
                "overlap": "allow",
            },
        ),
        (
            IntervalSchedule(90, overlap="skip"),
            {"every_seconds": 90, "timezone": "UTC", "catchup": "skip", "overlap": "skip"},
        ),
        (
            IntervalSchedule("*/5 * * * *", catchup="all"),
            {"cron": "*/5 * * * *", "timezone": "UTC", "catchup": "all", "overlap": "allow"},
        ),
    ],
)
def test_a_plain_schedule_travels_as_text_which_every_backend_knows(
    schedule: CronSchedule, wire: Any
) -> None:
    assert schedule.to_wire() == wire


@pytest.mark.parametrize("kind", [CronSchedule, IntervalSchedule])
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(
            ("timezone", zone)
            for zone in ("Mars/Olympus", "", "Europe", "Europe/", "europe/nowhere")
        ),
        *(
            ("timezone", zone)
            for zone in (None, 1, b"UTC", "../UTC", "/etc/passwd", "a\x00b", "x" * 99)
        ),
        *(("timezone", zone) for zone in ("localtime", "posix/UTC", "right/UTC", "Europe/\ud800")),
        *(("catchup", value) for value in ("none", "ALL", "", None, True, ["all"])),
        *(("overlap", value) for value in ("none", "all", None, False)),
    ],
    ids=repr,
)
def test_an_option_that_is_none_is_named_with_its_value(
    kind: type[CronSchedule], argument: str, value: Any
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind("0 0 * * *", **{argument: value})
    error = caught.value
    assert error.argument == argument and error.value == value
    assert str(error).startswith(f"{argument}=") and error.reason


def test_without_a_time_zone_database_utc_works_and_the_error_says_what_to_install(
    tmp_path: Path,
) -> None:
    script = (
        "from perfect import CronSchedule\n"
        "import sys\n"
        "print(CronSchedule('0 0 * * *').timezone, 'zoneinfo' in sys.modules)\n"
        "CronSchedule('0 0 * * *', timezone='Europe/Berlin')\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-s", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(Path(perfect.__file__).parents[1]), "PYTHONTZPATH": str(tmp_path)},
    )
    assert done.stdout == "UTC False\n"
    assert done.stderr.endswith("this machine has no time zones: pip install tzdata\n")


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
