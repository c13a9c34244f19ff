"""When a flow should run: cron expressions and intervals, checked where they are written.

The five cron fields are minute, hour, day of month, month and day of week (crontab(5)): numbers,
names (JAN…, SUN…), ``*``, lists, ranges and steps. Sunday is 0 or 7. Where either day field begins
with ``*`` a day must fit both, else one of them. Nothing here computes fire times; the backend does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from perfect.errors import ConfigurationError, ScheduleError

if TYPE_CHECKING:
    from datetime import timedelta

_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
_DAYS = "SUN MON TUE WED THU FRI SAT".split()
_LONGEST_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

# field, lowest, highest, names (the first name stands for the lowest number)
_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, tuple(_MONTHS)),
    ("day of week", 0, 7, tuple(_DAYS)),
)

CATCHUP = ("skip", "latest", "all")
OVERLAP = ("allow", "skip")
CONFIGURATION = "development"
ONE_SCHEDULE = (
    "and several times in one expression, like '0 6,18 * * *'; for others make another flow"
)
LONGEST_INTERVAL = 366 * 86400  # s
LONGEST_CONFIGURATION = 200  # characters
_LONGEST_ZONE = 64
_DEEPEST = 32  # levels of a parameter's value
_WORDS = 2**63  # whole numbers of JSON that every backend keeps are below it
# in the time zone database of some machines, and no zone that another machine knows by that name
_NO_ZONES = ("localtime", "posix", "posixrules", "right", "Factory")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _number(text: str, field: str, low: int, high: int, names: tuple[str, ...], whole: str) -> int:
    # Not every letter whose upper case is ASCII is ASCII itself ("ſun").
    if text.isascii() and text.upper() in names:
        return low + names.index(text.upper())
    if not _is_number(text):
        raise ScheduleError(whole, field, f"{text!r} is not a number" + (" or name" * bool(names)))
    number = int(text)
    if not low <= number <= high:
        raise ScheduleError(whole, field, f"{number} is outside {low}-{high}")
    return number


def _values(
    part: str, field: str, low: int, high: int, names: tuple[str, ...], whole: str
) -> set[int]:
    """The numbers that one comma-separated part of a field stands for."""
    span, slash, step_text = part.partition("/")
    step = 1
    if slash:
        if not _is_number(step_text) or int(step_text) == 0:
            raise ScheduleError(whole, field, f"step {step_text!r} is not a positive number")
        step = int(step_text)
        if step > high:
            raise ScheduleError(whole, field, f"step {step} is beyond {high}")
    if span == "*":
        return set(range(low, high + 1, step))
    first_text, dash, last_text = span.partition("-")
    first = _number(first_text, field, low, high, names, whole)
    if dash:
        last = _number(last_text, field, low, high, names, whole)
        if last < first:
            raise ScheduleError(whole, field, f"range {span!r} runs backwards")
    else:
        last = high if slash else first
    return set(range(first, last + 1, step))


def check_cron(expression: object) -> str:
    """Return the expression with single spaces.

    Raises:
        ScheduleError: naming the field and the reason, also for a date that never comes (31 April).
    """
    if not isinstance(expression, str):
        raise ScheduleError(expression, "expression", "is not text")
    parts = expression.split()
    if len(parts) != len(_FIELDS):
        raise ScheduleError(
            expression,
            "expression",
            f"has {len(parts)} field{'s' * (len(parts) != 1)}, not 5 "
            "(minute hour day-of-month month day-of-week)",
        )
    sets: list[set[int]] = []
    for text, (field, low, high, names) in zip(parts, _FIELDS, strict=True):
        values: set[int] = set()
        for part in text.split(","):
            if not part:
                raise ScheduleError(expression, field, "has an empty entry")
            values |= _values(part, field, low, high, names, expression)
        sets.append(values)
    days, months = sets[2], sets[3]
    both = parts[2].startswith("*") or parts[4].startswith("*")
    if both and min(days) > max(_LONGEST_MONTH[month - 1] for month in months):
        raise ScheduleError(expression, "day of month", f"{min(days)} never comes in that month")
    return " ".join(parts)


def check_interval(seconds: object) -> int:
    """Return the interval in s.

    Raises:
        ScheduleError: it is no whole number of seconds from 1 s to 366 days.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ScheduleError(
            seconds, "interval", "is neither a cron expression, seconds nor a timedelta"
        )
    if not 1 <= seconds <= LONGEST_INTERVAL or seconds != int(seconds):
        raise ScheduleError(
            seconds, "interval", "is not a whole number of seconds from 1 s to 366 days"
        )
    return int(seconds)


