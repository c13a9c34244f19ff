"""When a flow should run: cron expressions and intervals, checked where they are written.

The five cron fields are minute, hour, day of month, month and day of week (crontab(5)): numbers,
names (JAN…, SUN…), ``*``, lists, ranges and steps. Sunday is 0 or 7. Nothing here computes fire
times; the backend does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfect.errors import ScheduleError

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
            f"has {len(parts)} fields, not 5 (minute hour day-of-month month day-of-week)",
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
    if parts[4] == "*" and min(days) > max(_LONGEST_MONTH[month - 1] for month in months):
        raise ScheduleError(expression, "day of month", f"{min(days)} never comes in that month")
    return " ".join(parts)


class CronSchedule:
    """Run at the times of a cron expression, for example ``CronSchedule("0 9 * * MON")``.

    Args:
        expression: five cron fields, read in UTC.

    Raises:
        ScheduleError: the expression is wrong; it says which field and why.
    """

    __slots__ = ("expression",)

    def __init__(self, expression: str) -> None:
        self.expression = check_cron(expression)

    def __str__(self) -> str:
        return self.expression

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.expression!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and str(other) == str(self)

    def __hash__(self) -> int:
        return hash(str(self))


class IntervalSchedule(CronSchedule):
    """Run again and again, for example ``IntervalSchedule("*/5 * * * *")`` or ``IntervalSchedule(90)``.

    Args:
        expression: a cron expression, or seconds, or a timedelta; whole seconds, at least 1.

    Attributes:
        seconds: the interval in s, or None when it was given as a cron expression.

    Raises:
        ScheduleError: the interval is wrong; it says why.
    """

    __slots__ = ("seconds",)

    def __init__(self, expression: str | float | timedelta) -> None:
        self.seconds: int | None = None
        if isinstance(expression, str):
            super().__init__(expression)
            return
        seconds: float
        total_seconds = getattr(expression, "total_seconds", None)  # a timedelta's
        if callable(total_seconds):
            seconds = float(total_seconds())
        elif isinstance(expression, (int, float)) and not isinstance(expression, bool):
            seconds = expression
        else:
            raise ScheduleError(
                expression, "interval", "is neither a cron expression, seconds nor a timedelta"
            )
        if not 1 <= seconds <= 366 * 86400 or seconds != int(seconds):
            raise ScheduleError(
                expression, "interval", "is not a whole number of seconds from 1 s to 366 days"
            )
        self.seconds = int(seconds)
        self.expression = f"every {self.seconds} s"
