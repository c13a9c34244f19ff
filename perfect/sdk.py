"""`@task` and `@flow`, and what goes with them.

A flow runs in the thread that calls it and returns its value. That it is reported, and that it can
be triggered again from the dashboard while the process lives, happens beside it.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from functools import update_wrapper
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from perfect.about import RunInfo
from perfect.context import cancellation, find_scope, propagate
from perfect.errors import ConfigurationError, NotFound
from perfect.schedules import CronSchedule, IntervalSchedule, check_schedule
from perfect.states import TaskState
from perfect.definitions import (
    ASYNC_GENERATOR,
    GENERATOR,
    TaskDefinition,
    TaskResult,
    WorkflowRegistry,
    check_configuration,
    check_name,
    check_parameters,
    check_tags,
    check_text,
    code_kind,
    first_line,
    get_registry,
)
from perfect.flows import FlowDefinition
from perfect.tasks import Task, task

if TYPE_CHECKING:
    from perfect.caching import TaskCache
    from perfect.capture import LogCapture
    from perfect.mapping import unmapped
    from perfect.redaction import Secret
    from perfect.settings import Settings
    from perfect.signals import RunCancelled
    from perfect.store import StateManager
    from perfect.ticker import Progress, watch_progress

P = ParamSpec("P")
R = TypeVar("R")

# `perfect.running` is imported where a flow is called, configured or served: a module that only defines
# flows imports in half the time.
_LATE = {
    "LogCapture": "capture",
    "Progress": "ticker",
    "RunCancelled": "signals",
    "Secret": "redaction",
    "StateManager": "store",
    "TaskCache": "caching",
    "unmapped": "mapping",
    "watch_progress": "ticker",
}

__all__ = [
    "CronSchedule",
    "Flow",
    "FlowDefinition",
    "IntervalSchedule",
    "LogCapture",
    "Progress",
    "RunCancelled",
    "RunInfo",
    "Secret",
    "StateManager",
    "Task",
    "TaskCache",
    "TaskDefinition",
    "TaskResult",
    "TaskState",
    "WorkflowRegistry",
    "cancelled",
    "configure",
    "connect",
    "current_run",
    "flow",
    "get_registry",
    "listen",
    "progress",
    "propagate",
    "run",
    "task",
    "unmapped",
    "watch_progress",
]


class Flow(Generic[P, R]):
    """A function whose runs are tracked; made by `flow`.

    Attributes:
        definition: its name, description, tasks, tags and schedule.
    """

    __name__: str

    def __init__(self, function: Callable[P, R], definition: FlowDefinition) -> None:
        update_wrapper(self, function)
        self.function = function
        self.definition = definition
        self.is_async = definition.is_async

    @property
    def name(self) -> str:
        return self.definition.name

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the flow in this thread and return its value.

        Raises:
            whatever the flow raises, after its run was marked FAILED.
        """
        from perfect.running import execute

        result: R = execute(self.definition, "development", args, kwargs)
        return result

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Let a flow stand in a class body as a method."""
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<Flow {self.name!r}>"


@overload
def flow(name: Callable[P, R], /) -> Flow[P, R]: ...


@overload
def flow(
    name: str | None = None,
    description: str | None = None,
    schedule: CronSchedule | None = None,
    *,
    tags: Mapping[str, str] | None = None,
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...


def flow(
    name: Callable[P, R] | str | None = None,
    description: str | None = None,
    schedule: CronSchedule | None = None,
    *,
    tags: Mapping[str, str] | None = None,
) -> Flow[P, R] | Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a function a flow: ``@flow`` or ``@flow(name="Daily ETL", tags={"team": "data"})``.

    Args:
        name: default: the function's name.
        description: default: the first line of its docstring.
        schedule: when the backend should trigger it, and with what.
        tags: up to 50 names and values of up to 200 characters, for filtering.

    Raises:
        ConfigurationError: an argument can't be used; it says which and why.
    """
    given = name if name is None or isinstance(name, str) else None
    if name is not None and given is None and not callable(name):
        raise ConfigurationError("name", name, "is not text")
    check_schedule(schedule)

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        if isinstance(function, (Task, Flow)) or not callable(function):
            raise ConfigurationError("func", function, "is not a function")
        if code_kind(function) in (GENERATOR, ASYNC_GENERATOR):
            raise ConfigurationError("func", function, "is a generator; let the flow return a list")
        definition = FlowDefinition(
            name=check_name("name", getattr(function, "__name__", "") if given is None else given),
            func=function,
            description=check_text("description", first_line(function.__doc__), description),
            tags=check_tags(tags),
            schedule=schedule,
        )
        definition.check_schedule()
        get_registry().register_flow(definition)
        return Flow(function, definition)

    return decorate(name) if callable(name) else decorate


