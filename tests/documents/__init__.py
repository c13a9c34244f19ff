"""The documents that say what perfect must do, as they were given."""

from pathlib import Path

HERE = Path(__file__).parent
