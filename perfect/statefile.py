"""One JSON file of named values, which threads and processes share.

An envelope with a version, and one line for each entry::

    {"version": 1, "entries": {
    "rows": {"value": [1, 2], "expires": 1767225600.0, "metadata": {}}
    }}

The file is replaced as a whole: a reader needs no lock, and a writer that is killed leaves the former file.
Writers take turns by a lock on ``<file>.lock``, which stays: removing a lock that somebody waits for makes it two.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import time_ns
from typing import Any, NamedTuple

from perfect.errors import ConfigurationError, StorageError

log = logging.getLogger("perfect")

VERSION = 1

dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


class _Damaged(Exception):
    """What a file holds can't be read; `word` is what it is called from then on."""

    def __init__(self, reason: str, word: str = "damaged") -> None:
        super().__init__(reason)
        self.word = word


class Entry(NamedTuple):
    """What is kept under a key: in memory the objects, of a file their JSON text.

    Text, because whoever reads it has a copy of his own, and because writing the others takes no encoding.
    """

    value: Any
    expires: float | None  # s since the epoch
    metadata: Any

    def gone(self, now: float) -> bool:
        return self.expires is not None and self.expires <= now


class StateFile:
    """The entries of a file. Not safe from threads by itself.

    Args:
        path: appears, with its folder, at the first write.

    Raises:
        ConfigurationError: it is no path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
        if not isinstance(text, str) or not text or "\0" in text:
            raise ConfigurationError("storage_path", path, "is not the path of a file")
        # Absolute and without links: it stays the same file when the working folder changes, and
        # is locked by one name.
        self.path = os.path.realpath(os.path.expanduser(text))
        self._entries: dict[str, Entry] = {}
        self._seen: tuple[int, int, int] | None = None  # the file that they are the content of

    def read(self) -> dict[str, Entry]:
        """The entries as they are now, not to be changed.

        Raises:
            StorageError: the file can't be read.
        """
        try:
            return self._load()
        except _Damaged:
            with self._lock():
                return self._load_or_set_aside()

    @contextmanager
    def changing(self) -> Iterator[dict[str, Entry]]:
        """The entries, to be changed; written when the block is left without an error.

        Raises:
            StorageError: the file can't be read or written; then it is as it was.
        """
        with self._lock():
            entries = dict(self._load_or_set_aside())
            yield entries
            self._write(entries)

    def _load(self) -> dict[str, Entry]:
        try:
            if self._seen is not None and _signature(os.stat(self.path)) == self._seen:
                return self._entries
            with open(self.path, "rb") as file:
                seen = _signature(os.fstat(file.fileno()))
                data = file.read()
        except FileNotFoundError:
            self._entries, self._seen = {}, None
            return self._entries
        except OSError as error:
            raise StorageError(self.path, "read", error) from None
        self._entries, self._seen = _parsed(data), seen
        return self._entries

    def _load_or_set_aside(self) -> dict[str, Entry]:
        """The entries; a file that has none to be read is renamed. Needs the lock."""
        try:
            return self._load()
        except _Damaged as damage:
            number = 1
            while os.path.lexists(aside := f"{self.path}.{damage.word}-{number}"):
                number += 1
            try:
                os.rename(self.path, aside)
            except OSError as error:
                raise StorageError(self.path, "set aside", error) from None
            log.warning("%s %s: it is now %s", self.path, damage, aside)
            return self._load()

    def _write(self, entries: dict[str, Entry]) -> None:
        """Replace the file. Needs the lock."""
        lines = ",\n".join(
            f'{dumps(key)}: {{"value": {entry.value}, "expires": {dumps(entry.expires)}, '
            f'"metadata": {entry.metadata}}}'
            for key, entry in entries.items()
        )
        new = f"{self.path}.new"  # always the same: what a killed writer left is written over
        # Files are told apart by inode, time and size. Inodes are used again and a file system's clock
        # stands still for ms; a time past the former file's makes each of them another one.
        stamp = max(time_ns(), self._seen[1] + 1 if self._seen is not None else 0)
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(f'{{"version": {VERSION}, "entries": {{\n{lines}\n}}}}\n'.encode())
                file.flush()
                # Without it a power cut may leave the name with none of the content. The folder is
                # not synced: the last write may be lost then, all of them may not.
                os.fsync(descriptor)
                os.utime(descriptor, ns=(stamp, stamp))
                seen = _signature(os.fstat(descriptor))
            os.replace(new, self.path)
        except OSError as error:
            with suppress(OSError):  # a disk that is full has no room for half a file
                os.unlink(new)
            raise StorageError(self.path, "written", error) from None
        self._entries, self._seen = entries, seen

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Held by one thread of one process."""
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(self.path, "written", error) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:  # a file system without locks
                raise StorageError(self.path, "locked", error) from None
            try:
                yield
            finally:
                # Closing is not enough if a child was forked meanwhile: it has the descriptor, too.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)


def _signature(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_mtime_ns, found.st_size


def _parsed(data: bytes) -> dict[str, Entry]:
    """The entries of a file's content.

    Raises:
        _Damaged: it is something else.
    """
    found = {}
    try:
        content = json.loads(data.decode())
        version = content.get("version") if isinstance(content, dict) else None
        if type(version) is int and version > VERSION:
            raise _Damaged(f"is of the newer version {version}", "newer")
        entries = content.get("entries") if version == VERSION else None
        if not isinstance(entries, dict):
            raise _Damaged("holds something else than state")
        for key, entry in entries.items():
            match entry:
                case {
                    "value": value,
                    "expires": int() | float() | None as expires,
                    "metadata": dict() as facts,
                }:
                    found[key] = Entry(dumps(value), expires, dumps(facts))
                case _:
                    raise _Damaged(f"has an entry {key!r} of the wrong shape")
            # What Python's decoder takes is more than can be written: lone surrogates, 1e999.
            f"{key}{found[key].value}{dumps(expires)}{found[key].metadata}".encode()
    except (ValueError, RecursionError) as error:
        raise _Damaged(f"is no JSON ({error})") from None
    return found
