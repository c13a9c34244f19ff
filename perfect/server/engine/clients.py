"""The clients that are connected: who they are, what they can run and what they are running."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection

from perfect.server.engine.clock import Clock, iso
from perfect.server.engine.liveness import Liveness
from perfect.server.engine.speaker import Speaker
from perfect.server.store import sessions, signs

# names of flows, and ids of runs, that are listed per session
_LISTED = 100
# of sessions: seconds since each was heard of, and its active runs
_Ages = dict[str, tuple[float, tuple[str, ...]]]


@dataclass(slots=True)
class _Session:
    client: str
    native: bool
    agent: str
    first: int
    waited: int = 0  # when its last long poll ended; an open one is a sign of life until then
    polls: int = 0
    slots: int | None = None


class Clients:
    """The sessions that were heard of lately. To be changed on the event loop only.

    Args:
        clock: the time.
        liveness: knows when each was heard last, and its active runs.
        silence: seconds after which a session without an open poll counts as gone.
        me: which backend this is, where others may be on the same database.
    """

    def __init__(
        self, clock: Clock, liveness: Liveness, silence: float, me: str | None = None
    ) -> None:
        self._clock = clock
        self._liveness = liveness
        self._silence = silence
        self._me = me
        self._sessions: dict[str, _Session] = {}

    def heard(self, speaker: Speaker) -> None:
        """Somebody speaks."""
        known = self._sessions.get(speaker.session)
        if known is None:
            self._sessions[speaker.session] = _Session(
                speaker.client, speaker.native, speaker.agent, self._clock.now()
            )
        elif speaker.agent:
            known.agent = speaker.agent

    @contextmanager
    def polling(self, speaker: Speaker, slots: int | None) -> Iterator[None]:
        """While its long poll is open; ``slots`` are its free places, None for a poller that does not say."""
        self.heard(speaker)
        known = self._sessions[speaker.session]
        known.polls += 1
        known.slots = slots
        try:
            yield
        finally:
            known.polls -= 1
            known.waited = self._clock.now()

    def forget(self) -> None:
        """Forget the sessions that were not heard of for long."""
        remembered = set(self._liveness.sessions())
        for session in [s for s, known in self._sessions.items() if not known.polls]:
            if session not in remembered:
                del self._sessions[session]

    def connected(self) -> set[str]:
        """Sessions that have an open poll, or were heard of a moment ago; thread-safe."""
        return set(self._here(self._liveness.ages(), self._clock.now()))

    def listed(self, connection: Connection) -> list[dict[str, Any]]:
        """Every connected session, grouped by client, as it is shown; thread-safe."""
        ages = self._liveness.ages()
        now = self._clock.now()
        found = self._here(ages, now)
        for session, (age, known) in self._elsewhere(connection, now).items():
            if session not in found or age < found[session][0]:
                found[session] = age, known
        served = sessions.flow_names(connection, found)
        groups: dict[str, list[dict[str, Any]]] = {}
        for session, (age, known) in sorted(found.items(), key=lambda item: item[1][1].first):
            _, runs = ages.get(session, (0.0, ()))
            names = served.get(session, [])
            groups.setdefault(known.client, []).append(
                {
                    "session": session,
                    "native": known.native,
                    "protocol": 2 if known.native else 1,
                    "agent": known.agent or None,
                    "firstSeen": iso(known.first),
                    "lastSeen": iso(now - round(age * 1000)),
                    "polling": known.polls > 0,
                    "freeSlots": known.slots,
                    "concurrency": None if known.slots is None else known.slots + len(runs),
                    "flows": names[:_LISTED],
                    "flowCount": len(names),
                    "activeRuns": sorted(runs)[:_LISTED],
                    "activeRunCount": len(runs),
                }
            )
        return [
            {"clientId": name, "sessions": group, "sessionCount": len(group)}
            for name, group in sorted(groups.items())
        ]

    def facts(self, of: Iterable[str]) -> dict[str, str]:
        """What the other backends on the database are to show of these sessions, as JSON text."""
        known = {session: self._sessions[session] for session in of if session in self._sessions}
        return {session: orjson.dumps(facts).decode() for session, facts in known.items()}

    def _here(self, ages: _Ages, now: int) -> dict[str, tuple[float, _Session]]:
        """The connected sessions that this backend has heard, and how many seconds ago."""
        silent = (
            (session, _silent(session, known, ages, now), known)
            for session, known in list(self._sessions.items())
        )
        return {session: (age, known) for session, age, known in silent if age < self._silence}

    def _elsewhere(self, connection: Connection, now: int) -> dict[str, tuple[float, _Session]]:
        """Sessions of which other backends have heard, and how many seconds ago."""
        if self._me is None:
            return {}
        at = signs.server_now(connection, now)
        since = at - round(self._silence * 1000)
        return {
            session: (max(0, at - seen) / 1000, _Session(**orjson.loads(facts)))
            for session, (seen, facts) in signs.facts_since(connection, since, self._me).items()
        }


def _silent(session: str, known: _Session, ages: _Ages, now: int) -> float:
    """Seconds since the session was heard last."""
    if known.polls:
        return 0.0
    since_poll = max(0, now - known.waited) / 1000
    return min(since_poll, ages[session][0]) if session in ages else since_poll
