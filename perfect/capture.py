"""stdout, stderr and logging of a run, line by line.

While a run is active anywhere in the process, `sys.stdout` and `sys.stderr` are stood in for and
logging's record factory is wrapped; both pass everything on first, so the terminal shows what it
always showed. Logging is heard at the record factory because a handler on the root logger would
silence logging's last-resort output and make `logging.basicConfig()` a no-op for user code.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from perfect import terminal
from perfect.context import Scope, call_plainly, current, find_scope

# A StreamHandler that writes to a stand-in writes what the record factory has heard already.
_HANDLER_WRITE = logging.StreamHandler.emit.__code__


class _StandIn:
    """Stands in for sys.stdout or sys.stderr: writes through, then feeds the scope."""

    def __init__(self, original: TextIO | None, stream: str) -> None:
        self.original = original
        self.stream = stream
        self._write = None if original is None else original.write

    def write(self, text: str) -> int:
        if terminal.is_live():
            with terminal.lock:
                terminal.give_way(text)
                written = self._through(text)
                self.flush()
        else:
            written = self._through(text)
        scope = find_scope()
        if scope is not None and sys._getframe(1).f_code is not _HANDLER_WRITE:
            scope.feed(self.stream, text)
        return written

    def _through(self, text: str) -> int:
        return len(text) if self._write is None else self._write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self.original is not None:
            self.original.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


_lock = threading.Lock()
_users = 0
_former_factory: Callable[..., logging.LogRecord] | None = None


def begin() -> None:
    """Start capturing; every `begin` needs its `end`."""
    global _users, _former_factory
    with _lock:
        _users += 1
        for name in ("stdout", "stderr"):
            # Looked at for each run: someone may have replaced the stream since the last.
            if not isinstance(getattr(sys, name), _StandIn):
                setattr(sys, name, _StandIn(getattr(sys, name), name))
        if logging.getLogRecordFactory() is not _record_factory and _former_factory is None:
            _former_factory = logging.getLogRecordFactory()
            logging.setLogRecordFactory(_record_factory)


def end() -> None:
    """Stop capturing when the last user has ended; what was there before is put back."""
    global _users, _former_factory
    with _lock:
        _users -= 1
        if _users:
            return
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if isinstance(stream, _StandIn):
                setattr(sys, name, stream.original)
        # Someone may have wrapped ours meanwhile: then it stays, and only passes on.
        if logging.getLogRecordFactory() is _record_factory and _former_factory is not None:
            logging.setLogRecordFactory(_former_factory)
            _former_factory = None


def _record_factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = (_former_factory or logging.LogRecord)(*args, **kwargs)
    scope = find_scope()
    if scope is not None and record.name is not None:
        try:
            _emit_record(scope, record)
        except Exception:  # a format that does not fit its arguments: logging itself reports it
            pass
    return record


def _emit_record(scope: Scope, record: logging.LogRecord) -> None:
    text = record.getMessage()
    if record.name != "root":
        text = f"{record.name}: {text}"
    if record.exc_info and record.exc_info[0] is not None:
        text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
    for line in text.split("\n"):
        scope.emit("logging", record.levelname, line)


class LogCapture(Scope):
    """Hands every line that this thread prints or logs to a function; the terminal still shows it.

    ``with LogCapture(lines.append): print("hello")`` — inside a run, the run gets the lines as well.

    Args:
        on_line: called with each whole line, without its newline.
    """

    __slots__ = ("_on_line", "_outer", "_token")

    def __init__(self, on_line: Callable[[str], object]) -> None:
        self._on_line = on_line
        self.partials = {}

    def __enter__(self) -> LogCapture:
        self._outer = find_scope()
        self.caller = call_plainly if self._outer is None else self._outer.caller
        begin()
        self._token = current.set(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.flush_lines()
        current.reset(self._token)
        end()

    def emit(self, stream: str, level: str, text: str) -> None:
        self._on_line(text)
        if self._outer is not None:
            self._outer.emit(stream, level, text)

    def report_progress(self, fraction: float) -> None:
        if self._outer is not None:
            self._outer.report_progress(fraction)
