"""What the backend can be told: where it listens, where it keeps its data, its limits and its durations."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

from perfect.errors import ConfigurationError
from perfect.server.webhooks import Webhook

# scheme, host and port, and nothing else: RFC 6454; lower case, as browsers write them
_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


def perfect_home() -> Path:
    """The folder of everything perfect keeps: ``PERFECT_HOME``, by default ``~/.perfect``."""
    return Path(os.environ.get("PERFECT_HOME") or Path.home() / ".perfect").expanduser()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that host name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}


def duration(name: str, text: str) -> float:
    """Seconds, from a number with a unit (s, m, h, d, w) like ``30d``; without one it is seconds.

    Raises:
        ConfigurationError: it is none; ``name`` says of what.
    """
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhdw]?)", text)
    if found is None or float(found[1]) == 0:
        raise ConfigurationError(name, text, "is not a duration like 30d, 12h or 90m")
    return float(found[1]) * _UNITS[found[2] or "s"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one client may send; announced in the handshake.

    Attributes:
        body: bytes of a request body, after decompression.
        log_line: bytes of one log line; longer ones are cut with a marker.
        name: characters of the name of a flow or task.
        tags: tags of a flow.
        tag: characters of a tag's name or value.
        index_gap: tasks that may be skipped in the numbering.
        tasks: tasks of one run.
        depth: levels of nested JSON.
        schema: bytes of the JSON Schema of a flow's parameters.
        parameters: bytes of the values of a run's parameters.
        parameter_names: parameters of a flow, and values of a run.
        events: events of one batch.
        flows: registrations of one request.
        url: bytes of a request's path and query.
        headers: bytes of a request's headers.
        header_count: headers of a request.
        streams: event streams that are open at a time.
        streams_each: of one peer address.
        polls: long polls that are open at a time.
        polls_each: of one session.
        logins: logins that are under way at a time.
        logins_each: of one peer address.
        idle: connections without a request under way; beyond that the one that has been so for longest is closed.
    """

    body: int = 16 * 1024 * 1024
    log_line: int = 64 * 1024
    name: int = 200
    tags: int = 50
    tag: int = 200
    index_gap: int = 1_000
    tasks: int = 1_000_000
    depth: int = 64
    schema: int = 256 * 1024
    parameters: int = 1024 * 1024
    parameter_names: int = 1_000
    events: int = 100_000
    flows: int = 1_000
    url: int = 8 * 1024
    headers: int = 32 * 1024
    header_count: int = 100
    streams: int = 1_000
    streams_each: int = 500
    polls: int = 10_000
    polls_each: int = 100
    logins: int = 200
    logins_each: int = 50
    idle: int = 2_000

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value.__class__ is not int or not 0 < value < 2**53:
                raise ConfigurationError(f"limit {limit.name}", value, "is not a number from 1")

    @classmethod
    def of(cls, given: Iterable[str]) -> Limits:
        """The limits, with changes like ``body=1000000``.

        Raises:
            ConfigurationError: naming the limit that there is not, or that is not a number.
        """
        known = {limit.name for limit in fields(cls)}
        changes = {}
        for text in given:
            name, _, value = text.partition("=")
            if name not in known:
                raise ConfigurationError(
                    "limit", text, f"is not NAME=VALUE with one of {', '.join(sorted(known))}"
                )
            if not (value.isascii() and value.isdigit() and len(value) < 17):
                raise ConfigurationError(f"limit {name}", value, "is not a number from 1")
            changes[name] = int(value)
        return cls(**changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Everything that distinguishes one backend from another. Durations are in seconds.

    Attributes:
        host: address to listen on; any but loopback needs a token.
        port: port to listen on; 0 takes a free one.
        db: path of the SQLite file, ``sqlite:///`` URL or ``postgresql+psycopg://`` URL; None is
            ``PERFECT_HOME/perfect.db``.
        base_path: path below which everything is served ("" or "/x"), for a reverse proxy.
        token: when set, every request must carry it, or the cookie of a session that was opened with it.
        read_token: one with which nothing can be changed; only beside ``token``.
        allowed_hosts: further host names under which this backend may be addressed.
        allow_origins: further origins, like ``https://x.example``, whose pages may send requests (CORS);
            with a token in a header, never with a cookie.
        login_age: how long a session of the page lasts at most.
        login_idle: how long it lasts unused.
        limits: how much one client may send.
        poll: how long a long poll stays open.
        heartbeat: how often a client with an active run should beat; announced in the handshake.
        silence: after how much silence a session's active runs are failed.
        sweep: how often silence and leases are looked at.
        lease: how long a native poller has to claim a request.
        schedule_grace: how late a scheduled run may begin, after a restart, that is not to be caught up with.
        offers: how often a request is offered; after that, a run that nobody has claimed is FAILED.
        request_expiry: how long a run waits for a client that can execute it; then it is FAILED.
        head_timeout: how long the head of a request may take to arrive.
        body_timeout: how long a request body may take to arrive.
        write_timeout: how long a peer may read nothing of an answer.
        retain: how long runs are kept after they ended; None for ever.
        retain_runs: how many runs of each flow are kept, the newest; None for all.
        retain_every: how often older ones are removed.
        queue_bytes: bytes that may wait for the writer before clients are told to come back.
        access_log: write a JSON line on standard output for every request.
        webhooks: who is told of runs that fail, crash or overrun.
        public_url: where others reach the page, for links; without it links are paths.
        webhook_timeout: how long a delivery may take.
        webhook_attempts: how often it is tried.
        webhook_retry: pause before the second attempt; it triples with each.
        report_logs: log lines shown in a report; the rest is counted and linked.
        report_tasks: tasks shown in a report, failed ones first in line.
    """

    host: str = "127.0.0.1"
    port: int = 3000
    db: str | os.PathLike[str] | None = None
    base_path: str = ""
    token: str | None = field(default=None, repr=False)
    read_token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    login_age: float = 30 * 24 * 3600.0
    login_idle: float = 7 * 24 * 3600.0
    limits: Limits = field(default_factory=Limits)
    poll: float = 30.0
    heartbeat: float = 3.0
    # half a second under the promised 10 s, so that a killed client's run has failed within them
    silence: float = 9.5
    sweep: float = 1.0
    lease: float = 15.0
    schedule_grace: float = 60.0
    offers: int = 3
    request_expiry: float = 24 * 3600.0
    head_timeout: float = 10.0
    body_timeout: float = 30.0
    write_timeout: float = 60.0
    retain: float | None = None
    retain_runs: int | None = None
    retain_every: float = 60.0
    queue_bytes: int = 64 * 1024 * 1024
    access_log: bool = False
    webhooks: tuple[Webhook, ...] = ()
    public_url: str = ""
    webhook_timeout: float = 15.0
    webhook_attempts: int = 6
    webhook_retry: float = 10.0
    report_logs: int = 10_000
    report_tasks: int = 2_000

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigurationError("port", self.port, "is not a port (0-65535)")
        base = self.base_path
        if base and (not base.startswith("/") or base.endswith("/") or "//" in base):
            raise ConfigurationError("base_path", base, "is not like '/x' (or empty)")
        if not is_loopback(self.host) and not self.token:
            raise ConfigurationError(
                "host", self.host, "others can reach this address, so the backend needs a token"
            )
        if self.offers.__class__ is not int or self.offers < 1:
            raise ConfigurationError("offers", self.offers, "is not a number from 1")
        self._check_access()
        if self.retain is not None and not self.retain > 0:
            raise ConfigurationError("retain", self.retain, "is not a positive duration")
        if self.retain_runs is not None and not self.retain_runs > 0:
            raise ConfigurationError("retain_runs", self.retain_runs, "is not a number from 1")
        for name in (
            "retain_every",
            *(
                "poll",
                "heartbeat",
                "silence",
                "sweep",
                "lease",
                "schedule_grace",
                "request_expiry",
                "login_age",
                "login_idle",
            ),
            *("webhook_timeout", "webhook_retry"),
            *("head_timeout", "body_timeout", "write_timeout"),
        ):
            if not getattr(self, name) > 0:
                raise ConfigurationError(name, getattr(self, name), "is not a positive duration")

    def _check_access(self) -> None:
        for name in ("token", "read_token"):
            token = getattr(self, name)
            # the value is a secret: it is not shown
            if token is not None and not (
                token.isascii() and token.isprintable() and token.strip() == token
            ):
                raise ConfigurationError(name, "…", "is not a token of printable ASCII characters")
        if self.read_token and not self.token:
            raise ConfigurationError("read_token", "…", "is of no use without a token")
        if self.read_token and self.read_token == self.token:
            raise ConfigurationError("read_token", "…", "is the same as the token")
        for origin in self.allow_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigurationError(
                    "allow_origins", origin, "is not an origin like https://x.example"
                )
