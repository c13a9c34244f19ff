"""Values that JSON gives back as they were, and where a value is not one of them."""

from __future__ import annotations

import math
from typing import Any

DEEPEST = 100  # levels; the decoder's own limit depends on how deep its caller is
MOST_BITS = 14_000  # of an integer: Python reads back no number of more than 4,300 digits


class Unfit(Exception):
    """A value, or a part of one, that has no lasting form. Never leaves the package.

    Attributes:
        value: the part.
        reason: why.
        place: where in the whole it is, as Python would write it: ``['rows'][2]``.
    """

    def __init__(self, value: object, reason: str) -> None:
        super().__init__(reason)
        self.value = value
        self.reason = reason
        self.place = ""

    def within(self, step: str) -> None:
        """Put a step in front of the place: the whole it was found in is a part itself."""
        self.place = step + self.place


def check_plain(value: Any, above: tuple[int, ...] = ()) -> None:
    """Make sure that JSON gives a value back as it was.

    Raises:
        Unfit: it does not.
    """
    kind = type(value)
    if value is None or kind is bool:
        return
    if kind is str:
        check_text(value)
    elif kind is int:
        if value.bit_length() > MOST_BITS:
            raise Unfit(value, "it has more than 4,200 digits")
    elif kind is float:
        if not math.isfinite(value):
            raise Unfit(value, "JSON has neither NaN nor infinity")
    elif kind is list or kind is dict:
        if id(value) in above:
            raise Unfit(value, "it contains itself")
        if len(above) == DEEPEST:
            raise Unfit(value, f"it is nested deeper than {DEEPEST} levels")
        above = (*above, id(value))
        for step, entry in enumerate(value) if kind is list else value.items():
            try:
                if kind is dict:
                    if type(step) is not str:
                        raise Unfit(step, f"a key of type {kind_of(step)} is not text")
                    check_text(step)
                check_plain(entry, above)
            except Unfit as unfit:
                unfit.within(f"[{step!r}]")
                raise
    else:
        raise Unfit(value, f"JSON does not give a {kind_of(value)} back as it was")


def check_text(text: str) -> None:
    """Make sure that UTF-8 can hold it.

    Raises:
        Unfit: it can't.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unfit(text, "UTF-8 can't hold a lone surrogate") from None


def kind_of(value: object) -> str:
    """A value's type as an error message names it."""
    kind = type(value)
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"
