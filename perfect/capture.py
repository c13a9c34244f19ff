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
import types
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from perfect import terminal
from perfect.context import Scope, PLAIN, current, find_scope
from perfect.errors import ConfigurationError

# A handler that writes to a stand-in writes what the record factory has heard already.
_EMITS = logging.StreamHandler.emit.__code__
_HANDLES = logging.Handler.handle.__code__
_HANDLER_DEPTH = 12  # frames between a handler and what it writes with, at most

_logged: set[int] = set()  # threads that made a record after they last wrote themselves


class _StandIn:
    """Stands in for sys.stdout or sys.stderr: writes through, then feeds the scope."""

    def __init__(self, original: TextIO | None, stream: str) -> None:
        self.original = original
        self.stream = stream
        self.bind()

    def bind(self) -> None:
        """Look up how the original writes; somebody may have changed that since the last run."""
        self._through: Callable[[str], int] = len if self.original is None else self.original.write

    def write(self, text: str) -> int:
        if terminal.line is None:
            written = self._through(text)
        else:
            with terminal.lock:
                terminal.give_way(text)
                written = self._through(text)
                self.flush()
        scope = current.get() or find_scope()
        if scope is not None:
            # Where another stand-in was put over a stream that leads here, that one feeds.
            if (
                sys.stdout is self
                or sys.stderr is self
                or type(getattr(sys, self.stream)) is not _StandIn
            ):
                writer = sys._getframe(1)
                if writer.f_code is not _EMITS and not (_logged and _by_handler(writer)):
                    scope.feed(self.stream, text)
        return written

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self.original is not None:
            self.original.flush()

    def __getattr__(self, name: str) -> Any:
        if name == "original":  # a copy that is being made has none yet
            raise AttributeError(name)
        return getattr(self.original, name)


def _by_handler(frame: types.FrameType | None) -> bool:
    """Whether what this frame writes comes out of a logging handler."""
    thread = threading.get_ident()
    if thread not in _logged:
        return False
    for _ in range(_HANDLER_DEPTH):
        if frame is None:
            break
        if frame.f_code is _HANDLES:
            return True
        frame = frame.f_back
    _logged.discard(thread)
    return False


_lock = threading.RLock()  # a signal handler may call a flow
_users = 0

# The last stand-ins, used again for the same streams. print() holds no reference to sys.stdout of its own
# (before CPython 3.13): a thread that is in one while the run ends would crash the process.
_kept: dict[str, _StandIn] = {}


def after_fork() -> None:
    """In a forked child: the stand-ins stay, whoever held the lock does not."""
    global _lock
    _lock = threading.RLock()


def begin() -> None:
    """Start capturing; every `begin` needs its `end`."""
    global _users
    with _lock:
        _users += 1
        for name in ("stdout", "stderr"):
            # Looked at for each run: someone may have replaced the stream since the last.
            stream = getattr(sys, name)
            if not isinstance(stream, _StandIn):
                kept = _kept.get(name)
                if kept is None or kept.original is not stream:
                    kept = _kept[name] = _StandIn(stream, name)
                kept.bind()
                setattr(sys, name, kept)
        factory = logging.getLogRecordFactory()
        if not isinstance(factory, _RecordFactory):
            logging.setLogRecordFactory(_RecordFactory(factory))


def end() -> None:
    """Stop capturing when the last user has ended; what was there before is put back."""
    global _users
    with _lock:
        _users -= 1
        if _users:
            return
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if isinstance(stream, _StandIn):
                setattr(sys, name, stream.original)
        _logged.clear()
        # Someone may have wrapped ours meanwhile: then it stays, and only passes on.
        factory = logging.getLogRecordFactory()
        if isinstance(factory, _RecordFactory):
            logging.setLogRecordFactory(factory.former)


class _RecordFactory:
    """Makes log records as the former factory does, and hears them."""

    _making = (
        threading.local()
    )  # where a user's factory lies between two of ours, the outer one hears

    def __init__(self, former: Callable[..., logging.LogRecord]) -> None:
        self.former = former

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        if getattr(self._making, "now", False):
            return self.former(*args, **kwargs)
        self._making.now = True
        try:
            record = self.former(*args, **kwargs)
        finally:
            self._making.now = False
        scope = find_scope()
        if scope is not None and record.name is not None:
            _logged.add(threading.get_ident())
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
    if record.stack_info:
        text += f"\n{record.stack_info}"
    for line in text.split("\n"):
        scope.emit("logging", record.levelname, line)


class LogCapture(Scope):
    """Hands every line that this thread prints or logs to a function; the terminal still shows it.

    ``with LogCapture(lines.append): print("hello")`` — inside a run, the run gets the lines as well.

    Args:
        on_line: called with each whole line, without its newline.

    Raises:
        ConfigurationError: `on_line` can't be called.
    """

    __slots__ = ("_on_line", "_outer", "_token")

    def __init__(self, on_line: Callable[[str], object]) -> None:
        if not callable(on_line):
            raise ConfigurationError("on_line", on_line, "is not a function")
        self._on_line = on_line
        self._outer: Scope | None = None
        self.partials = {}

    def __enter__(self) -> LogCapture:
        self._outer = find_scope()
        self.caller = PLAIN if self._outer is None else self._outer.caller
        begin()
        self._token = current.set(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        current.reset(self._token)
        end()
        self.flush_lines()

    @property
    def run(self) -> Any:
        return None if self._outer is None else self._outer.run

    def emit(self, stream: str, level: str, text: str) -> None:
        self._on_line(text)
        if self._outer is not None:
            self._outer.emit(stream, level, text)

    def report_progress(self, fraction: float) -> None:
        if self._outer is not None:
            self._outer.report_progress(fraction)
