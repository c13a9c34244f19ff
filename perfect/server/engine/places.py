"""Places for requests that stay open: so many at all, and so many for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from perfect.server.engine.refusals import TooMany


class Places:
    """Counts what is open. To be used on the event loop only.

    Args:
        what: what they are, for messages.
        total: how many there are.
        each: how many one peer or session may have.
    """

    def __init__(self, what: str, total: int, each: int) -> None:
        self._what = what
        self._total = total
        self._each = each
        self._taken: Counter[str] = Counter()
        self.open = 0

    @contextmanager
    def take(self, who: str) -> Iterator[None]:
        """Hold a place.

        Raises:
            TooMany: there is none left, or not for this one.
        """
        if self.open >= self._total:
            raise TooMany(f"{self.open} {self._what} are open, which is all there may be")
        if self._taken[who] >= self._each:
            raise TooMany(f"you have {self._each} open {self._what}, which is all you may have")
        self._taken[who] += 1
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
            self._taken[who] -= 1
            if not self._taken[who]:
                del self._taken[who]
