"""Which flows connected sessions have, so that a run nobody can execute says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable

_KEPT = 60.0


class _Session:
    __slots__ = ("flows", "polls", "seen", "read")

    def __init__(self, flows: Iterable[str], now: float) -> None:
        self.flows = set(flows)
        self.polls = 0
        self.seen = self.read = now


class Presence:
    """The sessions that poll, with their flows. Changed on the event loop only; may be asked on any thread.

    Args:
        now: seconds that never jump.
        absent_after: s after its last poll that a session counts as gone.
    """

    def __init__(self, now: Callable[[], float], absent_after: float) -> None:
        self._now = now
        self._absent_after = absent_after
        self._sessions: dict[str, _Session] = {}
        self._have: Counter[str] = Counter()
        # flows that sessions have which other backends on the database have heard of
        self.elsewhere: frozenset[str] = frozenset()

    def __contains__(self, flow_id: object) -> bool:
        return flow_id in self._have or flow_id in self.elsewhere

    def polling(self) -> set[str]:
        """Sessions with an open poll."""
        return {session for session, known in self._sessions.items() if known.polls}

    def all(self) -> frozenset[str]:
        """Every flow that a session has, wherever it is connected."""
        return self.elsewhere.union(self._have)

    def flows(self, session: str) -> set[str] | None:
        """A session's flows, to which those registered later are added; None: they have to be read (again)."""
        known = self._sessions.get(session)
        if known is None or not known.polls and self._now() - known.read > _KEPT:
            return None
        return known.flows

    def enter(self, session: str, flows: Collection[str]) -> set[str]:
        """A session's flows, as read; the set that `flows` gives from now on."""
        known = self._sessions.get(session)
        if known is None:
            known = self._sessions[session] = _Session((), self._now())
        known.read = known.seen = self._now()
        for flow_id in flows:
            self._add(known, flow_id)
        return known.flows

    def learn(self, session: str, flow_id: str) -> None:
        """A session has registered a flow."""
        known = self._sessions.get(session)
        if known is not None:
            self._add(known, flow_id)

    def begin(self, session: str) -> None:
        """A poll of a session has begun."""
        self._sessions[session].polls += 1

    def end(self, session: str) -> None:
        """A poll of a session has ended."""
        known = self._sessions[session]
        known.polls -= 1
        known.seen = self._now()

    def seen(self, session: str) -> None:
        """A session has given a sign of life beside its polls."""
        known = self._sessions.get(session)
        if known is not None:
            known.seen = self._now()

    def forget(self) -> None:
        """Let go of the sessions that have been away for too long."""
        limit = self._now() - self._absent_after
        for session, known in list(self._sessions.items()):
            if not known.polls and known.seen < limit:
                del self._sessions[session]
                for flow_id in known.flows:
                    self._have[flow_id] -= 1
                    if not self._have[flow_id]:
                        del self._have[flow_id]

    def _add(self, known: _Session, flow_id: str) -> None:
        if flow_id not in known.flows:
            known.flows.add(flow_id)
            self._have[flow_id] += 1
