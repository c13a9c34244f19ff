"""Flowkit: pipelines wired with ``>>`` or built step by step, run in parallel.

``extract >> transform >> load``, then ``DAG("etl").run()``; or
``Flow("etl").add(extract).branch(a, b).merge(load).run()``. Results go to the parameters that have the
names of tasks, the rest by position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from perfect import tasks, wiring
from perfect.caching import TaskCache
from perfect.definitions import (
    check_configuration,
    check_name,
    check_tags,
    check_text,
    get_registry,
)
from perfect.errors import (
    ConfigurationError,
    CycleError,
    DAGCycleError,
    FlowkitError,
    GraphError,
    TaskExecutionError,
    TaskNotFoundError,
)
from perfect.executor import FlowExecutor
from perfect.graph.definition import GraphDefinition, tracked
from perfect.graph.drawing import drawn
from perfect.graph.executors.base import Executor
from perfect.graph.executors.local import LocalExecutor
from perfect.graph.executors.thread import ThreadExecutor, checked_workers
from perfect.graph.graph import Graph
from perfect.graph.injection import Injection, Wired, in_order
from perfect.graph.resuming import Resuming, checked_store
from perfect.graph.runner import handed_on
from perfect.graph.narration import Narrated
from perfect.logs import FlowkitLogger, LogLevel, configure_logging, get_logger, is_configured
from perfect.running import execute, register
from perfect.store import StateManager
from perfect.tasks import Task, TaskOptions

if TYPE_CHECKING:
    from typing import Self, Unpack

P = ParamSpec("P")
R = TypeVar("R")

__all__ = [
    "DAG",
    "DAGCycleError",
    "Flow",
    "FlowkitError",
    "FlowkitLogger",
    "LogLevel",
    "StateManager",
    "Task",
    "TaskCache",
    "TaskExecutionError",
    "TaskNotFoundError",
    "configure_logging",
    "get_logger",
    "task",
]


@overload
def task(func: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(
    func: str | None = None, /, **options: Unpack[TaskOptions]
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


@wraps(tasks.task)
def task(func: Any = None, /, **options: Any) -> Any:
    """As `perfect.task`, and the task is part of every `DAG` that is not told which tasks it has."""

    def registered(made: Task[..., Any]) -> Task[..., Any]:
        wiring.registered[made] = None
        return made

    if func is not None and not isinstance(func, str):
        return registered(tasks.task(func))
    decorate: Any = tasks.task(func, **options)
    return lambda function: registered(decorate(function))


class _Pipeline:
    """What `DAG` and `Flow` have in common: a name, workers, and a graph when it is asked for."""

    def __init__(
        self,
        name: str,
        max_workers: int | None,
        description: str | None,
        tags: Mapping[str, str] | None,
    ) -> None:
        self.name = check_name("name", name)
        self.max_workers = checked_workers(max_workers)
        self.description = check_text("description", "", description)
        self.tags = check_tags(tags)

    def _wired(self) -> Wired:
        """The tasks, each with those it comes after."""
        raise NotImplementedError

    def get_task(self, name: str) -> Task[..., Any]:
        """The task of that name.

        Raises:
            TaskNotFoundError: there is none.
        """
        for found in self._wired():
            if found.name == name:
                return found
        known = ", ".join(found.name for found in self._wired()) or "none"
        raise TaskNotFoundError(name, f"{self.name!r} has: {known}")

    def run(
        self,
        executor: str | Executor = "thread",
        *,
        resume: StateManager | None = None,
        configuration: str = "development",
    ) -> dict[str, Any]:
        """Run the tasks, side by side where they don't wait for each other.

        Args:
            executor: "thread", "process", "local" (one after the other, in this thread) or an executor.
            resume: keeps the results of the tasks that succeed; a run that follows a failed one
                takes them from there, and goes on with the rest. After a success they are forgotten.
            configuration: "development", "debug", "release" or free text.

        Returns:
            The results by the tasks' names; a task that was skipped has none.

        Raises:
            TaskExecutionError: a crucial task failed; nothing more is begun then, and what was under
                way has ended.
            DAGCycleError: tasks wait for each other.
            GraphError: a required parameter gets nothing, or two tasks have one name.
        """
        check_configuration(configuration)
        chosen = self._executor(executor)
        definition = self._definition(chosen, checked_store(resume))
        results: dict[str, Any] = execute(definition, configuration, (), {}, serve=False)
        return results

    def register(
        self, executor: str | Executor = "thread", *, resume: StateManager | None = None
    ) -> bool:
        """Make it known to the backend, so that it can be triggered, and its runs retried, from there.

        This process serves the runs, in the background and in `perfect.listen`: of the tasks as they are wired
        now. The arguments are those of `run`: with `resume`, a retry goes on from the failed tasks.

        Returns:
            Whether the backend has answered; if not, it is told as soon as it does.
        """
        definition = self._definition(self._executor(executor), checked_store(resume))
        get_registry().register_flow(definition)
        return register(definition)

    def _definition(self, executor: Executor, resume: StateManager | None) -> GraphDefinition:
        graph = self._graph()

        def run_graph(run: FlowExecutor, parameters: dict[str, Any]) -> dict[str, Any]:
            return self._run(run, graph, executor, resume)

        return GraphDefinition(
            *(graph, run_graph, self.name, self.description, self.tags),
            resumes=resume is not None,
        )

    def visualize(self, format: str = "text") -> str:
        """The tasks and what they wait for, as "text", "mermaid" or "dot"."""
        return drawn(self._graph(), self.name, format)

    def _run(
        self, run: FlowExecutor, graph: Graph, executor: Executor, resume: StateManager | None
    ) -> dict[str, Any]:
        kept = None if resume is None else Resuming(resume, self.name)
        graph_run = tracked(
            run,
            graph,
            executor=executor,
            fail_fast=True,
            given=None if kept is None else kept.states(graph),
            settled=None if kept is None else kept.settled,
            tracker=Narrated.by(run),
        )
        try:
            states = graph_run.run()
        finally:
            if kept is not None:
                kept.write()
            if is_configured():
                get_logger().system("Worker released.")
        failed = graph_run.failure
        if failed is not None:
            error = states[failed.index].result
            raise TaskExecutionError(failed.name, error) from error
        if kept is not None:
            kept.forget()
        return {
            node.name: handed_on(states[node.index])
            for node in graph.plan().order
            if not states[node.index].is_skipped()
        }

    def _executor(self, executor: str | Executor) -> Executor:
        if isinstance(executor, Executor):
            return executor
        if executor == "thread":
            return ThreadExecutor(self.max_workers)
        if executor == "local":
            return LocalExecutor()
        if executor == "process":
            from perfect.graph.executors.process import ProcessExecutor  # multiprocessing: 10 ms

            chosen: Executor = ProcessExecutor(self.max_workers)
            return chosen
        raise ConfigurationError(
            "executor", executor, 'is neither "thread", "process", "local" nor an executor'
        )

    def _graph(self) -> Graph:
        """The graph, with the results injected where they go.

        Raises:
            DAGCycleError, GraphError, FlowkitError: it can't be run.
        """
        wired = self._wired()
        if not wired:
            raise FlowkitError(f"{self.name!r} has no tasks")
        by_name: dict[str, Task[..., Any]] = {}
        for one in wired:
            if by_name.setdefault(one.name, one) is not one:
                raise GraphError(
                    "tasks",
                    one.name,
                    f"two tasks of {self.name!r} have this name: give one another",
                )
        graph = Graph()
        nodes = {one: graph.add(one) for one in in_order(wired)}
        injection = Injection(nodes, wired)
        for one in nodes:
            injection.settle(one)
        try:
            graph.plan()
        except CycleError as circle:
            raise DAGCycleError(circle.cycle) from None
        return graph


class DAG(_Pipeline):
    """The tasks wired with ``>>`` and ``<<``.

    Args:
        name: what it goes by.
        max_workers: threads or processes at the most.
        tasks: the tasks (or their names) whose graphs it runs. Default: every task made by
            `perfect.flowkit.task` since the registry was cleared, wired or not, and all that are wired to
            one of them.
        description, tags: for the dashboard.

    Raises:
        ConfigurationError: an argument can't be used; it says which and why.
        TaskNotFoundError: `tasks` names one that is not registered.
    """

    def __init__(
        self,
        name: str = "workflow",
        max_workers: int | None = None,
        *,
        tasks: Iterable[Task[..., Any] | str] | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, max_workers, description, tags)
        self._chosen = None if tasks is None else [_registered(one) for one in tasks]

    def _wired(self) -> Wired:
        chosen = list(wiring.registered) if self._chosen is None else self._chosen
        found = dict.fromkeys(wiring.connected(chosen))
        in_order = [one for one in wiring.registered if one in found]
        return {
            one: dict(wiring.wires_of(one).before) for one in {**dict.fromkeys(in_order), **found}
        }

    def _graph(self) -> Graph:
        try:
            return super()._graph()
        except GraphError as error:
            if self._chosen is None:
                error.add_note(
                    "A DAG has every task made by perfect.flowkit.task so far, wired or not; "
                    "DAG(…, tasks=[…]) narrows it, Task.clear_registry() forgets them."
                )
            raise

    def __repr__(self) -> str:
        return f"<DAG {self.name!r}>"


class Flow(_Pipeline):
    """A pipeline built step by step.

    Args:
        name: what it goes by.
        max_workers: threads or processes at the most.
        description, tags: for the dashboard.

    Raises:
        ConfigurationError: an argument can't be used; it says which and why.
    """

    def __init__(
        self,
        name: str = "flow",
        max_workers: int | None = None,
        *,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, max_workers, description, tags)
        self._steps: Wired = {}
        self._last: list[Task[..., Any]] = []  # what the next step comes after

    def add(self, task: Task[..., Any]) -> Self:
        """A task after the last one, or after all branches."""
        self._take("task", task)
        self._last = [task]
        return self

    def branch(self, *branch_tasks: Task[..., Any]) -> Self:
        """Tasks side by side after the last one.

        Raises:
            ConfigurationError (a ValueError): there is none yet, or none is given.
        """
        if not self._last:
            raise ConfigurationError("branch_tasks", branch_tasks, "add a task before branching")
        if not branch_tasks:
            raise ConfigurationError("branch_tasks", branch_tasks, "is empty")
        for one in branch_tasks:
            self._take("branch_tasks", one)
        self._last = list(branch_tasks)
        return self

    def merge(self, merge_task: Task[..., Any]) -> Self:
        """A task after all branches.

        Raises:
            ConfigurationError (a ValueError): there is nothing to merge.
        """
        if not self._last:
            raise ConfigurationError("merge_task", merge_task, "add tasks before merging")
        self._take("merge_task", merge_task)
        self._last = [merge_task]
        return self

    def _take(self, argument: str, task: Task[..., Any]) -> None:
        if not isinstance(task, Task):
            raise ConfigurationError(argument, task, "is no task")
        if task in self._steps:
            raise ConfigurationError(
                argument, task, f"is in {self.name!r} already; add a copy of another name"
            )
        self._steps[task] = dict.fromkeys(self._last)

    def _wired(self) -> Wired:
        return dict(self._steps)

    def __repr__(self) -> str:
        return f"<Flow {self.name!r}>"


def _registered(one: Task[..., Any] | str) -> Task[..., Any]:
    if isinstance(one, Task):
        return one
    for found in wiring.registered:
        if found.name == one:
            return found
    if not isinstance(one, str):
        raise ConfigurationError("tasks", one, "is neither a task nor the name of one")
    known = ", ".join(found.name for found in wiring.registered) or "none"
    raise TaskNotFoundError(one, f"registered: {known}")
