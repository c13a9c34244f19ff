"""Schedules: what is accepted, what is refused, and what the refusal says."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import perfect
from perfect.core import Flow, Parameter
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
        *(datetime(2026, 1, 1), date(2026, 1, 1)),
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
    "option",
    [
        *({"timezone": "Europe/Berlin"}, {"catchup": "all"}, {"overlap": "skip"}),
        *({"configuration": "release"}, {"parameters": {"n": 1}}),
    ],
)
def test_schedules_that_differ_in_one_option_are_not_equal(option: dict[str, Any]) -> None:
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
        (CronSchedule("0 0 * * *", configuration="development", parameters={}), "0 0 * * *"),
        (
            CronSchedule("0 0 * * *", configuration="release", parameters={"region": "eu"}),
            {
                "cron": "0 0 * * *",
                "timezone": "UTC",
                "catchup": "skip",
                "overlap": "allow",
                "configuration": "release",
                "parameters": {"region": "eu"},
            },
        ),
        (
            IntervalSchedule(90, parameters={"n": [1, 2.5, None, True]}),
            {
                "every_seconds": 90,
                "timezone": "UTC",
                "catchup": "skip",
                "overlap": "allow",
                "parameters": {"n": [1, 2.5, None, True]},
            },
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


def test_what_the_runs_of_a_schedule_are_given() -> None:
    plain = CronSchedule("0 6 * * *")
    assert (plain.configuration, plain.parameters) == ("development", {})
    given: dict[str, Any] = {"region": "eu", "limits": (1, {"a": None})}
    full = CronSchedule("0 6 * * *", configuration="release", parameters=given)
    given["limits"][1]["a"] = 5  # what is given is copied
    assert full.configuration == "release"
    assert full.parameters == {"region": "eu", "limits": [1, {"a": None}]}
    assert eval(repr(full)) == full == pickle.loads(pickle.dumps(full))
    assert hash(full) == hash(eval(repr(full)))
    interval = IntervalSchedule(60, configuration="release", parameters={"n": 1})
    assert (interval.configuration, interval.parameters) == ("release", {"n": 1})


@pytest.mark.parametrize("kind", [CronSchedule, IntervalSchedule])
@pytest.mark.parametrize(
    ("given", "argument"),
    [
        *(({"configuration": value}, "configuration") for value in (None, 3, b"x", "x" * 201)),
        *(
            ({"parameters": value}, "parameters")
            for value in ("n=1", 3, [1], {1: 2}, {"\udc80": 1})
        ),
        *(
            ({"parameters": {"n": value}}, "parameters['n']")
            for value in (
                date(2026, 1, 1),
                b"x",
                range(3),
                math.nan,
                math.inf,
                2**63,
                {1},
                "\udc80",
            )
        ),
        ({"parameters": {"n": [0, {"a": b"x"}]}}, "parameters['n'][1]['a']"),
    ],
    ids=repr,
)
def test_what_its_runs_cannot_be_given_is_named(
    kind: type[CronSchedule], given: dict[str, Any], argument: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind("0 0 * * *", **given)
    assert caught.value.argument == argument and caught.value.reason


def test_a_date_is_told_how_it_is_written() -> None:
    with pytest.raises(ConfigurationError, match="write it as text: '2026-01-31'"):
        CronSchedule("0 0 * * *", parameters={"day": date(2026, 1, 31)})


def test_parameters_in_a_circle_are_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ConfigurationError, match="nested deeper than 32"):
        CronSchedule("0 0 * * *", parameters={"n": circle})


def scheduled(function: Callable[..., Any], **parameters: Any) -> perfect.Flow[..., Any]:
    return perfect.flow(schedule=CronSchedule("0 6 * * *", parameters=parameters))(function)


def test_a_flow_is_seen_to_take_what_its_schedule_gives() -> None:
    def report(day: date, regions: list[str], depth: int = 3) -> None: ...

    def any_of(**more: int) -> None: ...

    for function, parameters in (
        (report, {"day": "2026-01-31", "regions": ["eu"]}),
        (any_of, {"whatever": 1}),
        (lambda n=1: None, {}),
        (lambda: None, {}),
    ):
        schedule = scheduled(function, **parameters).definition.schedule
        assert schedule is not None and schedule.parameters == parameters


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "schedule.parameters['day']=None: is required and not given"),
        ({"day": "soon"}, "schedule.parameters['day']='soon': "),
        ({"day": "2026-01-31", "depth": "deep"}, "schedule.parameters['depth']='deep': "),
        ({"day": "2026-01-31", "dept": 1}, "the flow has no such parameter; it has: day, depth"),
        ({"day": "2026-01-31", "password": "x"}, "schedule.parameters['password']='********': "),
    ],
    ids=repr,
)
def test_a_flow_is_refused_that_does_not_take_what_its_schedule_gives(
    parameters: dict[str, Any], said: str
) -> None:
    def report(day: date, depth: int = 3) -> None: ...

    with pytest.raises(ConfigurationError) as caught:
        scheduled(report, **parameters)
    assert said in str(caught.value) and caught.value.argument.startswith("schedule.parameters[")


def test_names_that_an_annotation_needs_may_come_later() -> None:
    namespace: dict[str, Any] = {"perfect": perfect}
    exec(
        "from __future__ import annotations\n"
        "@perfect.flow(schedule=perfect.CronSchedule('0 6 * * *', parameters={'n': 1}))\n"
        "def early(n: Late): ...\n"
        "Late = int\n",
        namespace,
    )
    schema = namespace["early"].definition.parameters_schema()
    assert schema["properties"]["n"] == {"type": "integer"}


@pytest.mark.parametrize("several", [[CronSchedule("0 6 * * *")], (), {CronSchedule("0 6 * * *")}])
def test_a_flow_has_one_schedule_and_the_error_says_what_to_do(several: Any) -> None:
    with pytest.raises(ConfigurationError, match="make another flow") as caught:
        perfect.flow(schedule=several)
    assert caught.value.argument == "schedule"
    with pytest.raises(ConfigurationError, match="a flow has one schedule"):
        Flow("graph", several)


def test_a_graph_is_seen_to_take_what_its_schedule_gives() -> None:
    graph = Flow("graph", tasks=[Parameter("x")])
    assert graph.definition.schedule is None
    for parameters, said in (
        ({}, "schedule.parameters['x']=None: is required"),
        ({"x": 1, "y": 2}, "schedule.parameters['y']=2: the flow has no such parameter"),
    ):
        graph.schedule = CronSchedule("0 6 * * *", parameters=parameters)
        with pytest.raises(ConfigurationError) as caught:
            graph.register()
        assert said in str(caught.value)
    graph.schedule = CronSchedule("0 6 * * *", parameters={"x": 1})
    assert graph.definition.to_dict()["schedule"]["parameters"] == {"x": 1}


def test_a_day_that_comes_every_four_years_is_accepted_and_one_that_never_comes_is_not() -> None:
    assert CronSchedule("0 0 29 2 *").expression == "0 0 29 2 *"
    with pytest.raises(ScheduleError, match="30 never comes in that month"):
        CronSchedule("0 0 30 2 *")


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
