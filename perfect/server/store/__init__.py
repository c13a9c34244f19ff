"""What is kept: tables, queries and the one writer."""

from perfect.server.store.database import Database
from perfect.server.store.writer import Overloaded, StoreFailed, Transaction, Writer

__all__ = ["Database", "Overloaded", "StoreFailed", "Transaction", "Writer"]
