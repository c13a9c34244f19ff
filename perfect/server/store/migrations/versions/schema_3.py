"""Schedules, turns of flows, retries, notifications, who did what, sessions of the page, signs of life."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """From schema 2, which only SQLite has had."""
    op.add_column("flow", sa.Column("resumes", sa.SmallInteger, nullable=False, server_default="0"))
    op.add_column("run", sa.Column("retry_of", sa.Text))
    for name in ("kind", "peer", "login"):
        op.add_column("audit", sa.Column(name, sa.Text))
    op.create_index("run_tag_name_at", "run_tag", ["name", "at", "run"])
    op.create_table(
        "login",
        sa.Column("mark", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("used", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "queue",
        sa.Column("flow_id", sa.Text, primary_key=True),
        sa.Column("turn", sa.BigInteger, nullable=False),
        sa.Column("lonely", sa.SmallInteger, nullable=False),
    )
    op.create_index("queue_turn", "queue", ["turn"])
    op.create_table(
        "seen",
        sa.Column("session", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text),
        sa.Column("facts", sa.Text),
    )
    op.create_index("seen_at", "seen", ["at"])
    op.create_table(
        "schedule",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column(
            "flow_id",
            sa.Text,
            sa.ForeignKey("flow.id", ondelete="CASCADE"),
            nullable=False,
            unique=True,
        ),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("expression", "zone", "catchup", "overlap", "configuration")
        ),
        sa.Column("parameters", sa.Text),
        sa.Column("paused", sa.SmallInteger, nullable=False),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("created", "updated", "cursor")
        ),
        sa.Column("next", sa.BigInteger),
    )
    op.create_index("schedule_next", "schedule", ["next"])
    op.create_table(
        "schedule_slot",
        sa.Column(
            "schedule", sa.Text, sa.ForeignKey("schedule.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("slot", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("run", sa.Integer, sa.ForeignKey("run.key", ondelete="SET NULL")),
        sa.Column("reason", sa.Text),
        sa.Column("at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("schedule_slot_run", "schedule_slot", ["run"])
    op.create_table(
        "notification",
        sa.Column("key", sa.Integer, primary_key=True),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("run_id", "flow_name", "hook", "event", "body", "state")
        ),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due", sa.BigInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("finished", sa.BigInteger),
        sa.Column("error", sa.Text),
        sa.UniqueConstraint("run_id", "hook", "event"),
        sqlite_autoincrement=True,
    )
    op.create_index("notification_state_due", "notification", ["state", "due"])