def check_zone(name: object) -> str:
    """Return the name of a time zone.

    Raises:
        ConfigurationError: it is no IANA time zone, or this machine knows none but UTC.
    """
    if name == "UTC":
        return "UTC"
    if not isinstance(name, str) or not name or len(name) > _LONGEST_ZONE:
        raise ConfigurationError("timezone", name, "is not the name of an IANA time zone")
    from zoneinfo import ZoneInfo, available_timezones

    try:
        if name.split("/")[0] in _NO_ZONES:
            raise ValueError(name)
        ZoneInfo(name)
    except (
        KeyError,
        ValueError,
        OSError,
    ):  # what it raises for files and folders that are no zones
        reason = "is not an IANA time zone, like 'Europe/Berlin'"
        if not available_timezones():
            reason = "this machine has no time zones: pip install tzdata"
        raise ConfigurationError("timezone", name, reason) from None
    return name


def _one_of(argument: str, value: object, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ConfigurationError(argument, value, f"is not one of {', '.join(choices)}")
    return value


def check_configuration(name: object) -> str:
    """The name of a configuration.

    Raises:
        ConfigurationError: it is no text of at most 200 characters.
    """
    if not isinstance(name, str) or len(name) > LONGEST_CONFIGURATION:
        raise ConfigurationError(
            "configuration", name, f"is not a text of at most {LONGEST_CONFIGURATION} characters"
        )
    return name


def check_parameters(given: object) -> dict[str, Any]:
    """The values of a run's parameters by name, copied; None is none.

    Raises:
        ConfigurationError: one is no JSON value; it names it.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigurationError("parameters", given, "is not a mapping of names to values")
    copied: dict[str, Any] = _copy("parameters", dict(given), 0)
    return copied


def _copy(place: str, value: Any, level: int) -> Any:
    if level > _DEEPEST:
        raise ConfigurationError(place, value, f"is nested deeper than {_DEEPEST} levels")
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if kind is str and _is_unicode(value):
        return value
    if kind is int and -_WORDS <= value < _WORDS:
        return value
    if kind is float and abs(value) < float("inf"):  # which is not true of nan either
        return value
    if kind is list or kind is tuple:
        return [_copy(f"{place}[{i}]", part, level + 1) for i, part in enumerate(value)]
    if kind is dict:
        for name in value:
            if type(name) is not str or not _is_unicode(name):
                raise ConfigurationError(place, name, "is not a name: it is not text")
        return {name: _copy(f"{place}[{name!r}]", part, level + 1) for name, part in value.items()}
    reason = "is not a JSON value: text, a number, true, false, none, a list or a dict"
    if hasattr(value, "isoformat"):
        reason = f"is not a JSON value; write it as text: {value.isoformat()!r}"
    raise ConfigurationError(place, value, reason)


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


class CronSchedule:
    """Run at the times of a cron expression, for example ``CronSchedule("0 9 * * MON")``.

    Args:
        expression: five cron fields.
        timezone: the IANA name of the zone whose clocks they are read from, like "Europe/Berlin".
        catchup: what becomes of times at which no backend was running: "skip" leaves them out, "latest" runs
            the last of them, "all" runs each.
        overlap: "skip" leaves a time out while a run of this schedule is still waiting or running; "allow" does not.
        configuration: of its runs: "development", "debug", "release" or free text.
        parameters: of its runs: the flow's arguments by name, as JSON values (a date as "2026-01-31"). Everyone
            who sees the schedule sees them, so no secrets.

    Raises:
        ScheduleError: the expression is wrong; it says which field and why.
        ConfigurationError: another argument is; it says which and why.
    """

    __slots__ = ("expression", "timezone", "catchup", "overlap", "configuration", "parameters")

    def __init__(
        self,
        expression: str,
        timezone: str = "UTC",
        catchup: str = "skip",
        overlap: str = "allow",
        *,
        configuration: str = CONFIGURATION,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self.expression = check_cron(expression)
        self.timezone = check_zone(timezone)
        self.catchup = _one_of("catchup", catchup, CATCHUP)
        self.overlap = _one_of("overlap", overlap, OVERLAP)
        self.configuration = check_configuration(configuration)
        self.parameters = check_parameters(parameters)

    def to_wire(self) -> str | dict[str, Any]:
        """What a registration says of it: the expression alone, which every backend knows, where that is all."""
        options = {"timezone": self.timezone, "catchup": self.catchup, "overlap": self.overlap}
        given: dict[str, Any] = {}
        if self.configuration != CONFIGURATION:
            given["configuration"] = self.configuration
        if self.parameters:
            given["parameters"] = self.parameters
        if tuple(options.values()) == ("UTC", "skip", "allow") and not given:
            return self.expression
        return {**self._when(), **options, **given}

    def _when(self) -> dict[str, Any]:
        return {"cron": self.expression}

    def _facts(self) -> tuple[str, ...]:
        return (self.expression, self.timezone, self.catchup, self.overlap, self.configuration)

    def __str__(self) -> str:
        return self.expression

    def __repr__(self) -> str:
        more = [
            f", {name}={value!r}"
            for name, value, usual in (
                ("timezone", self.timezone, "UTC"),
                ("catchup", self.catchup, "skip"),
                ("overlap", self.overlap, "allow"),
                ("configuration", self.configuration, CONFIGURATION),
                ("parameters", self.parameters, {}),
            )
            if value != usual
        ]
        return f"{type(self).__name__}({self.expression!r}{''.join(more)})"

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is type(self)
            and other._facts() == self._facts()
            and other.parameters == self.parameters
        )

    def __hash__(self) -> int:
        return hash(self._facts())


class IntervalSchedule(CronSchedule):
    """Run again and again, for example ``IntervalSchedule("*/5 * * * *")`` or ``IntervalSchedule(90)``.

    An interval in seconds is counted from Monday 1 January 2001, 0:00 in its zone, so that it does not depend on
    when the flow was registered: 3600 is every full hour, 604800 every Monday.

    Args:
        expression: a cron expression, or seconds, or a timedelta; whole seconds, from 1 s to 366 days.
        timezone, catchup, overlap, configuration, parameters: as of `CronSchedule`.

    Attributes:
        seconds: the interval in s, or None when it was given as a cron expression.

    Raises:
        ScheduleError: the interval is wrong; it says why.
        ConfigurationError: another argument is; it says which and why.
    """

    __slots__ = ("seconds",)

    def __init__(
        self,
        expression: str | float | timedelta,
        timezone: str = "UTC",
        catchup: str = "skip",
        overlap: str = "allow",
        *,
        configuration: str = CONFIGURATION,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            expression if isinstance(expression, str) else "* * * * *",
            *(timezone, catchup, overlap),
            configuration=configuration,
            parameters=parameters,
        )
        self.seconds: int | None = None
        if isinstance(expression, str):
            return
        total_seconds = getattr(expression, "total_seconds", None)  # a timedelta's
        try:
            self.seconds = check_interval(total_seconds() if total_seconds else expression)
        except ScheduleError as error:
            raise ScheduleError(expression, error.field, error.reason) from None
        self.expression = f"every {self.seconds} s"

    def _when(self) -> dict[str, Any]:
        return super()._when() if self.seconds is None else {"every_seconds": self.seconds}


def check_schedule(schedule: object) -> CronSchedule | None:
    """The schedule of a flow, or None.

    Raises:
        ConfigurationError: it is neither, or there are several.
    """
    if schedule is None or isinstance(schedule, CronSchedule):
        return schedule
    reason = "is neither a CronSchedule nor an IntervalSchedule"
    if isinstance(schedule, (list, tuple, set, frozenset)):
        reason = f"a flow has one schedule, {ONE_SCHEDULE}"
    raise ConfigurationError("schedule", schedule, reason)
