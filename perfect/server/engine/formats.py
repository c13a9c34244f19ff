"""The formats of texts that annotations stand for; each is read by the standard library or in linear time."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from jsonschema import FormatChecker

FORMATS = FormatChecker(formats=())

# ISO 8601 without years and months; and h:mm:ss, as Python writes it.
_NUMBER = r"[0-9]{1,12}(?:[.,][0-9]{1,9})?"
_DURATION = re.compile(
    rf"[+-]?P(?=[0-9T])(?:{_NUMBER}W)?(?:{_NUMBER}D)?"
    rf"(?:T(?=[0-9])(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?"
    r"|(?:-?[0-9]{1,9} days?, )?[0-9]{1,9}:[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
)
_LONGEST = 10_000  # characters; Python's numbers of more digits take more than linear time


def _texts(name: str, read: Callable[[str], Any]) -> None:
    """Take texts of that format that ``read`` can read, and whatever is no text."""

    def check(value: object) -> bool:
        if not isinstance(value, str):
            return True
        if len(value) > _LONGEST:
            return False
        read(value)
        return True

    FORMATS.checks(name, raises=(ValueError, ArithmeticError))(check)


def _duration(text: str) -> None:
    if _DURATION.fullmatch(text) is None:
        raise ValueError(text)


_texts("date", date.fromisoformat)
_texts("date-time", datetime.fromisoformat)
_texts("time", time.fromisoformat)
_texts("duration", _duration)
_texts("decimal", Decimal)
_texts("uuid", uuid.UUID)
