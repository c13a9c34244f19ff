"""Attempts of tasks; edges are checked, so clients register theirs anew."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """From schema 1, which only SQLite has had."""
    op.create_table(
        "task_attempt",
        sa.Column(
            "run", sa.Integer, sa.ForeignKey("run.key", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("idx", sa.Integer, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("started", sa.BigInteger),
        sa.Column("ended", sa.BigInteger),
        sa.Column("error", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("worker", sa.Text),
        if_not_exists=True,
    )
    op.create_index(
        "run_client_state_at", "run", ["client", "state", "at", "key"], if_not_exists=True
    )
    op.execute("UPDATE flow SET edges = NULL")
