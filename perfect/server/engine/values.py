"""Checks of what clients send. Each returns the value as it is kept, or raises Invalid naming the field."""

from __future__ import annotations

from typing import Any

import orjson

from perfect.server.engine.refusals import Invalid, shown
from perfect.server.settings import Limits
from perfect.states import TaskState

# beyond this a JSON number is no longer exact everywhere, and a column of 64 bits not far away
MAX_NUMBER = 2**53
MAX_TIME = 253_402_300_799_999
MAX_ATTEMPT = 999_999
LONGEST_REASON = 20_000

_LONGEST_TRACEBACK = 128 * 1024


def text(field: str, value: Any, longest: int) -> str:
    """Text of at most ``longest`` characters; NUL, which no database keeps alike, is made visible."""
    if not isinstance(value, str):
        raise Invalid(f"{field}={shown(value)}: is not text")
    if len(value) > longest:
        raise Invalid(f"{field}: has {len(value)} characters, more than {longest}")
    return value.replace("\x00", "␀") if "\x00" in value else value


def name(field: str, value: Any, longest: int) -> str:
    """Text that is not blank."""
    checked = text(field, value, longest)
    if not checked.strip():
        raise Invalid(f"{field}={shown(value)}: is empty")
    return checked


def whole(field: str, value: Any, highest: int = MAX_NUMBER) -> int:
    """A number from 0 to ``highest``, rounded to an integer."""
    if value.__class__ is not int and value.__class__ is not float:
        raise Invalid(f"{field}={shown(value)}: is not a number")
    if not 0 <= value <= highest:
        raise Invalid(f"{field}={shown(value)}: is outside 0-{highest}")
    return int(value)


def moment(field: str, value: Any) -> int:
    """A time in ms since the epoch, up to the year 9999."""
    return whole(field, value, MAX_TIME)


def number(field: str, value: Any, highest: float = MAX_NUMBER) -> float:
    """A number from 0 to ``highest``."""
    if value.__class__ is not int and value.__class__ is not float:
        raise Invalid(f"{field}={shown(value)}: is not a number")
    if not 0 <= value <= highest:
        raise Invalid(f"{field}={shown(value)}: is outside 0-{highest}")
    return float(value)


def truth(field: str, value: Any) -> bool:
    """True or false."""
    if value is not True and value is not False:
        raise Invalid(f"{field}={shown(value)}: is neither true nor false")
    return value


def state(value: Any) -> TaskState:
    """A state, in whatever letter case."""
    try:
        return TaskState(value)
    except ValueError:
        raise Invalid(f"state={shown(value)}: is not one of {', '.join(TaskState)}") from None


def new_index(index: int, known: int, limits: Limits) -> None:
    """Refuse an index at which no task may be entered, when ``known`` tasks are there."""
    if index >= limits.tasks:
        raise Invalid(f"index={shown(index)}: a run has at most {limits.tasks} tasks")
    if index - known > limits.index_gap:
        raise Invalid(
            f"index={index}: the run has {known} tasks, and at most {limits.index_gap} may be left out"
        )


def mapping(field: str, value: Any) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise Invalid(f"{field}={shown(value)}: is not an object")
    return value


def depth(field: str, value: Any, deepest: int) -> None:
    """Refuse JSON nested deeper than ``deepest`` levels."""
    level: list[Any] = [value]
    for _ in range(deepest):
        children: list[Any] = []
        for parent in level:
            if parent.__class__ is dict:
                children.extend(parent.values())
            elif parent.__class__ is list:
                children.extend(parent)
        level = [child for child in children if child.__class__ is dict or child.__class__ is list]
        if not level:
            return
    raise Invalid(f"{field}: is nested deeper than {deepest} levels")


def as_json(field: str, value: Any, deepest: int) -> str:
    """A value as JSON text."""
    depth(field, value, deepest)
    return orjson.dumps(value).decode()


def error(field: str, value: Any, deepest: int) -> str:
    """What went wrong, an object like ``{type, message, traceback}``, as JSON text; long texts in it are cut."""
    facts = {
        name: cut(part, _LONGEST_TRACEBACK) if part.__class__ is str else part
        for name, part in mapping(field, value).items()
    }
    return as_json(field, facts, deepest)


def cut(line: str, longest: int) -> str:
    """Text of at most ``longest`` bytes, with a marker where the rest was."""
    # a character has at most 4 bytes: most lines are known to fit without encoding them
    if len(line) * 4 <= longest:
        return line
    encoded = line.encode()
    if len(encoded) <= longest:
        return line
    kept = encoded[:longest].decode(errors="ignore")
    return f"{kept}… [cut, {len(encoded) - len(kept.encode())} bytes]"
