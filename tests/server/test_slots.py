"""When slots are: golden times across changes of the clocks, and every time of a year against a plain look at the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from perfect.errors import ScheduleError
from perfect.schedules import CronSchedule, IntervalSchedule
from perfect.server.engine import slots
from tests.support.cron_corpus import ACCEPTED, REFUSED

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def between(schedule: CronSchedule, start: datetime, end: datetime) -> list[datetime]:
    """The slots from ``start`` on and before ``end``, in UTC."""
    found = takewhile(lambda slot: slot < ms(end), slots.after(schedule, ms(start) - 1))
    return [datetime.fromtimestamp(slot / 1000, UTC) for slot in found]


# The first five hours of days on which clocks are changed, as they show: with the offset, in hours.
# Berlin: 2:00+1 -> 3:00+2 on 29 March, 3:00+2 -> 2:00+1 on 25 October.
# New York: 2:00-5 -> 3:00-4 on 8 March, 2:00-4 -> 1:00-5 on 1 November.
# Lord Howe: 2:00+11 -> 1:30+10.5 on 5 April, 2:00+10.5 -> 2:30+11 on 4 October.
GOLDEN = [
    (BERLIN, "2026-03-29", "30 2 * * *", "03:00+2"),
    (BERLIN, "2026-03-29", "0,30 2 * * *", "03:00+2"),
    (BERLIN, "2026-03-29", "0 2,3 * * *", "03:00+2"),
    (BERLIN, "2026-03-29", "15 1-3 * * *", "01:15+1 03:00+2 03:15+2"),
    (BERLIN, "2026-03-29", "0 * * * *", "00:00+1 01:00+1 03:00+2 04:00+2"),
    (BERLIN, "2026-03-29", "*/30 1-3 * * *", "01:00+1 01:30+1 03:00+2 03:30+2"),
    (BERLIN, "2026-03-29", "*/30 2 * * *", ""),
    (BERLIN, "2026-03-29", "0 */2 * * *", "00:00+1 04:00+2"),
    (BERLIN, "2026-03-29", "0 0 29 3 *", "00:00+1"),
    (BERLIN, "2026-10-25", "30 2 * * *", "02:30+2"),
    (BERLIN, "2026-10-25", "0,30 2 * * *", "02:00+2 02:30+2"),
    (BERLIN, "2026-10-25", "15 1-3 * * *", "01:15+2 02:15+2 03:15+1"),
    (BERLIN, "2026-10-25", "0 * * * *", "00:00+2 01:00+2 02:00+2 02:00+1 03:00+1 04:00+1"),
    (BERLIN, "2026-10-25", "*/30 2 * * *", "02:00+2 02:30+2 02:00+1 02:30+1"),
    (BERLIN, "2026-10-25", "0 */2 * * *", "00:00+2 02:00+2 02:00+1 04:00+1"),
    (BERLIN, "2026-10-25", "0 3 * * *", "03:00+1"),
    (NEW_YORK, "2026-03-08", "30 2 * * *", "03:00-4"),
    (NEW_YORK, "2026-03-08", "15 1-3 * * *", "01:15-5 03:00-4 03:15-4"),
    (NEW_YORK, "2026-03-08", "0 * * * *", "00:00-5 01:00-5 03:00-4 04:00-4"),
    (NEW_YORK, "2026-03-08", "*/20 2 * * SUN", ""),
    (NEW_YORK, "2026-11-01", "30 1 * * *", "01:30-4"),
    (NEW_YORK, "2026-11-01", "15 0-2 * * *", "00:15-4 01:15-4 02:15-5"),
    (NEW_YORK, "2026-11-01", "0 * * * *", "00:00-4 01:00-4 01:00-5 02:00-5 03:00-5 04:00-5"),
    (NEW_YORK, "2026-11-01", "*/30 1 * * *", "01:00-4 01:30-4 01:00-5 01:30-5"),
    (LORD_HOWE, "2026-04-05", "45 1 * * *", "01:45+11"),
    (LORD_HOWE, "2026-04-05", "15,45 1-2 * * *", "01:15+11 01:45+11 02:15+10.5 02:45+10.5"),
    (
        LORD_HOWE,
        "2026-04-05",
        "45 * * * *",
        "00:45+11 01:45+11 01:45+10.5 02:45+10.5 03:45+10.5 04:45+10.5",
    ),
    (LORD_HOWE, "2026-04-05", "0 * * * *", "00:00+11 01:00+11 02:00+10.5 03:00+10.5 04:00+10.5"),
    (LORD_HOWE, "2026-04-05", "*/15 2 * * *", "02:00+10.5 02:15+10.5 02:30+10.5 02:45+10.5"),
    (LORD_HOWE, "2026-10-04", "15 2 * * *", "02:30+11"),
    (LORD_HOWE, "2026-10-04", "0,15,30,45 2 * * *", "02:30+11 02:45+11"),
    (LORD_HOWE, "2026-10-04", "45 * * * *", "00:45+10.5 01:45+10.5 02:45+11 03:45+11 04:45+11"),
    (LORD_HOWE, "2026-10-04", "0 * * * *", "00:00+10.5 01:00+10.5 03:00+11 04:00+11"),
    (LORD_HOWE, "2026-10-04", "*/15 2 * * *", "02:30+11 02:45+11"),
]


@pytest.mark.parametrize(("zone", "day", "expression", "expected"), GOLDEN)
def test_golden_times_where_clocks_are_changed(
    zone: str, day: str, expression: str, expected: str
) -> None:
    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    five = midnight.replace(hour=5)
    found = between(CronSchedule(expression, zone), midnight, five)
    shown = []
    for slot in found:
        there = slot.astimezone(ZoneInfo(zone))
        hours = (there.utcoffset() or timedelta()) / timedelta(hours=1)
        shown.append(f"{there:%H:%M}{hours:+g}")
    assert " ".join(shown) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "45 * * * *",
        "0 * * * *",
        "*/15 2 * * *",
        "*/7 1-3 * * SUN",
        "30 */2 1-8 * *",
        "*/30 0 * * *",
    ],
)
@pytest.mark.parametrize(
    "zone",
    # beside the usual ones: change at midnight, a month without summer time, and a day left out
    [BERLIN, NEW_YORK, LORD_HOWE, "America/Santiago", "Africa/Casablanca", "UTC"],
)
def test_jobs_with_wildcards_run_whenever_the_clock_shows_it(expression: str, zone: str) -> None:
    fields = CronSim(expression, datetime(2026, 1, 1))
    there = ZoneInfo(zone)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    end = datetime(2027, 1, 1, tzinfo=UTC)
    # clocks show the same for a quarter of an hour but for what is added
    expected = []
    moment = start
    while moment < end:
        shown = moment.astimezone(there)
        if shown.hour in fields.hours and shown.month in fields.months and fields.match_day(shown):
            for minute in range(15):
                if (shown.minute + minute) % 60 in fields.minutes:
                    expected.append(moment + timedelta(minutes=minute))
        moment += timedelta(minutes=15)
    assert between(CronSchedule(expression, zone), start, end) == expected


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, "America/Santiago", "Pacific/Apia"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "0 0 * * *", "15 0-4 * * *", "5 4 * * SUN"])
def test_jobs_at_fixed_times_run_as_the_library_says(expression: str, zone: str) -> None:
    """Where clocks are changed by full hours; Apia left out 30 December 2011."""
    start = datetime(2011, 6, 1, tzinfo=UTC)
    end = datetime(2013, 6, 1, tzinfo=UTC)
    library = CronSim(expression, (start - timedelta(seconds=1)).astimezone(ZoneInfo(zone)))
    expected = list(takewhile(lambda slot: slot < end, (t.astimezone(UTC) for t in library)))
    assert between(CronSchedule(expression, zone), start, end) == expected


def test_a_fixed_time_is_run_once_a_day_for_years() -> None:
    start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    for zone in (BERLIN, NEW_YORK, LORD_HOWE):
        found = between(CronSchedule("15 2 * * *", zone), start, end)
        days = [slot.astimezone(ZoneInfo(zone)).date() for slot in found]
        assert days == sorted(set(days)) and len(days) == 3653


@pytest.mark.parametrize(
    ("zone", "seconds", "start", "expected"),
    [
        ("UTC", 3600, "2026-01-01T00:00:01", ["2026-01-01T01:00", "2026-01-01T02:00"]),
        ("UTC", 604800, "2026-01-01T00:00", ["2026-01-05T00:00", "2026-01-12T00:00"]),
        ("UTC", 86400, "1990-05-05T12:00", ["1990-05-06T00:00", "1990-05-07T00:00"]),
        # counted from midnight in winter, and not looking at clocks
        (BERLIN, 86400, "2026-01-01T00:00", ["2026-01-01T23:00", "2026-01-02T23:00"]),
        (BERLIN, 86400, "2026-07-01T00:00", ["2026-07-01T23:00", "2026-07-02T23:00"]),
        ("UTC", 90, "2026-01-01T00:00:00.001", ["2026-01-01T00:01:30", "2026-01-01T00:03"]),
    ],
)
def test_intervals(zone: str, seconds: int, start: str, expected: list[str]) -> None:
    moment = ms(datetime.fromisoformat(start).replace(tzinfo=UTC))
    found = slots.following(IntervalSchedule(seconds, zone), moment, 2)
    assert found == [ms(datetime.fromisoformat(text).replace(tzinfo=UTC)) for text in expected]


@given(
    st.sampled_from(ACCEPTED),
    st.sampled_from([BERLIN, LORD_HOWE, "UTC"]),
    st.datetimes(datetime(2000, 1, 1), datetime(2050, 1, 1)),
)
def test_slots_rise_and_are_later_and_do_not_depend_on_where_one_begins(
    expression: str, zone: str, start: datetime
) -> None:
    schedule = CronSchedule(expression, zone)
    moment = ms(start.replace(tzinfo=UTC))
    found = slots.following(schedule, moment, 6)
    assert len(found) == 6
    assert moment < found[0] and found == sorted(set(found))
    assert slots.following(schedule, found[2], 3) == found[3:]
    assert slots.following(schedule, found[2] - 1, 1) == [found[2]]


@pytest.mark.parametrize("expression", ACCEPTED)
def test_what_the_client_accepts_the_backend_can_follow(expression: str) -> None:
    assert slots.following(CronSchedule(expression), ms(datetime(2026, 1, 1, tzinfo=UTC)), 3)


def test_what_the_library_refuses_the_client_refuses() -> None:
    for expression, _ in REFUSED:
        with pytest.raises(ScheduleError):
            CronSchedule(expression)


_FIELD = st.text(alphabet="0123456789*/-,", min_size=1, max_size=6)


@given(
    st.tuples(*[_FIELD] * 2, st.sampled_from(["*", "31", "30", "*/31", "29-31"]), _FIELD, _FIELD)
)
def test_whatever_the_client_accepts_has_a_slot(fields: tuple[str, ...]) -> None:
    try:
        schedule = CronSchedule(" ".join(fields))
    except ScheduleError:
        return
    assert slots.following(schedule, ms(datetime(2026, 1, 1, tzinfo=UTC)), 1)


def test_the_newest_of_a_long_time_are_found_without_walking_through_it() -> None:
    until = ms(datetime(2026, 6, 1, tzinfo=UTC))
    minutely = slots.newest(CronSchedule("* * * * *", BERLIN), 0, until, 100)
    assert minutely == [until - 60_000 * n for n in range(99, -1, -1)]
    assert len(slots.newest(CronSchedule("0 0 29 2 *", BERLIN), 0, until, 100)) == 14
    assert len(slots.newest(CronSchedule("0 0 29 2 *", BERLIN), 0, until, 3)) == 3
    secondly = slots.newest(IntervalSchedule(1), 0, until, 5)
    assert secondly == [until - 1000 * n for n in range(4, -1, -1)]
    assert slots.newest(CronSchedule("* * * * *"), until - 1, until, 5) == [until]
    assert slots.newest(CronSchedule("* * * * *"), until, until, 5) == []
    assert slots.newest(CronSchedule("* * * * *"), until, until - 60_000, 5) == []
