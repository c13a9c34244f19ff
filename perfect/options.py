"""What a task may be told beside its function: retries, conditions, limits, reuse; checked here, once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import Any

from perfect.definitions import check_ms, check_name, check_text
from perfect.errors import ConfigurationError
from perfect.tasks import _NO_OPTIONS, NOTES, Task, TaskOptions

LONGEST = 366 * 86_400.0  # s, what a delay or timeout may be

# In the order of `Task`'s arguments.
_NAMES = (
    *("retries", "max_retries", "delay", "retry_delay", "backoff", "jitter", "retry_on", "when"),
    *("timeout", "cache", "trigger", "state_handlers", "on_failure"),
)


def apply(task: Task[..., Any], values: tuple[Any, ...]) -> None:
    """Set what a new task was given; the values are those of `Task`'s arguments, in their order.

    Raises:
        ConfigurationError: one of them can't be used.
    """
    # The very object that is the default: nobody gave it.
    rows = zip(_NAMES, values, _NO_OPTIONS, strict=True)
    change(task, {name: value for name, value, default in rows if value is not default})


def change(task: Task[..., Any], given: dict[str, Any]) -> None:
    """Set the options that are given, and leave the others as they are.

    Raises:
        ConfigurationError: one of them can't be used.
    """
    retries, again = given.get("retries", 0), given.get("max_retries")
    if again is not None:
        if retries and retries != again:
            raise ConfigurationError("max_retries", again, f"retries={retries!r} says else")
        task.retries = _count("max_retries", again)
    elif "retries" in given:
        task.retries = _count("retries", retries)
    if "delay" in given:
        task.delay = seconds("delay", given["delay"])
    if given.get("retry_delay") is not None:
        if "delay" in given and given["delay"] != given["retry_delay"]:
            said = given["delay"]
            raise ConfigurationError(
                "retry_delay", given["retry_delay"], f"delay={said!r} says else"
            )
        # A constant pause, unless more is said.
        task.delay = seconds("retry_delay", given["retry_delay"])
        task.backoff, task.jitter = 1.0, 0.0
    if "backoff" in given:
        task.backoff = _number("backoff", given["backoff"], least=1.0, most=1e6)
    if given.get("jitter") is not None:
        task.jitter = _number("jitter", given["jitter"], least=0.0, most=1.0)
    if "retry_on" in given:
        task.retry_on = None if given["retry_on"] is None else _predicate(given["retry_on"])
    if "when" in given:
        task.when = _function("when", given["when"])
    if "timeout" in given:
        task.timeout = _timeout(given["timeout"])
    if "cache" in given:
        task.cache = _cache(given["cache"])
    if "trigger" in given:
        task.trigger = _function("trigger", given["trigger"])
    if "state_handlers" in given or "on_failure" in given:
        task.state_handlers = _handlers_after(task.state_handlers, given)
    if task.is_generator:
        _check_generator(task)
    has_work = task.func is not None or type(task).run is not Task.run
    # A task that has nothing to run is refused when it is called, and not tried again.
    task.is_guarded = has_work and bool(
        task.retries
        or task.when is not None
        or task.timeout is not None
        or task.cache is not None
        or task.state_handlers
    )
    task.is_plain = not (task.is_async or task.is_generator or task.is_guarded)


def handlers(given: Any, on_failure: Any) -> tuple[Callable[..., Any], ...]:
    """State handlers and a failure notification as one row of handlers.

    Raises:
        ConfigurationError: one of them is no function.
    """
    return _handlers_after((), {"state_handlers": given, "on_failure": on_failure})


def _handlers_after(
    before: tuple[Callable[..., Any], ...], given: dict[str, Any]
) -> tuple[Callable[..., Any], ...]:
    """The row of handlers, where either part of it is given anew."""
    notices = [handler for handler in before if type(handler) is _OnFailure]
    found = [handler for handler in before if type(handler) is not _OnFailure]
    if "state_handlers" in given:
        row = given["state_handlers"]
        if callable(row) or not isinstance(row, Iterable):
            raise ConfigurationError("state_handlers", row, "is not a list of functions")
        found = list(row)
        for handler in found:
            if not callable(handler):
                raise ConfigurationError("state_handlers", handler, "is not a function")
    if "on_failure" in given:
        notify = _function("on_failure", given["on_failure"])
        notices = [] if notify is None else [_OnFailure(notify)]
    return (*found, *notices)


class _OnFailure:
    """A state handler that tells of failures; a class, so that it can be pickled where `notify` can."""

    __slots__ = ("notify",)

    def __init__(self, notify: Callable[..., Any]) -> None:
        self.notify = notify

    def __call__(self, subject: Any, old: Any, new: Any) -> None:
        if new.is_failed():
            self.notify(subject, new)


def copied(task: Task[..., Any], changes: TaskOptions) -> Task[..., Any]:
    """A task like another, with some options changed.

    Raises:
        ConfigurationError: an option can't be used.
    """
    made = object.__new__(type(task))
    # Not `__init__`: a subclass's own may want arguments that are no longer known.
    made.__dict__.update((name, value) for name, value in vars(task).items() if name not in NOTES)
    made.__dict__["origin"] = task, changes
    if task.func is None:
        made.body = made.run
    rest: dict[str, Any] = dict(changes)
    for name, check in _FACTS.items():
        value = rest.pop(name, None)
        if value is not None:
            setattr(made, name, check(name, value))
        elif name == "weight" and name in changes:
            made.weight = None
    unknown = next((name for name in rest if name not in _NAMES), None)
    if unknown is not None:
        raise TypeError(f"copy() got an unexpected keyword argument {unknown!r}")
    if rest:
        change(made, rest)
    return made


def _flag(argument: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(argument, value, "is neither True nor False")
    return value


_FACTS: dict[str, Callable[[str, Any], Any]] = {
    "name": check_name,
    "description": lambda name, value: check_text(name, "", value),
    "estimated_time": check_ms,
    "weight": check_ms,
    "crucial_pass": _flag,
}


def _check_generator(task: Task[..., Any]) -> None:
    for name in ("retries", "timeout", "cache"):
        if getattr(task, name):
            raise ConfigurationError(
                name,
                getattr(task, name),
                f"{task.name!r} is a generator, whose values are handed on as they come; "
                "let the task return a list",
            )


def seconds(argument: str, value: Any) -> float:
    """A time in s, given as a number or a timedelta: 0 or more, up to a year."""
    if callable(getattr(value, "total_seconds", None)):
        value = value.total_seconds()
    return _number(argument, value, least=0.0, most=LONGEST)


def _timeout(given: Any) -> float | None:
    if given is None:
        return None
    limit = seconds("timeout", given)
    if not limit:
        raise ConfigurationError("timeout", given, "is no time at all")
    return limit


def _number(argument: str, value: Any, *, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(argument, value, "is not a number")
    if math.isnan(value) or not least <= value <= most:
        raise ConfigurationError(argument, value, f"is outside {least:g} to {most:g}")
    return float(value)


def _count(argument: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(argument, value, "is not a whole number")
    if value < 0:
        raise ConfigurationError(argument, value, "is negative")
    return value


def _function(argument: str, value: Any) -> Callable[..., Any] | None:
    if value is not None and not callable(value):
        raise ConfigurationError(argument, value, "is not a function")
    found: Callable[..., Any] | None = value
    return found


def _predicate(retry_on: Any) -> Callable[[BaseException], Any]:
    """Exception types become a predicate."""
    if isinstance(retry_on, Iterable) and not isinstance(retry_on, type):
        kinds: Any = tuple(retry_on)
    elif isinstance(retry_on, type):
        kinds = (retry_on,)
    elif callable(retry_on):
        predicate: Callable[[BaseException], Any] = retry_on
        return predicate
    else:
        raise ConfigurationError("retry_on", retry_on, "is neither exception types nor a function")
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ConfigurationError("retry_on", kind, "is not a type of exception")

    return _OneOf(kinds)


class _OneOf:
    """Whether an exception is of one of these types; a class, so that it can be pickled."""

    __slots__ = ("kinds",)

    def __init__(self, kinds: tuple[type[BaseException], ...]) -> None:
        self.kinds = kinds

    def __call__(self, error: BaseException) -> bool:
        return isinstance(error, self.kinds)


def _cache(given: Any) -> Any:
    if given is None or given is False:
        return None
    from perfect.caching import TaskCache  # json and more, which few tasks need
    from perfect.store import StateManager

    if isinstance(given, TaskCache):
        return given
    if given is True:
        from perfect.settings import default_home

        return TaskCache(StateManager(os.path.join(default_home(), "cache.json")))
    if isinstance(given, StateManager):
        return TaskCache(given)
    raise ConfigurationError("cache", given, "is neither a TaskCache, a StateManager, nor True")