def run(
    flow: Flow[..., Any] | str,
    *,
    configuration: str = "development",
    parameters: Mapping[str, Any] | None = None,
) -> Any:
    """Run a flow of this process with a configuration, and return its value.

    Args:
        flow: the flow, or the name of one that is registered.
        configuration: "development", "debug", "release" or free text.
        parameters: the flow's arguments by name.

    Raises:
        NotFound: no flow of that name is registered.
    """
    if isinstance(flow, str):
        definition = get_registry().get_flow(flow)
        if definition is None:
            known = ", ".join(sorted(get_registry().flows)) or "none"
            raise NotFound("flow", flow, f"registered: {known}")
    elif isinstance(flow, Flow):
        definition = flow.definition
    else:
        raise ConfigurationError("flow", flow, "is neither a flow nor the name of one")
    check_configuration(configuration)
    given = dict(check_parameters(parameters))
    from perfect.running import execute

    return execute(definition, configuration, (), given)


def configure(
    backend_url: str | None = None,
    client_id: str | None = None,
    mock: bool | None = None,
    *,
    api_key: str | None = None,
    home: str | None = None,
    memory_limit: int | None = None,
    redact: Iterable[str] | None = None,
    flush_timeout: float | None = None,
    shutdown_timeout: float | None = None,
) -> Settings:
    """Say where the backend is, before the first flow is called. What is not given stays as it was.

    Returns:
        The settings in force.

    Args:
        backend_url: default: ``http://localhost:3000`` (``PERFECT_BACKEND_URL``).
        client_id: the group this process belongs to (``PERFECT_CLIENT_ID``).
        mock: keep everything in memory: no socket, no thread, no disk (``PERFECT_MOCK``).
        api_key: bearer token (``PERFECT_API_KEY``).
        home: folder for configuration and undelivered events (``PERFECT_HOME``).
        memory_limit: bytes of undelivered events kept in memory, then on disk; default 16 MiB.
        redact: regular expressions of what is masked in what is reported, in place of the built-in
            ones; a group 1 is kept. The values of a `Secret` are masked in any case.
        flush_timeout: s that the end of the process may wait for delivery; default 5.
        shutdown_timeout: s that a triggered run may go on when the process ends; default 5.

    Raises:
        ConfigurationError: a value can't be used; it says which and why.
    """
    from perfect.running import configure as change

    return change(
        backend_url=backend_url,
        client_id=client_id,
        mock=mock,
        api_key=api_key,
        home=home,
        memory_limit=memory_limit,
        redact=redact,
        flush_timeout=flush_timeout,
        shutdown_timeout=shutdown_timeout,
    )


def connect(timeout: float = 5.0) -> bool:
    """Connect now instead of at the first call; whether the backend answered within `timeout` s."""
    from perfect.running import get_session

    return get_session().connect(timeout)


def current_run() -> RunInfo | None:
    """The run that this code is part of: its id, configuration, parameters, …; None outside a run.

    In flows and tasks, in their threads and coroutines, and wherever a graph's tasks run.
    """
    scope = find_scope()
    return None if scope is None else scope.about()


def cancelled() -> bool:
    """Whether the run is to end: for a long task to ask now and then, and to return or raise if so.

    The run is CANCELLED either way. False outside a run. In this process a task that does not ask is waited for.
    In other processes it has 3 s: then those of a `ProcessExecutor` or of a cluster made for the run are killed; on
    another Dask cluster it is left to itself.
    """
    return cancellation() is not None


def progress(fraction: float) -> None:
    """Say how far the running task is, instead of letting its estimate tell.

    Outside a task of a run nothing happens, so that the function still works alone.

    Args:
        fraction: 0 to 1.

    Raises:
        ConfigurationError: it is no number from 0 to 1.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)):
        raise ConfigurationError("fraction", fraction, "is not a number")
    if not 0 <= fraction <= 1:  # also refuses NaN
        raise ConfigurationError("fraction", fraction, "is outside 0 to 1")
    scope = find_scope()
    if scope is not None:
        scope.report_progress(float(fraction))


def listen(concurrency: int = 4) -> None:
    """Serve every flow of the registry: execute what is triggered in the dashboard.

    Blocks until Ctrl+C or SIGTERM, then takes nothing more and waits for the running flows to end; a
    second signal ends them.

    Args:
        concurrency: how many runs at a time.

    Raises:
        ConfigurationError: `concurrency` is no whole number of at least 1.
    """
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ConfigurationError("concurrency", concurrency, "is no whole number of at least 1")
    from perfect.running import listen as serve

    serve(concurrency)


def __getattr__(name: str) -> Any:
    """Offered here, used by few programs: loaded when asked for (PEP 562)."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"perfect.{_LATE[name]}"), name)
