"""The tree of errors: one root, facts as attributes, messages that name what was wrong."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from perfect import errors
from perfect.errors import (
    BackendError,
    BackendRefused,
    BackendUnreachable,
    ConfigurationError,
    CycleError,
    DAGCycleError,
    FlowkitError,
    GraphError,
    MissingExtra,
    NotFound,
    NotSendable,
    PerfectError,
    RemoteError,
    ScheduleError,
    StorageError,
    TaskError,
    TaskExecutionError,
    TaskFailed,
    TaskNotFoundError,
    TaskStubbed,
    TaskTimeout,
    TriggerNotMet,
    Uncacheable,
    WorkerLost,
)
from perfect.states import TERMINAL, TaskState
from perfect.definitions import TaskResult

EXAMPLES: list[PerfectError] = [
    PerfectError("plain"),
    ConfigurationError("name", "", "is empty"),
    ScheduleError("60 * * * *", "minute", "60 is outside 0-59"),
    MissingExtra("server", "perfect server"),
    GraphError("x", 3, "task 'load': argument 'x' is missing"),
    CycleError(["a", "b", "a"]),
    TaskError("load", "did not load"),
    TaskFailed("load", TaskResult(False, "no rows")),
    TaskTimeout("load", 2.5),
    TriggerNotMet("load", "not run: 'extract' before it failed"),
    WorkerLost("load", "process 7"),
    RemoteError("load", {"type": "OddError", "message": "7", "traceback": "…"}),
    NotSendable("load", "it is a lambda"),
    TaskStubbed("load", "made to fail"),
    FlowkitError("'etl' has no tasks"),
    TaskExecutionError("load", KeyError("region")),
    DAGCycleError(["a", "b", "a"]),
    TaskNotFoundError("load", "there are: none"),
    Uncacheable("an argument is an open file"),
    StorageError("state.json", "written", OSError(28, "No space left on device")),
    NotFound("flow", "etl", "registered: none"),
    BackendError("said no"),
    BackendUnreachable("refused"),
    BackendRefused(503, "busy", {"queue": 9}, 2.5),
]


def test_every_error_has_an_example_and_one_root() -> None:
    defined = {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }
    assert defined == {type(example) for example in EXAMPLES}
    assert all(issubclass(kind, PerfectError) for kind in defined)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = [
        re.split(" {2,}", line.strip("│├└─ "))[0]
        for line in (errors.__doc__ or "").splitlines()[2:]
    ]
    named = [line.split(" (")[0] for line in drawn if line]
    assert sorted(named) == sorted(type(example).__name__ for example in EXAMPLES)


def test_errors_are_also_what_python_calls_them() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(MissingExtra, ImportError)
    assert issubclass(NotFound, LookupError)
    assert not issubclass(BackendUnreachable, OSError)  # user code that catches its own OSErrors


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_survive_pickling(error: PerfectError) -> None:
    """A process pool hands on what its worker raised."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_facts_are_attributes() -> None:
    wrong = ConfigurationError("estimated_time", -5, "is outside 0 ms to 366 days")
    assert (wrong.argument, wrong.value, wrong.reason) == (
        "estimated_time",
        -5,
        "is outside 0 ms to 366 days",
    )
    assert str(wrong) == "estimated_time=-5: is outside 0 ms to 366 days"
    missing = MissingExtra("dask", "DaskExecutor")
    assert (missing.argument, missing.value, missing.extra) == ("extra", "dask", "dask")
    assert missing.reason
    assert "pip install 'perfect-client[dask]'" in str(missing)
    refused = BackendRefused(503, "busy", {"queue": 9}, 2.5)
    assert (refused.status, refused.error, refused.detail, refused.retry_after) == (
        *(503, "busy"),
        *({"queue": 9}, 2.5),
    )
    result = TaskResult(False, "no rows")
    failed = TaskFailed("load", result)
    assert (failed.task, failed.result) == ("load", result)
    assert "no rows" in str(failed)
    absent = NotFound("flow", "etl", "registered: none")
    assert (absent.kind, absent.name) == ("flow", "etl")
    assert str(absent) == "no flow 'etl' (registered: none)"


def test_a_long_value_is_cut_in_the_message_and_whole_in_the_attribute() -> None:
    error = ConfigurationError("name", "x" * 10_000, "is too long")
    assert len(str(error)) < 120
    assert error.value == "x" * 10_000


def test_a_value_that_can_not_be_shown_still_gives_the_error() -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no picture")

    assert str(ConfigurationError("name", Shy(), "is not text")) == "name=<Shy>: is not text"


@pytest.mark.parametrize("written", ["RUNNING", "running", "Running"])
def test_states_in_any_letter_case(written: str) -> None:
    assert TaskState(written) is TaskState.RUNNING
    assert str(TaskState.RUNNING) == "RUNNING"


def test_a_state_that_is_none() -> None:
    for value in ("", "DONE", None, 3):
        with pytest.raises(ValueError):
            TaskState(value)


def test_terminal_states() -> None:
    assert {state for state in TaskState if state.is_terminal} == TERMINAL
    assert {state.value for state in TERMINAL} == {"COMPLETED", "FAILED", "SKIPPED", "CANCELLED"}
