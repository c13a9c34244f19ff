"""For tests of flows: everything a flow reports, kept in memory; tasks stubbed or made to fail.

``def test_etl(perfect_mock): etl(); assert perfect_mock.runs[0].state == "COMPLETED"`` — the pytest
fixture `perfect_mock` comes with the package. Without pytest: ``with mock() as recorder: …``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from perfect import session as sessions
from perfect.errors import NotFound, TaskStubbed
from perfect.records import FlowRun, LogLine, TaskRun
from perfect.states import TaskState
from perfect.tasks import Task

try:  # the package must import without pytest; the plugin is only loaded by it
    import pytest
except ImportError:
    pytest = None  # type: ignore[assignment]


@dataclass
class RecordedTask:
    """One task run.

    Attributes:
        attempt: the number of the last attempt, from 1.
        duration: s that it took.
        attempts: the ones before it, each ``{"attempt", "started", "ended", "error", "reason", "worker"}``
            with times in ms since the epoch.
        reason: why it was not run, or what it came to, where there is something to say.
        upstream: in a graph, the indices of the tasks it waited for.
        map_index: which element of a mapped task it is.
    """

    index: int
    name: str
    state: TaskState
    attempt: int
    duration: float
    progress: float | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    logs: list[str] = field(default_factory=list)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    reason: str | None = None
    upstream: tuple[int, ...] | None = None
    map_index: int | None = None


@dataclass
class RecordedRun:
    """One flow run, with its tasks in order of their calls.

    Attributes:
        logs: every line in order, the tasks' too.
    """

    id: str
    flow: str
    state: TaskState
    configuration: str
    parameters: dict[str, Any]
    tags: dict[str, str]
    parent: str | None
    error: dict[str, Any] | None
    reason: str | None
    tasks: list[RecordedTask] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)

    def task(self, name: str) -> RecordedTask:
        """The first task run of that name.

        Raises:
            NotFound: the run called no such task.
        """
        for entry in self.tasks:
            if entry.name == name:
                return entry
        raise NotFound("task", name, f"the run called {[entry.name for entry in self.tasks]}")


class Recorder:
    """What the flows of a mock session have reported."""

    def __init__(self, session: sessions.Session) -> None:
        self._session = session

    @property
    def runs(self) -> list[RecordedRun]:
        """Every run so far, in order of their beginnings."""
        runs: dict[str, RecordedRun] = {}
        tasks: dict[tuple[str, int], RecordedTask] = {}
        for record in self._session.recorded or ():
            if isinstance(record, FlowRun):
                runs.setdefault(record.id, _recorded_run(record))
            elif isinstance(record, TaskRun):
                key = (record.run.id, record.index)
                if key not in tasks:
                    run = runs.setdefault(record.run.id, _recorded_run(record.run))
                    tasks[key] = _recorded_task(record)
                    run.tasks.append(tasks[key])
            elif isinstance(record, LogLine) and record.run in runs:
                runs[record.run].logs.append(record.text)
                entry = tasks.get((record.run, record.task_index or 0))
                if record.task_index is not None and entry is not None:
                    entry.logs.append(record.text)
        for run in runs.values():
            run.tasks.sort(key=lambda entry: entry.index)
        return list(runs.values())

    @property
    def run(self) -> RecordedRun:
        """The newest run.

        Raises:
            NotFound: there was none.
        """
        if not self.runs:
            raise NotFound("run", "newest", "no flow was called")
        return self.runs[-1]

    def stub(self, task: str | Task[..., Any], result: Any = None) -> None:
        """Let a task's function be replaced: by a value, or by a function called with its arguments.

        Its retries, `when` and timeout hold as before; its cache is left alone.
        """
        name = task if isinstance(task, str) else task.name
        self._session.stubs[name] = result if callable(result) else lambda *args, **kwargs: result

    def fail(
        self,
        task: str | Task[..., Any],
        error: BaseException | type[BaseException] | str = "made to fail by a test",
    ) -> None:
        """Make each attempt of a task fail: with an exception, or with a `TaskStubbed` that says a text."""
        name = task if isinstance(task, str) else task.name

        def failing(*args: Any, **kwargs: Any) -> Any:
            raise TaskStubbed(name, error) if isinstance(error, str) else error

        self._session.stubs[name] = failing

    def clear(self) -> None:
        """Forget the runs and the stubs."""
        if self._session.recorded is not None:
            self._session.recorded.clear()
        self._session.stubs.clear()


def _recorded_run(record: FlowRun) -> RecordedRun:
    return RecordedRun(
        id=record.id,
        flow=record.name,
        state=record.state,
        configuration=record.configuration,
        parameters=record.parameters,
        tags=record.flow["tags"],
        parent=record.parent,
        error=record.error,
        reason=record.reason,
    )


def _recorded_task(record: TaskRun) -> RecordedTask:
    return RecordedTask(
        index=record.index,
        name=record.task.name,
        state=record.state,
        attempt=record.attempt,
        duration=0.0 if record.ended is None else max(0.0, record.ended - record.started),
        progress=record.progress,
        result=record.result,
        error=record.error,
        attempts=list(record.attempts or ()),
        reason=record.reason,
        upstream=record.upstream,
        map_index=record.map_index,
    )


def recorder() -> Recorder:
    """The recorder of the session in use, which `configure(mock=True)` has made a mock one."""
    return Recorder(sessions.get_session())


@contextmanager
def mock() -> Iterator[Recorder]:
    """Run the flows of a block in mock mode; afterwards the session is what it was."""
    with sessions.temporary(mock=True) as session:
        yield Recorder(session)


if pytest is not None:

    @pytest.fixture(name="perfect_mock")
    def _perfect_mock() -> Iterator[Recorder]:
        """Flows run in mock mode for one test; gives the `Recorder` of what they report."""
        with mock() as made:
            yield made
