"""Values kept by name, for a time: in memory or in a file."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from time import time
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from perfect.errors import ConfigurationError
from perfect.plain import Unfit, check_plain, check_text
from perfect.statefile import Entry, StateFile, dumps

if TYPE_CHECKING:
    from datetime import timedelta

LONGEST_TTL = 1e12  # s, 30,000 years: what lasts longer lasts for good


class StateManager:
    """Keeps values by name, for as long as they are told to last.

    Without a path it holds the very objects it is given, of any kind: who changes one changes what is
    kept. With a path it keeps copies in a JSON file, which other threads and processes may use at the same
    time; a value that JSON would not give back as it was is refused. The file and its folder appear at
    the first write, the file with mode 0600. A file that is damaged, or of a newer version, is set aside
    (``<file>.damaged-1``, ``<file>.newer-1``) with a warning.

    Args:
        storage_path: the file; ``~`` is the home folder. None keeps everything in memory.
        default_ttl: s, or a timedelta, that a value lasts unless it is told otherwise; None: for good.
        clock: s since the epoch. Values expire by the wall clock because processes share no other.

    Raises:
        ConfigurationError: an argument can't be used.
    """

    def __init__(
        self,
        storage_path: str | os.PathLike[str] | None = None,
        default_ttl: float | timedelta | None = None,
        *,
        clock: Callable[[], float] = time,
    ) -> None:
        self._file = None if storage_path is None else StateFile(storage_path)
        self._ttl = check_ttl("default_ttl", default_ttl)
        self._clock = clock
        self._entries: dict[str, Entry] = {}  # without a file
        self._sweep_at = 64  # entries; when there are so many of them, expired ones are dropped
        self._mutex = (
            threading.RLock()
        )  # what is dropped may have a __del__ that asks for something
        _watch_forks()
        _managers.add(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self._file is None else repr(self._file.path)})"

    def set(
        self,
        key: str,
        value: Any,
        ttl: float | timedelta | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep a value, in place of what the key had.

        Args:
            key: text.
            value: in memory anything; in a file None, bool, int, finite float, str, and lists and dicts of those.
            ttl: s, or a timedelta, that it lasts; None: the default; ``math.inf``: for good.
            metadata: facts about the value, by name; kept as the value is.

        Raises:
            ConfigurationError: an argument can't be used; of a value it names the part. Nothing is stored.
            StorageError: the file can't be written.
        """
        _check_key(key)
        self._put({key: value}, None, ttl, metadata)

    def update(
        self,
        values: Mapping[str, Any],
        ttl: float | timedelta | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep many values with one write: all of them or, after an error, none. Else it is like `set`."""
        if not isinstance(values, Mapping):
            raise ConfigurationError("values", values, "is not a mapping of keys to values")
        self._put(values, "values", ttl, metadata)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default if it has none that lasts still.

        Raises:
            StorageError: the file can't be read.
        """
        entry = self._find(key)
        return default if entry is None else self._unpacked(entry.value)

    def has(self, key: str) -> bool:
        """Whether the key has a value that lasts still."""
        return self._find(key) is not None

    def delete(self, key: str) -> bool:
        """Forget a key, and tell whether it had a value."""
        with self._mutex:
            if not self.has(key):
                return False
            with self._changing() as entries:
                return entries.pop(key, None) is not None

    def clear(self) -> None:
        """Forget everything."""
        with self._mutex:
            if self._read():
                with self._changing() as entries:
                    entries.clear()

    def get_all(self) -> dict[str, Any]:
        """Every value that lasts still, by its key."""
        with self._mutex:
            entries = self._lasting(self._read())
        return {key: self._unpacked(entry.value) for key, entry in entries.items()}

    def get_metadata(self, key: str) -> dict[str, Any] | None:
        """The facts that came with a value, {} if none did; None without a value that lasts still."""
        entry = self._find(key)
        return None if entry is None else dict(self._unpacked(entry.metadata))

    def invalidate_expired(self) -> int:
        """Drop what no longer lasts, and tell how many values that were."""
        with self._mutex:
            entries = self._read()
            if len(self._lasting(entries)) == len(entries):
                return 0
            with self._changing() as entries:
                lasting = self._lasting(entries)
                gone = entries.keys() - lasting.keys()
                for key in gone:
                    del entries[key]
                return len(gone)

    def _put(
        self,
        values: Mapping[str, Any],
        argument: str | None,
        ttl: float | timedelta | None,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        lasts = self._ttl if ttl is None else check_ttl("ttl", ttl)
        expires = None if lasts is None else self._clock() + lasts
        if metadata is not None and not isinstance(metadata, Mapping):
            raise ConfigurationError("metadata", metadata, "is not a mapping of names to facts")
        facts = dict(metadata or {})
        entries = {}
        for key, value in values.items():
            _check_key(key)
            name = "value" if argument is None else f"{argument}[{key!r}]"
            entries[key] = Entry(
                self._packed(value, name, key), expires, self._packed(facts, "metadata", key)
            )
        if entries:
            with self._mutex, self._changing() as kept:
                kept.update(entries)

    def _packed(self, value: Any, argument: str, key: str) -> Any:
        if self._file is None:
            return value
        try:
            check_plain(value)
        except Unfit as unfit:
            reason = f"can't be kept in a file, as {key!r}: {unfit.reason}"
            raise ConfigurationError(argument + unfit.place, unfit.value, reason) from None
        return dumps(value)

    def _unpacked(self, value: Any) -> Any:
        return value if self._file is None else json.loads(value)

    def _find(self, key: str) -> Entry | None:
        _check_key(key)
        with self._mutex:
            entry = self._read().get(key)
        return None if entry is None or entry.gone(self._clock()) else entry

    def _read(self) -> dict[str, Entry]:
        """The entries, expired ones too, not to be changed. Needs the mutex."""
        return self._entries if self._file is None else self._file.read()

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Entry]]:
        """The entries, to be changed; kept when the block is left. Needs the mutex."""
        if self._file is None:
            yield self._entries
            # Not at each change: a thousand of them would look at a thousand entries each.
            if len(self._entries) >= self._sweep_at:
                self._entries = self._lasting(self._entries)
                self._sweep_at = 2 * len(self._entries) + 64
            return
        with self._file.changing() as entries:
            yield entries
            for key in entries.keys() - self._lasting(entries).keys():
                del entries[key]

    def _lasting(self, entries: dict[str, Entry]) -> dict[str, Entry]:
        now = self._clock()
        return {key: entry for key, entry in entries.items() if not entry.gone(now)}


_managers: WeakSet[StateManager] = WeakSet()


@cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    for manager in _managers:  # the thread that held a mutex is not in this process
        manager._mutex = threading.RLock()


def check_ttl(argument: str, value: object) -> float | None:
    """A time to live in s, or None for good.

    Raises:
        ConfigurationError: it is neither seconds > 0 nor such a timedelta.
    """
    if value is None:
        return None
    total_seconds = getattr(value, "total_seconds", None)  # a timedelta's
    seconds = total_seconds() if callable(total_seconds) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ConfigurationError(argument, value, "is neither seconds > 0 nor a timedelta > 0")
    return None if seconds > LONGEST_TTL else float(seconds)


def _check_key(key: object) -> None:
    try:
        if type(key) is not str:
            raise Unfit(key, "is not text")
        check_text(key)
    except Unfit as unfit:
        raise ConfigurationError("key", key, unfit.reason) from None
