"""What is put off while the database is away: said once when that begins, and once when it is over."""

from __future__ import annotations

import logging


class Outage:
    """One thing that is tried again and again.

    Args:
        log: where it is said.
        what: that thing, for messages.
    """

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._lasts = False

    def goes_on(self, error: Exception) -> None:
        """It could not be done, for that reason."""
        if not self._lasts:
            self._lasts = True
            self._log.warning("%s put off: %s", self._what, error)

    def is_over(self) -> bool:
        """It could be done; returns whether it could not before."""
        before, self._lasts = self._lasts, False
        if before:
            self._log.warning("%s resumed", self._what)
        return before
