"""Flowkit's logging: coloured lines for a terminal or JSON lines, over Python's `logging`.

`configure_logging` turns it on; before, a record goes only to who asked `logging` for it. All of it happens at the
logger "perfect.flowkit": the root logger and those of others stay as they are.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from enum import IntEnum
from time import gmtime, localtime, strftime
from typing import Any, TextIO

from perfect.errors import ConfigurationError
from perfect.jsonable import snapshot

LOGGER = "perfect.flowkit"
CONTINUED = " " * 10  # under the message's tag, where the first line has its time


class LogLevel(IntEnum):
    """How much a line matters; a level shows itself and those above it."""

    DEBUG = 10
    INFO = 20
    SUCCESS = 25
    WARNING = 30
    ERROR = 40
    SYSTEM = 50  # logging's CRITICAL: never hidden


_TAGS = {LogLevel.WARNING: "WARN"}
_COLOURS = {  # SGR parameters, ECMA-48 8.3.117
    LogLevel.DEBUG: "2",
    LogLevel.INFO: "34",
    LogLevel.SUCCESS: "32",
    LogLevel.WARNING: "33",
    LogLevel.ERROR: "31",
    LogLevel.SYSTEM: "35",
}
_LEVELS = {int(level): level for level in LogLevel}


class FlowkitLogger:
    """Writes lines at Flowkit's levels.

    ``log.info("Received %d records.", 3, source="api")``: positional arguments fill the message as
    `logging` does it, named ones are fields: keys of a JSON line, ``source='api'`` behind a terminal's.
    ``exc_info=`` is `logging`'s.

    Args:
        name: the logger is "perfect.flowkit.<name>"; None: "perfect.flowkit".

    Raises:
        ConfigurationError: the name is not text, or empty.
    """

    __slots__ = ("_logger",)

    def __init__(self, name: str | None = None) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise ConfigurationError("name", name, "is not the name of a logger")
        top = _top()
        self._logger = top if name is None else top.getChild(name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def name(self) -> str:
        """The name of the `logging.Logger` underneath."""
        return self._logger.name

    def debug(self, message: object, /, *args: object, **fields: Any) -> None:
        """Write what only who looks for a fault wants to see."""
        self._write(LogLevel.DEBUG, message, args, fields)

    def info(self, message: object, /, *args: object, **fields: Any) -> None:
        """Write what happens."""
        self._write(LogLevel.INFO, message, args, fields)

    def success(self, message: object, /, *args: object, **fields: Any) -> None:
        """Write what has come to a good end."""
        self._write(LogLevel.SUCCESS, message, args, fields)

    def warning(self, message: object, /, *args: object, **fields: Any) -> None:
        """Write what may become an error."""
        self._write(LogLevel.WARNING, message, args, fields)

    def error(self, message: object, /, *args: object, **fields: Any) -> None:
        """Write what went wrong."""
        self._write(LogLevel.ERROR, message, args, fields)

    def exception(self, message: object, /, *args: object, **fields: Any) -> None:
        """Write what went wrong, with the traceback of the exception that is being handled."""
        self._write(LogLevel.ERROR, message, args, {"exc_info": True, **fields})

    def system(self, message: object, /, *args: object, **fields: Any) -> None:
        """Write what the engine itself does; no level hides it."""
        self._write(LogLevel.SYSTEM, message, args, fields)

    def log(self, level: LogLevel, message: object, /, *args: object, **fields: Any) -> None:
        """Write at a level.

        Raises:
            ConfigurationError: it is no LogLevel.
        """
        self._write(_checked(level), message, args, fields)

    def _write(
        self, level: LogLevel, message: object, args: tuple[object, ...], fields: dict[str, Any]
    ) -> None:
        if self._logger.isEnabledFor(level):
            exc_info = fields.pop("exc_info", None)
            # 3: the line that called our caller is the one that logs.
            extra = {"fields": fields}
            self._logger.log(
                int(level), message, *args, exc_info=exc_info, extra=extra, stacklevel=3
            )


class _Output(logging.StreamHandler[TextIO]):
    """Writes records as lines of one kind or the other."""

    def __init__(self, stream: TextIO | None, json_output: bool, use_colors: bool | None) -> None:
        super().__init__(stream)
        self._given = stream
        self._json = json_output
        self._colours = use_colors
        self._plain = logging.Formatter()  # formats tracebacks

    def emit(self, record: logging.LogRecord) -> None:
        # Looked up each time: what is redirected after configure_logging() is redirected, too.
        stream = sys.stderr if self._given is None else self._given
        if stream is not None:  # a process without a terminal may have none
            self.stream = stream
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        text = self._as_json(record) if self._json else self._as_line(record)
        # A character that the stream can't hold must not cost the line.
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return text.encode(encoding, "backslashreplace").decode(encoding)

    def _as_line(self, record: logging.LogRecord) -> str:
        level = _LEVELS.get(record.levelno)
        tag = record.levelname if level is None else _TAGS.get(level, level.name)
        tag = f"[{tag}]"
        if level is not None and self._coloured():
            tag = f"\x1b[{_COLOURS[level]}m{tag}\x1b[0m"
        text = record.getMessage()
        for name, value in _fields(record).items():
            text += f" {name}={snapshot(value)!r}"
        exception = self._exception(record)
        if exception:
            text += f"\n{exception}"
        text = text.replace("\n", f"\n{CONTINUED}")
        return f"{strftime('%H:%M:%S', localtime(record.created))}  {tag} {text}"

    def _as_json(self, record: logging.LogRecord) -> str:
        level = _LEVELS.get(record.levelno)
        seconds = strftime("%Y-%m-%dT%H:%M:%S", gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname if level is None else level.name,
            "logger": record.name,
            "message": record.getMessage(),
        }
        exception = self._exception(record)
        if exception:
            line["exception"] = exception
        for name, value in _fields(record).items():
            while name in line:
                name += "_"
            line[name] = value
        return json.dumps(snapshot(line))

    def _exception(self, record: logging.LogRecord) -> str:
        if not record.exc_info or record.exc_info[0] is None:
            return ""
        return self._plain.formatException(record.exc_info)

    def _coloured(self) -> bool:
        if self._colours is not None:
            return self._colours
        isatty = getattr(self.stream, "isatty", None)
        return not os.environ.get("NO_COLOR") and isatty is not None and bool(isatty())


_configuring = threading.Lock()


def configure_logging(
    level: LogLevel = LogLevel.INFO,
    json_output: bool = False,
    use_colors: bool | None = None,
    stream: TextIO | None = None,
) -> FlowkitLogger:
    """Turn Flowkit's logging on, or change it.

    Its records no longer go on to the root logger's handlers, or a program with handlers of its own would show
    each line twice; ``logging.getLogger("perfect.flowkit").propagate = True`` undoes that.

    Args:
        level: what is below it is not shown, nor told to a tracked run.
        json_output: one JSON object a line (time in UTC, level, logger, message, exception, fields)
            in place of ``14:30:05  [INFO] message`` (local time).
        use_colors: None: if the stream is a terminal and NO_COLOR (no-color.org) is unset or empty.
            True and False are stronger than both. JSON lines have no colours.
        stream: where lines go; None: `sys.stderr`, as it is when a line is written.

    Returns:
        The logger "perfect.flowkit".

    Raises:
        ConfigurationError: an argument is of the wrong type.
    """
    _checked(level)
    for argument, value in (("json_output", json_output), ("use_colors", use_colors)):
        if not isinstance(value, bool) and (value is not None or argument == "json_output"):
            raise ConfigurationError(argument, value, "is neither True nor False")
    if stream is not None and not callable(getattr(stream, "write", None)):
        raise ConfigurationError("stream", stream, "is nothing that text can be written to")
    top = _top()
    with _configuring:
        kept = [handler for handler in top.handlers if not isinstance(handler, _Output)]
        # In one step: a line that another thread writes now goes to the former or the new one.
        top.handlers = [*kept, _Output(stream, json_output, use_colors)]
        top.setLevel(int(level))
        top.propagate = False
    return FlowkitLogger()


def get_logger(name: str | None = None) -> FlowkitLogger:
    """The logger of a name below "perfect.flowkit", or that one itself.

    Raises:
        ConfigurationError: the name is not text, or empty.
    """
    return FlowkitLogger(name)


def is_configured() -> bool:
    """Whether `configure_logging` was called in this process."""
    return any(isinstance(handler, _Output) for handler in _top().handlers)


def _top() -> logging.Logger:
    logger = logging.getLogger(LOGGER)
    if not logger.handlers:
        # Without any handler logging would write warnings to stderr by itself.
        logger.addHandler(logging.NullHandler())
        # What a tracked run hears is named by logging, which has no name for this level.
        if logging.getLevelName(int(LogLevel.SUCCESS)) == f"Level {int(LogLevel.SUCCESS)}":
            logging.addLevelName(int(LogLevel.SUCCESS), LogLevel.SUCCESS.name)
    return logger


def _checked(level: object) -> LogLevel:
    if not isinstance(level, LogLevel):
        raise ConfigurationError("level", level, "is no LogLevel, as LogLevel.INFO is one")
    return level


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "fields", None)  # records of plain loggers below ours have none
    return fields if isinstance(fields, dict) else {}
