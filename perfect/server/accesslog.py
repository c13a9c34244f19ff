"""The access log: JSON lines, written by a thread so that a slow reader of them holds nobody up."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import Any, TextIO

import orjson

_MOST = 10_000


class AccessLog:
    """Writes entries in order; when the reader is too slow, some are dropped and counted.

    Args:
        to: where to write; standard output when None.
    """

    def __init__(self, to: TextIO | None = None) -> None:
        self._to = to or sys.stdout
        self._entries: deque[dict[str, Any]] = deque()
        self._dropped = 0
        self._closing = False
        self._ready = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="perfect-access-log", daemon=True)
        self._thread.start()

    def write(self, entry: dict[str, Any]) -> None:
        """Queue an entry."""
        with self._ready:
            if len(self._entries) >= _MOST:
                self._dropped += 1
                return
            self._entries.append(entry)
            self._ready.notify()

    def close(self, seconds: float = 1.0) -> None:
        """Write what is queued, for at most so many seconds."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while entries := self._take():
            try:
                self._to.write("".join(f"{orjson.dumps(entry).decode()}\n" for entry in entries))
                self._to.flush()
            except (OSError, ValueError):
                return  # nobody reads any more

    def _take(self) -> list[dict[str, Any]]:
        with self._ready:
            while not self._entries and not self._closing:
                self._ready.wait()
            entries = list(self._entries)
            self._entries.clear()
            if self._dropped:
                entries.append({"dropped": self._dropped})
                self._dropped = 0
            return entries
