"""Snapshots of Python values as plain JSON data, whatever they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from enum import Enum
from typing import Any

from perfect.text import clean

# Integers past this are not exact in JavaScript (IEEE 754 doubles), so they travel as text.
EXACT_INTEGER = 1 << 53
# The protocol refuses deeper nesting than 64; what holds the value needs some of it.
DEEPEST = 32


# How a subclass's value is read without its own __str__, __int__ or __float__.
_PLAIN: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (int, int.__int__),
    (float, float.__float__),
    (str, str.__str__),
)


def snapshot(value: Any, *, longest: int | None = None, most: int | None = None) -> Any:
    """Copy a value into what JSON can hold.

    NaN and infinities become text, sets lists, bytes text, dates ISO 8601; what has no JSON form is
    described (``<module json>``), a circle is cut (``<circular>``). Later changes of the value don't
    show in the copy.

    Args:
        value: anything at all.
        longest: cut text after so many characters.
        most: keep so many entries of a list or mapping.
    """
    return _copy(value, longest, most, frozenset())


def _copy(value: Any, longest: int | None, most: int | None, above: frozenset[int]) -> Any:
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return _cut(clean(value), longest)
    if kind is int:
        return value if -EXACT_INTEGER <= value <= EXACT_INTEGER else _digits(value, longest)
    if kind is float:
        return value if math.isfinite(value) else str(value)
    if id(value) in above:
        return "<circular>"
    if len(above) >= DEEPEST:
        return "<nested too deep>"
    try:
        return _copy_other(value, longest, most, above | {id(value)})
    except Exception as error:  # a __repr__, __iter__ or property of the user's that raises
        return f"<{kind.__name__}: {type(error).__name__} while reading it>"


def _copy_other(value: Any, longest: int | None, most: int | None, above: frozenset[int]) -> Any:
    if isinstance(value, Enum):
        return _copy(value.value, longest, most, above)
    for base, plain in _PLAIN:
        if isinstance(value, base):
            return _copy(plain(value), longest, most, above)
    if isinstance(value, Mapping):
        copied: dict[str, Any] = {}
        for count, (key, entry) in enumerate(value.items()):
            if most is not None and count >= most:
                copied["…"] = f"{len(value) - count} more"
                break
            copied[_cut(clean(str(key)), longest)] = _copy(entry, longest, most, above)
        return copied
    if isinstance(value, Set):
        try:
            value = sorted(value)
        except TypeError:  # of kinds that don't compare
            value = sorted(value, key=repr)
    if isinstance(value, (list, tuple)):
        kept = value if most is None else value[:most]
        items = [_copy(entry, longest, most, above) for entry in kept]
        if len(kept) < len(value):
            items.append(f"… {len(value) - len(kept)} more")
        return items
    if isinstance(value, (bytes, bytearray)):
        return _cut(bytes(value).decode("utf-8", "backslashreplace"), longest)
    if callable(getattr(value, "isoformat", None)):  # dates and times, not only datetime's
        return str(value.isoformat())
    names = getattr(type(value), "__dataclass_fields__", None)
    if names is not None:
        return {
            name: _copy(getattr(value, name), longest, most, above)
            for name in names
            if hasattr(value, name)
        }
    if callable(getattr(value, "item", None)) and getattr(value, "ndim", None) == 0:
        return _copy(value.item(), longest, most, above)  # a numpy scalar
    return _described(value, longest)


def _digits(value: int, longest: int | None) -> str:
    try:
        return _cut(str(value), 1000 if longest is None else longest)
    except ValueError:  # more digits than sys.get_int_max_str_digits()
        return hex(value)[:1000] + "… [cut]"


def _described(value: Any, longest: int | None) -> str:
    """Other values by their text, which for the standard types (Decimal, UUID, Path) is their value."""
    return _cut(clean(str(value)), 1000 if longest is None else longest)


def _cut(text: str, longest: int | None) -> str:
    if longest is None or len(text) <= longest:
        return text
    return f"{text[:longest]}… [cut, {len(text) - longest} characters]"
