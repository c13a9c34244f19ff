"""Types whose values are one piece of JSON: numbers, texts, dates, durations, choices."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from enum import Enum, Flag
from typing import Any, NamedTuple

from perfect.jsonable import snapshot

# Whole numbers past 2**53 travel as text (`perfect.jsonable`): 16 digits and more.
_LARGE = re.compile(r"-?[0-9]{16,4000}")
_NOT_FINITE = {"nan", "inf", "-inf"}
# ISO 8601 durations without years and months, which have no fixed length.
_PART = r"(?:([0-9]{1,12}(?:[.,][0-9]{1,9})?)%s)?"
_DURATION = re.compile(
    rf"([+-])?P(?=[0-9T]){_PART % 'W'}{_PART % 'D'}"
    rf"(?:T(?=[0-9]){_PART % 'H'}{_PART % 'M'}{_PART % 'S'})?"
)
# What `str` makes of a timedelta, and a clock's h:mm:ss.
_CLOCK = re.compile(
    r"(?:(-?[0-9]{1,9}) days?, )?([0-9]{1,9}):([0-5][0-9]):([0-5][0-9](?:\.[0-9]{1,6})?)"
)


class Unfit(Exception):
    """A value that an annotation does not take.

    Attributes:
        value: the value, or the part of it that is wrong.
        path: where in the whole it stands, as ``[2].day``.
    """

    def __init__(self, value: Any, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.value = value
        self.reason = reason
        self.path = path


class Kind(NamedTuple):
    """What an annotation means as JSON.

    Attributes:
        schema: JSON Schema (2020-12).
        load: makes the annotated value of the JSON; raises Unfit.
        what: it in words, as "a whole number".
        late: in a union, those with a low number are tried first.
    """

    schema: dict[str, Any]
    load: Callable[[Any], Any]
    what: str
    late: int = 4


def _itself(value: Any) -> Any:
    return value


ANYTHING = Kind({}, _itself, "anything", late=9)


def _none(value: Any) -> None:
    if value is not None:
        raise Unfit(value, "is not null")


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise Unfit(value, "is neither true nor false")
    return value


def _int(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():  # in JSON, 1.0 is a whole number
        return int(value)
    if type(value) is str and _LARGE.fullmatch(value):
        return int(value)
    raise Unfit(value, "is not a whole number")


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            pass
    if type(value) is str and value in _NOT_FINITE:  # which JSON has no numbers for
        return float(value)
    raise Unfit(value, "is not a number")


def _str(value: Any) -> str:
    if type(value) is not str:
        raise Unfit(value, "is not text")
    return value


def _timedelta(value: Any) -> timedelta:
    try:
        if type(value) in (int, float):
            return timedelta(seconds=value)
        if type(value) is str:
            found = _DURATION.fullmatch(value)
            if found is not None:
                sign, *parts = found.groups()
                weeks, days, hours, minutes, seconds = (
                    float(part.replace(",", ".")) if part else 0.0 for part in parts
                )
                whole = timedelta(
                    weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds
                )
                return -whole if sign == "-" else whole
            found = _CLOCK.fullmatch(value)
            if found is not None:
                days_, hours_, minutes_, seconds_ = found.groups()
                return timedelta(
                    days=int(days_ or 0),
                    hours=int(hours_),
                    minutes=int(minutes_),
                    seconds=float(seconds_),
                )
    except (OverflowError, ValueError):  # more than timedelta holds, NaN
        pass
    raise Unfit(value, f"is not {_DURATIONS}")


_DURATIONS = "a duration (seconds, or ISO 8601 as in PT1H30M)"

_BUILT_IN: dict[type, Kind] = {
    type(None): Kind({"type": "null"}, _none, "null", late=0),
    bool: Kind({"type": "boolean"}, _bool, "true or false", late=0),
    int: Kind({"type": "integer"}, _int, "a whole number", late=1),
    float: Kind({"type": "number"}, _float, "a number", late=2),
    str: Kind({"type": "string"}, _str, "text", late=8),
    timedelta: Kind(
        {"type": ["string", "number"], "format": "duration"}, _timedelta, _DURATIONS, late=4
    ),
    object: ANYTHING,
}


def _text_kind(
    make: Callable[[str], Any], what: str, schema: dict[str, Any], late: int = 4
) -> Kind:
    """Values that are made of a text; where the schema takes numbers too, of theirs."""
    kinds = (str, int, float) if "number" in schema["type"] else (str,)

    def load(value: Any) -> Any:
        if type(value) in kinds:
            try:
                return make(str(value))
            except (ValueError, ArithmeticError):  # decimal.InvalidOperation is arithmetic
                pass
        raise Unfit(value, f"is not {what}")

    return Kind({"type": "string", **schema}, load, what, late)


def scalar(annotation: Any) -> Kind | None:
    """The kind of a type whose values are one piece of JSON; None for any other."""
    if not isinstance(annotation, type):
        return None
    known = _BUILT_IN.get(annotation)
    if known is not None:
        return known
    if issubclass(annotation, Enum):
        return _enum(annotation)
    name = f"{annotation.__module__}.{annotation.__qualname__}"
    if annotation is date:
        return _text_kind(date.fromisoformat, "a date (YYYY-MM-DD)", _format("date"), late=3)
    if annotation is datetime:
        return _text_kind(
            datetime.fromisoformat, "a date and time (ISO 8601)", _format("date-time")
        )
    if annotation is time:
        return _text_kind(time.fromisoformat, "a time (HH:MM:SS)", _format("time"))
    # By their names: importing these modules for those who don't use them costs 10 ms.
    if name == "uuid.UUID":
        return _text_kind(annotation, "a UUID", _format("uuid"))
    if name == "decimal.Decimal":
        return _text_kind(
            annotation, "a decimal number", {"type": ["string", "number"], "format": "decimal"}
        )
    if any(f"{one.__module__}.{one.__qualname__}" in _PATHS for one in annotation.__mro__):
        return _text_kind(annotation, "a path", _format("path"), late=7)
    return None


# The second: from Python 3.13 on.
_PATHS = ("pathlib.PurePath", "pathlib._local.PurePath")


def _format(name: str) -> dict[str, Any]:
    return {"type": "string", "format": name}


def choice(members: list[Any]) -> Kind:
    """One of these values (``Literal``)."""
    told = [(snapshot(member), member) for member in members]
    listed = ", ".join(repr(json) for json, _ in told[:20])
    what = f"one of {listed}{', …' if len(told) > 20 else ''}"

    def load(value: Any) -> Any:
        for json, member in told:
            # As in JSON: 1 is 1.0, and not true.
            if json == value and isinstance(json, bool) == isinstance(value, bool):
                return member
        raise Unfit(value, f"is not {what}")

    return Kind({"enum": [json for json, _ in told]}, load, what)


def _enum(annotation: type[Enum]) -> Kind:
    """A member goes by its value, and is also found by its name."""
    if issubclass(annotation, Flag):  # any sum of its members
        return Kind({"type": "integer"}, _flag(annotation), f"a sum of {annotation.__name__}")
    by_value = choice(list(annotation))

    def load(value: Any) -> Any:
        try:
            return by_value.load(value)
        except Unfit:
            name = value.removeprefix(f"{annotation.__name__}.") if type(value) is str else None
            if name is not None and name in annotation.__members__:
                return annotation[name]
            raise

    return by_value._replace(load=load)


def _flag(annotation: type[Flag]) -> Callable[[Any], Any]:
    def load(value: Any) -> Any:
        try:
            return annotation(_int(value))
        except ValueError:
            raise Unfit(value, f"is not a sum of {annotation.__name__}") from None

    return load
