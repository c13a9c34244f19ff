"""The tables. Times are milliseconds since the epoch (UTC); JSON is kept as text.

``run`` has a small integer key beside its public id, because every task and log row repeats it. Rows of
``task`` stay small so that a run of a million tasks can be listed: results and tracebacks, which few tasks
have and which may be large, live in ``task_detail``, and attempts that another one followed in ``task_attempt``.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    UniqueConstraint,
    text,
)

SCHEMA_VERSION = 3

metadata = MetaData()

# compared and ordered by code points on PostgreSQL, too, whatever its locale
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

# SQLite numbers rows by itself only in a column that is exactly INTEGER PRIMARY KEY
_Key = BigInteger().with_variant(Integer, "sqlite")


def _run_key(**more: Any) -> Column[int]:
    return Column("run", _Key, ForeignKey("run.key", ondelete="CASCADE"), **more)


meta = Table("meta", metadata, Column("name", Text, primary_key=True), Column("value", Text))

flow = Table(
    "flow",
    metadata,
    Column("id", Text, primary_key=True),
    Column("client", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("tasks", Text, nullable=False),
    Column("parameters", Text),
    Column("edges", Text),
    Column("schedule", Text),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    # a run goes on where the one before it failed: its client keeps the results
    Column("resumes", SmallInteger, nullable=False, server_default="0"),
    UniqueConstraint("client", "name"),
    Index("flow_name", "name"),
)

run = Table(
    "run",
    metadata,
    Column("key", _Key, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("flow_id", Text),
    Column("flow_name", Text, nullable=False),
    Column("client", Text, nullable=False),
    # the session that may report on it; null until a triggered run is claimed
    Column("session", Text),
    Column("state", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("configuration", Text, nullable=False),
    Column("parameters", Text),
    Column("parent", Text),
    # the run that it repeats
    Column("retry_of", Text),
    Column("tags", Text, nullable=False),
    # what lists are ordered by: when it started, or was created while it has not
    Column("at", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("started", BigInteger),
    Column("ended", BigInteger),
    Column("modified", BigInteger, nullable=False),
    Column("progress", Float, nullable=False),
    # FAILED or COMPLETED was concluded from silence, and the client may still correct it
    Column("inferred", SmallInteger, nullable=False),
    # the client has said its last word: tasks are trimmed, statistics counted
    Column("settled", SmallInteger, nullable=False),
    Column("cancel", BigInteger),
    Column("reason", Text),
    Column("error", Text),
    Column("tasks", Integer, nullable=False),
    Column("lines", Integer, nullable=False),
    Index("run_at", "at", "key"),
    Index("run_state_at", "state", "at", "key"),
    Index("run_flow_at", "flow_id", "at", "key"),
    Index("run_flow_state_at", "flow_id", "state", "at", "key"),
    Index("run_client_at", "client", "at", "key"),
    Index("run_client_state_at", "client", "state", "at", "key"),
    Index(
        "run_unsettled",
        "session",
        sqlite_where=text("settled = 0"),
        postgresql_where=text("settled = 0"),
    ),
    sqlite_autoincrement=True,
)

run_tag = Table(
    "run_tag",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("at", BigInteger, primary_key=True),
    _run_key(primary_key=True),
    Index("run_tag_run", "run"),
    Index("run_tag_name_at", "name", "at", "run"),
    sqlite_with_rowid=False,
)

task = Table(
    "task",
    metadata,
    _run_key(primary_key=True, autoincrement=False),
    Column("idx", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("started", BigInteger),
    Column("ended", BigInteger),
    Column("duration", BigInteger),
    Column("estimate", BigInteger, nullable=False),
    Column("weight", Float),
    Column("crucial", SmallInteger, nullable=False),
    Column("progress", Float),
    Column("map_index", Integer),
    Column("upstream", Text),
    Column("reason", Text),
    Column("inferred", SmallInteger, nullable=False),
    Column("slow", SmallInteger, nullable=False),
    sqlite_with_rowid=False,
)

task_detail = Table(
    "task_detail",
    metadata,
    _run_key(primary_key=True, autoincrement=False),
    Column("idx", Integer, primary_key=True, autoincrement=False),
    Column("result", Text),
    Column("error", Text),
)

task_attempt = Table(
    "task_attempt",
    metadata,
    _run_key(primary_key=True, autoincrement=False),
    Column("idx", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("started", BigInteger),
    Column("ended", BigInteger),
    Column("error", Text),
    Column("reason", Text),
    Column("worker", Text),
)

log = Table(
    "log",
    metadata,
    _run_key(primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("task", Integer),
    Column("stream", Text, nullable=False),
    Column("level", Text),
    Column("at", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    sqlite_with_rowid=False,
)

session = Table(
    "session",
    metadata,
    Column("id", Text, primary_key=True),
    Column("client", Text, nullable=False),
    # the newest event sequence number that is committed
    Column("seq", BigInteger, nullable=False),
    # silence of this session means something
    Column("monitored", SmallInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
)

session_flow = Table(
    "session_flow",
    metadata,
    Column("session", Text, primary_key=True),
    Column("flow_id", Text, primary_key=True),
    sqlite_with_rowid=False,
)

# when sessions were last heard of, as far as several backends must know it, or retention
seen = Table(
    "seen",
    metadata,
    Column("session", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("by", Text),
    Column("facts", Text),
    Index("seen_at", "at"),
)

# flows that may have requests to give out, in turn: whoever was served longest ago comes first
queue = Table(
    "queue",
    metadata,
    Column("flow_id", Text, primary_key=True),
    Column("turn", BigInteger, nullable=False),
    # no connected client has the flow
    Column("lonely", SmallInteger, nullable=False),
    Index("queue_turn", "turn"),
)

request = Table(
    "request",
    metadata,
    Column("key", _Key, primary_key=True),
    _run_key(nullable=False, unique=True),
    Column("flow_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("session", Text),
    Column("lease", Text),
    Column("lease_until", BigInteger),
    Column("offers", Integer, nullable=False),
    Column("created", BigInteger, nullable=False),
    Index("request_flow_state", "flow_id", "state", "key"),
    Index("request_state", "state", "key"),
    sqlite_autoincrement=True,
)

schedule = Table(
    "schedule",
    metadata,
    Column("id", Text, primary_key=True),
    Column("flow_id", Text, ForeignKey("flow.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("expression", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("catchup", Text, nullable=False),
    Column("overlap", Text, nullable=False),
    # of its runs
    Column("configuration", Text, nullable=False),
    Column("parameters", Text),
    Column("paused", SmallInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    # slots up to here are dealt with, and the first one after that
    Column("cursor", BigInteger, nullable=False),
    Column("next", BigInteger),
    Index("schedule_next", "next"),
)

# the key is what keeps a slot from being run twice, whoever tries
schedule_slot = Table(
    "schedule_slot",
    metadata,
    Column("schedule", Text, ForeignKey("schedule.id", ondelete="CASCADE"), primary_key=True),
    Column("slot", BigInteger, primary_key=True, autoincrement=False),
    Column("run", _Key, ForeignKey("run.key", ondelete="SET NULL")),
    # why it was left out
    Column("reason", Text),
    Column("at", BigInteger, nullable=False),
    Index("schedule_slot_run", "run"),
    sqlite_with_rowid=False,
)

# task "" is the flow as a whole
statistic = Table(
    "statistic",
    metadata,
    Column("flow_id", Text, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("samples", BigInteger, nullable=False),
    Column("mean", Float, nullable=False),
    Column("m2", Float, nullable=False),
    Column("runs", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("key", _Key, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("run_id", Text),
    Column("session", Text),
    Column("action", Text, nullable=False),
    Column("detail", Text, nullable=False),
    # who asked for it; null where the backend did it by itself or a client reported it
    Column("kind", Text),
    Column("peer", Text),
    Column("login", Text),
    Index("audit_run", "run_id"),
)

# sessions of the page; the cookie itself is never kept, only what can be computed from it with the token
login = Table(
    "login",
    metadata,
    Column("mark", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=False),
)

# webhooks to be delivered, and the last that were
notification = Table(
    "notification",
    metadata,
    Column("key", _Key, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("flow_name", Text, nullable=False),
    # name of the webhook: its address may hold a secret
    Column("hook", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("finished", BigInteger),
    Column("error", Text),
    UniqueConstraint("run_id", "hook", "event"),
    Index("notification_state_due", "state", "due"),
    sqlite_autoincrement=True,
)
