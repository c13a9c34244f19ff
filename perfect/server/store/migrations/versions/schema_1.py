"""The first schema: where databases that it made begin."""

revision = "1"
down_revision = None


def upgrade() -> None:
    """Nothing comes before it."""
