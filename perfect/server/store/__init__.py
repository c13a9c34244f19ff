"""What is kept: tables, queries and the one writer."""

from perfect.server.store.changes import Watch
from perfect.server.store.database import Database
from perfect.server.store.opening import open_database
from perfect.server.store.writer import Overloaded, StoreFailed, Transaction, Writer

__all__ = [
    "Database",
    "Overloaded",
    "StoreFailed",
    "Transaction",
    "Watch",
    "Writer",
    "open_database",
]
