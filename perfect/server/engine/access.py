"""Tokens, and the sessions of the page that one logs into with a token.

A session's cookie is a random secret. What is kept of it is its *mark*: an HMAC-SHA256 with the token as the key. So
nobody who reads the database can make a cookie of it, and a session ends when its token is changed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

from sqlalchemy import Connection

from perfect.server.engine.clock import Clock
from perfect.server.engine.context import Context
from perfect.server.engine.throttle import Throttle
from perfect.server.settings import ServerSettings
from perfect.server.store import Transaction, audit, logins
from perfect.server.store.records import Actor

FULL, READ, OPEN, NONE = "full", "read", "open", "none"
# characters of a mark by which a session is known in the audit table
_SHOWN = 12
_LONGEST_PATH = 200
_SECRET = 32
_LONGEST_SECRET = 100
# a session that is in use is noted as such this often
TOUCH = 5 * 60 * 1000


class Doors:
    """The tokens of a backend, by kind.

    Args:
        settings: the backend's.
    """

    def __init__(self, settings: ServerSettings) -> None:
        given = {FULL: settings.token, READ: settings.read_token}
        self._keys = {kind: token.encode() for kind, token in given.items() if token}
        self._age = round(settings.login_age * 1000)
        self._idle = round(settings.login_idle * 1000)

    def __bool__(self) -> bool:
        """Whether one needs a token at all."""
        return bool(self._keys)

    def kind_of(self, token: str) -> str | None:
        """The kind of a token, or None; in the same time whatever it has in common with a right one."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for kind, key in self._keys.items():
            if hmac.compare_digest(digest, hashlib.sha256(key).digest()):
                found = kind
        return found

    def marks(self, secret: str) -> dict[str, str]:
        """The marks that a session of each kind with this secret would have, each with its kind."""
        if not 0 < len(secret) <= _LONGEST_SECRET:
            return {}
        return {self._mark(kind, secret): kind for kind in self._keys}

    def valid(self, created: int, used: int, now: int) -> bool:
        """Whether a session is neither too old nor too long unused; all in ms since the epoch."""
        return now < created + self._age and now < used + self._idle

    def over(self, connection: Connection, marks: set[str], now: int) -> tuple[set[str], set[str]]:
        """Which of these sessions are over, and which have not been noted as in use for a while."""
        times = logins.times(connection, marks)
        lasting = {mark for mark in times if self.valid(*times[mark], now)}
        return marks - lasting, {mark for mark in lasting if now - times[mark][1] > TOUCH}

    def enter(self, tx: Transaction, context: Context, kind: str, peer: str) -> str:
        """Open a session; returns its secret."""
        secret = secrets.token_urlsafe(_SECRET)
        mark, now = self._mark(kind, secret), context.clock.now()
        logins.prune(tx.connection, now - self._age, now - self._idle)
        logins.insert(tx.connection, mark, kind, now)
        audit.note(tx.connection, now, None, None, "logged in", Actor(kind, peer, shown(mark)))
        return secret

    def _mark(self, kind: str, secret: str) -> str:
        return hmac.new(
            self._keys[kind], secret.encode("utf-8", "surrogateescape"), hashlib.sha256
        ).hexdigest()


class Attempts:
    """Wrong tokens: how often each peer may give one, and which are noted in the audit table.

    Args:
        clock: the time.
        write_soon: runs a job of the engine on the writer, some time.

    Attributes:
        tokens: of clients.
        logins: of people.
    """

    def __init__(self, clock: Clock, write_soon: Callable[..., None]) -> None:
        # Beyond that a right token is not looked at either, or it could be guessed. Clients are allowed more: one
        # with a wrong token tries again every few seconds, and others may share its address.
        self.tokens = Throttle(clock, 120)
        self.logins = Throttle(clock, 10)
        # a flood of refusals must not become a flood of rows
        self._noted_each = Throttle(clock, 10)
        self._noted = Throttle(clock, 100)
        self._write_soon = write_soon

    def note(self, peer: str, method: str, path: str) -> None:
        """Note a wrong token in the audit table, unless there were many already."""
        if not (self._noted_each.wait(peer) or self._noted.wait("")):
            self._noted_each.failed(peer)
            self._noted.failed("")
            self._write_soon(refused, Actor(NONE, peer), method, path[:_LONGEST_PATH])


def shown(mark: str) -> str:
    """A session as the audit table shows it."""
    return mark[:_SHOWN]


def leave(tx: Transaction, context: Context, marks: list[str], by: Actor) -> None:
    """End a session."""
    for mark in marks:
        logins.remove(tx.connection, mark)
    audit.note(tx.connection, context.clock.now(), None, None, "logged out", by)


def touch(tx: Transaction, context: Context, mark: str) -> None:
    """A session is in use."""
    logins.use(tx.connection, mark, context.clock.now())


def refused(tx: Transaction, context: Context, by: Actor, method: str, path: str) -> None:
    """Note that somebody had a wrong token."""
    now = context.clock.now()
    audit.note(tx.connection, now, None, None, "refused", by, method=method, path=path)
