"""What the engine counts since it started; plain numbers, so that counting costs nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts, changed on the writer's thread only.

    Attributes:
        events: native events that were applied.
        rejected: native events that were refused.
        tasks: tasks that were entered.
        lines: lines of logs.
        ended: runs that ended, by state.
        started: runs that were entered.
    """

    events: int = 0
    rejected: int = 0
    tasks: int = 0
    lines: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    started: int = 0
