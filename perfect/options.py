"""What a task may be told beside its function: retries, conditions, limits, reuse; checked here, once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import Any

from perfect.errors import ConfigurationError
from perfect.tasks import BACKOFF, Task, TaskOptions

DEFAULT_JITTER = 0.1
LONGEST = 366 * 86_400.0  # s, what a delay or timeout may be


def apply(
    task: Task[..., Any],
    retries: Any,
    max_retries: Any,
    delay: Any,
    retry_delay: Any,
    backoff: Any,
    jitter: Any,
    retry_on: Any,
    when: Any,
    timeout: Any,
    cache: Any,
    trigger: Any,
    state_handlers: Any,
    on_failure: Any,
) -> None:
    """Set what was given on the task; the arguments are those of `Task`.

    Raises:
        ConfigurationError: one of them can't be used.
    """
    if max_retries is not None:
        if retries and retries != max_retries:
            raise ConfigurationError("max_retries", max_retries, f"retries={retries!r} says else")
        task.retries = _count("max_retries", max_retries)
    else:
        task.retries = _count("retries", retries)
    growth = _number("backoff", backoff, least=1.0, most=1e6)
    if retry_delay is None:
        task.delay, task.backoff = seconds("delay", delay), growth
    else:
        task.delay = seconds("retry_delay", retry_delay)
        # The very object that is the default: nobody gave it.
        task.backoff = 1.0 if backoff is BACKOFF else growth
    usual = DEFAULT_JITTER if retry_delay is None else 0.0
    task.jitter = usual if jitter is None else _number("jitter", jitter, least=0.0, most=1.0)
    task.retry_on = None if retry_on is None else _predicate(retry_on)
    task.when = _function("when", when)
    if timeout is not None:
        task.timeout = seconds("timeout", timeout)
        if not task.timeout:
            raise ConfigurationError("timeout", timeout, "is no time at all")
    task.cache = _cache(cache)
    task.trigger = _function("trigger", trigger)
    task.state_handlers = handlers(state_handlers, on_failure)
    task.is_guarded = bool(
        task.retries or task.when or task.timeout or task.cache or task.state_handlers
    )
    if task.is_generator:
        for name, given in (("retries", task.retries), ("timeout", timeout), ("cache", cache)):
            if given:
                raise ConfigurationError(
                    name,
                    given,
                    f"{task.name!r} is a generator, whose values are handed on as they come; "
                    "let the task return a list",
                )


def handlers(given: Any, on_failure: Any) -> tuple[Callable[..., Any], ...]:
    """State handlers and a failure notification as one row of handlers."""
    if callable(given) or not isinstance(given, Iterable):
        raise ConfigurationError("state_handlers", given, "is not a list of functions")
    found = tuple(given)
    for handler in found:
        if not callable(handler):
            raise ConfigurationError("state_handlers", handler, "is not a function")
    if on_failure is None:
        return found
    notify = _function("on_failure", on_failure)
    assert notify is not None

    def on_failed(subject: Any, old: Any, new: Any) -> None:
        if new.is_failed():
            notify(subject, new)

    return (*found, on_failed)


def copied(task: Task[..., Any], changes: TaskOptions) -> Task[..., Any]:
    """A task like another, with some options changed."""
    made = object.__new__(type(task))
    made.__dict__.update(task.__dict__)
    made.__dict__.pop("wires", None)
    given: dict[str, Any] = dict(changes)
    if given:
        options = ("name", "description", "estimated_time", "weight", "crucial_pass")
        later = ("retries", "delay", "backoff", "jitter", "retry_on", "when", "timeout", "cache")
        kept = {name: getattr(task, name) for name in (*options, *later, "trigger")}
        kept["state_handlers"] = task.state_handlers
        if "max_retries" in given:
            del kept["retries"]
        # Not `__init__`: a subclass's own may want arguments that are no longer known.
        Task.__init__(made, task.func, **{**kept, **given})
    if task.func is None:
        made.body = made.run
    return made


def seconds(argument: str, value: Any) -> float:
    """A time in s, given as a number or a timedelta: 0 or more, up to a year."""
    if callable(getattr(value, "total_seconds", None)):
        value = value.total_seconds()
    return _number(argument, value, least=0.0, most=LONGEST)


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

    def is_one(error: BaseException) -> bool:
        return isinstance(error, kinds)

    return is_one


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
