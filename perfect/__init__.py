"""Workflow orchestration for Python people: decorate your functions, run them, see what happened.

``from perfect import task, flow`` is all that most programs need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from perfect.errors import (
        BackendError,
        BackendRefused,
        BackendUnreachable,
        ConfigurationError,
        CycleError,
        GraphError,
        MissingExtra,
        NotFound,
        NotSendable,
        PerfectError,
        RemoteError,
        ScheduleError,
        StorageError,
        TaskError,
        TaskFailed,
        TaskTimeout,
        TriggerNotMet,
        Uncacheable,
        WorkerLost,
    )
    from perfect.sdk import (
        CronSchedule,
        Flow,
        FlowDefinition,
        IntervalSchedule,
        LogCapture,
        Progress,
        RunCancelled,
        RunInfo,
        Secret,
        StateManager,
        Task,
        TaskCache,
        TaskDefinition,
        TaskResult,
        TaskState,
        WorkflowRegistry,
        cancelled,
        configure,
        connect,
        current_run,
        flow,
        get_registry,
        listen,
        progress,
        propagate,
        run,
        task,
        unmapped,
        watch_progress,
    )

_ERRORS = (
    "BackendError",
    "BackendRefused",
    "BackendUnreachable",
    "ConfigurationError",
    "CycleError",
    "GraphError",
    "MissingExtra",
    "NotFound",
    "NotSendable",
    "PerfectError",
    "RemoteError",
    "ScheduleError",
    "StorageError",
    "TaskError",
    "TaskFailed",
    "TaskTimeout",
    "TriggerNotMet",
    "Uncacheable",
    "WorkerLost",
)

__all__ = [
    "BackendError",
    "BackendRefused",
    "BackendUnreachable",
    "ConfigurationError",
    "CronSchedule",
    "CycleError",
    "Flow",
    "FlowDefinition",
    "GraphError",
    "IntervalSchedule",
    "LogCapture",
    "MissingExtra",
    "NotFound",
    "NotSendable",
    "PerfectError",
    "Progress",
    "RemoteError",
    "RunCancelled",
    "RunInfo",
    "ScheduleError",
    "Secret",
    "StateManager",
    "StorageError",
    "Task",
    "TaskCache",
    "TaskDefinition",
    "TaskError",
    "TaskFailed",
    "TaskResult",
    "TaskState",
    "TaskTimeout",
    "TriggerNotMet",
    "Uncacheable",
    "WorkerLost",
    "WorkflowRegistry",
    "__version__",
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


def __getattr__(name: str) -> Any:
    """Load what is asked for when it is asked for (PEP 562): ``import perfect`` costs next to nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'perfect' has no attribute {name!r}")
    module = import_module("perfect.errors" if name in _ERRORS else "perfect.sdk")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
