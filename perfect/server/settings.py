"""What the backend can be told: where it listens, where it keeps its data, its limits and its durations."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from perfect.errors import ConfigurationError


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
    """

    body: int = 16 * 1024 * 1024
    log_line: int = 64 * 1024
    name: int = 200
    tags: int = 50
    tag: int = 200
    index_gap: int = 1_000
    tasks: int = 1_000_000
    depth: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Everything that distinguishes one backend from another. Durations are in seconds.

    Attributes:
        host: address to listen on; any but loopback needs a token.
        port: port to listen on; 0 takes a free one.
        db: path of the SQLite file or ``sqlite:///`` URL; None is ``PERFECT_HOME/perfect.db``.
        base_path: path below which everything is served ("" or "/x"), for a reverse proxy.
        token: when set, every request must carry it.
        allowed_hosts: further host names under which this backend may be addressed.
        limits: how much one client may send.
        poll: how long a long poll stays open.
        heartbeat: how often a client with an active run should beat; announced in the handshake.
        silence: after how much silence a session's active runs are failed.
        sweep: how often silence and leases are looked at.
        lease: how long a native poller has to claim a request.
        body_timeout: how long a request body may take to arrive.
        queue_bytes: bytes that may wait for the writer before clients are told to come back.
        report_logs: log lines shown in a report; the rest is counted and linked.
        report_tasks: tasks shown in a report, failed ones first in line.
    """

    host: str = "127.0.0.1"
    port: int = 3000
    db: str | os.PathLike[str] | None = None
    base_path: str = ""
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    poll: float = 30.0
    heartbeat: float = 3.0
    # half a second under the promised 10 s, so that a killed client's run has failed within them
    silence: float = 9.5
    sweep: float = 1.0
    lease: float = 15.0
    body_timeout: float = 30.0
    queue_bytes: int = 64 * 1024 * 1024
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
        for name in ("poll", "heartbeat", "silence", "sweep", "lease", "body_timeout"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(name, getattr(self, name), "is not a positive duration")
