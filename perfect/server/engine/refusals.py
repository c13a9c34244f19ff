"""Why the engine does not do what it was asked; routes turn each kind into its HTTP status."""

from __future__ import annotations

from typing import Any

from perfect.server.store.writer import KeepsNothing


class Refusal(KeepsNothing):
    """The engine says no, before it has changed anything.

    Attributes:
        message: one sentence for the person who reads it.
        detail: further facts (JSON), or None.
    """

    def __init__(self, message: str, detail: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class Invalid(Refusal):
    """What was sent is wrong."""


class Unknown(Refusal):
    """There is no such flow, run or report."""


class Conflict(Refusal):
    """It is too late or too early for that, or somebody else's."""


class TooLarge(Refusal):
    """It is more than the backend takes at once."""


class Demanding(KeepsNothing):
    """The values of a flow's parameters have to be checked first, which is not for the writer's thread."""


class TooMany(Refusal):
    """All places for that are taken; come back later."""


def shown(value: object) -> str:
    """A value as it reads in an error message, at most 80 characters of it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
