"""What the engine counts since it started; plain numbers, so that counting costs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True)
class Tally:
    """Counts, changed on the writer's thread only; what is rolled back afterwards is counted all the same.

    Attributes:
        events: native events that were applied.
        rejected: native events that were refused.
        tasks: tasks that were entered.
        lines: lines of logs.
        started: runs that were entered.
        ended: runs that ended, by state.
    """

    events: int = 0
    rejected: int = 0
    tasks: int = 0
    lines: int = 0
    started: int = 0
    ended: Counter[str] = field(default_factory=Counter)


class Times:
    """How long something took, counted in buckets."""

    def __init__(self) -> None:
        self._counts = [0] * len(_BOUNDS)
        self.count = 0
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """It took so long once."""
        self.count += 1
        self.total += seconds
        for place, bound in enumerate(_BOUNDS):
            if seconds <= bound:
                self._counts[place] += 1
                break

    def up_to(self) -> Iterator[tuple[float, int]]:
        """How often it took at most so many seconds."""
        total = 0
        for bound, count in zip(_BOUNDS, self._counts, strict=True):
            total += count
            yield bound, total
