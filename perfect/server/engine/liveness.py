"""Which sessions have been heard of, and whose silence means that their runs are over."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field

from perfect.server.engine.clock import Clock

# sessions without active runs are forgotten after this many times the silence limit
_REMEMBERED = 12


@dataclass(slots=True)
class _Session:
    seen: float
    monitored: bool
    heard: float = -math.inf  # by this backend itself
    runs: set[str] = field(default_factory=set)


class Liveness:
    """The silence clocks of all sessions. They live in memory: when the backend starts, all start anew.

    Thread-safe: requests arrive on the event loop, run changes on the writer's thread.

    Args:
        clock: the time.
        silence: seconds without a sign of life after which a session's runs are over.
    """

    def __init__(self, clock: Clock, silence: float) -> None:
        self._clock = clock
        self._silence = silence
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()
        self._looked: float | None = None

    def seen(self, session: str, *, monitored: bool) -> bool:
        """Note a sign of life.

        Args:
            session: whose.
            monitored: whether from now on silence of this session means something.

        Returns:
            Whether it has only now become one whose silence means something.
        """
        with self._lock:
            known = self._sessions.get(session)
            if known is None:
                known = self._sessions[session] = _Session(0.0, False)
            known.seen = known.heard = self._clock.monotonic()
            newly = monitored and not known.monitored
            known.monitored |= monitored
            return newly

    def seen_elsewhere(self, session: str, age: float) -> None:
        """Another backend has heard of that session ``age`` seconds ago; its silence means something."""
        with self._lock:
            known = self._sessions.get(session)
            if known is not None:
                known.seen = max(known.seen, self._clock.monotonic() - age)
                known.monitored = True

    def heard(self, within: float) -> dict[str, float]:
        """Sessions that this backend heard of in the last ``within`` seconds, and how many seconds ago."""
        now = self._clock.monotonic()
        with self._lock:
            ages = {session: now - known.heard for session, known in self._sessions.items()}
        return {session: age for session, age in ages.items() if age <= within}

    def started(self, session: str, run: str) -> None:
        """A run of that session is active from now on."""
        with self._lock:
            known = self._sessions.get(session)
            if known is None:
                known = self._sessions[session] = _Session(self._clock.monotonic(), False)
            known.runs.add(run)

    def ended(self, session: str, run: str) -> None:
        """That run is no longer active."""
        with self._lock:
            known = self._sessions.get(session)
            if known is not None:
                known.runs.discard(run)

    def drop(self, session: str, runs: list[str]) -> None:
        """Those runs of a silent session have been dealt with."""
        with self._lock:
            known = self._sessions.get(session)
            if known is not None:
                known.runs.difference_update(runs)

    def active(self) -> set[tuple[str, str]]:
        """Every active run, with its session before it."""
        with self._lock:
            return {
                (session, run) for session, known in self._sessions.items() for run in known.runs
            }

    def has_runs(self, session: str) -> bool:
        """Whether runs of that session are active."""
        with self._lock:
            known = self._sessions.get(session)
            return known is not None and bool(known.runs)

    def sessions(self) -> list[str]:
        """Every session that is remembered."""
        with self._lock:
            return list(self._sessions)

    def ages(self) -> dict[str, tuple[float, tuple[str, ...]]]:
        """Of every session that is remembered: seconds since it was heard of, and its active runs."""
        now = self._clock.monotonic()
        with self._lock:
            return {
                session: (now - known.seen, tuple(known.runs))
                for session, known in self._sessions.items()
            }

    def soonest(self) -> float:
        """Seconds until a session might have been silent for too long, at most the silence limit."""
        now = self._clock.monotonic()
        with self._lock:
            seen = [
                known.seen for known in self._sessions.values() if known.runs and known.monitored
            ]
        return max(0.0, min(seen, default=now) + self._silence - now)

    def silent(self) -> list[tuple[str, list[str]]]:
        """Sessions that have been silent for too long, with their active runs; to be asked regularly.

        Time during which this process itself was not running (a paused machine, a stalled disk) is not held
        against the clients: they could not be heard.
        """
        now = self._clock.monotonic()
        with self._lock:
            if self._looked is not None and (gap := now - self._looked) > self._silence / 2:
                for known in self._sessions.values():
                    known.seen = min(now, known.seen + gap)
            self._looked = now
            found = []
            for session, known in list(self._sessions.items()):
                age = now - known.seen
                if known.runs:
                    if known.monitored and age >= self._silence:
                        found.append((session, sorted(known.runs)))
                elif age >= self._silence * _REMEMBERED:
                    del self._sessions[session]
            return found
