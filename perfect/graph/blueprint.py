"""A flow as it is built: its tasks and edges, and what can be asked of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from perfect import options
from perfect.definitions import check_name, check_tags, check_text
from perfect.errors import GraphError
from perfect.graph.building import Building
from perfect.graph.definition import parameters_of
from perfect.graph.drawing import drawn
from perfect.graph.executors.base import Executor, checked_executor
from perfect.graph.graph import Edge, Graph
from perfect.graph.node import Node, each
from perfect.graph.parameter import Parameter
from perfect.outcomes import State
from perfect.graph.resuming import checked_store
from perfect.schedules import CronSchedule, check_schedule
from perfect.store import StateManager
from perfect.tasks import Task


class Blueprint:
    """What `perfect.core.Flow` is before it runs; the arguments are described there."""

    def __init__(
        self,
        name: str,
        schedule: CronSchedule | None = None,
        executor: Executor | None = None,
        *,
        tasks: Iterable[Task[..., Any]] = (),
        state_handlers: Iterable[Callable[[Any, State, State], State | None]] = (),
        on_failure: Callable[[Any, State], object] | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        resume: StateManager | None = None,
    ) -> None:
        self.name = check_name("name", name)
        self.description = check_text("description", "", description)
        self.tags = check_tags(tags)
        self.schedule = schedule
        self.executor = checked_executor(executor)
        self.resume = checked_store(resume)
        self.state_handlers = options.handlers(state_handlers, on_failure)
        self.graph = Graph()
        self._reference: list[Node] | None = None
        for one in tasks:
            self.add_task(one)

    @property
    def schedule(self) -> CronSchedule | None:
        """When the backend should trigger it, once it is registered."""
        return self._schedule

    @schedule.setter
    def schedule(self, schedule: CronSchedule | None) -> None:
        self._schedule = check_schedule(schedule)

    def __enter__(self) -> Self:
        Building(self, self.graph)
        return self

    def __exit__(self, kind: object, *exc_info: object) -> None:
        Building.leave(self)
        if kind is None:
            self.validate()

    def __repr__(self) -> str:
        return f"<Flow {self.name!r}>"

    # --- building --------------------------------------------------------------------------

    def add_task(self, task: Task[..., Any]) -> Node:
        """Add a task, if it is not there yet."""
        return self.graph.node_of(task)

    def add_edge(
        self,
        upstream_task: Any,
        downstream_task: Any,
        key: str | None = None,
        mapped: bool = False,
    ) -> Edge:
        """Let a task wait for another one.

        Args:
            key: the parameter that gets the result; default: nothing is handed over.
            mapped: whether each element of the result gets a run of its own.

        Raises:
            GraphError: one is part of another flow, or the downstream task has no such parameter.
        """
        early, late = self.graph.node_of(upstream_task), self.graph.node_of(downstream_task)
        if key is not None:
            self.graph.bind(late, (), {key: upstream_task}, mapped=mapped)
        elif mapped:
            raise GraphError("mapped", mapped, "says nothing without the key of a parameter")
        else:
            self.graph.connect(early, late)
        return Edge(early, late, key, mapped)

    def chain(self, *tasks: Any) -> list[Edge]:
        """Let each task wait for the one before it."""
        return [self.add_edge(early, late) for early, late in zip(tasks, tasks[1:])]

    def bind(
        self,
        task: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        upstream_tasks: Any = (),
        *,
        mapped: bool = False,
    ) -> Node:
        """Say what a task's arguments are; those said before stay unless they are said anew.

        Args:
            upstream_tasks: what it waits for beside those whose results it is given.
            mapped: whether each element of these arguments gets a run of its own.

        Raises:
            GraphError: an argument does not fit, or a task is part of another flow.
        """
        node = self.graph.bind(task, args, dict(kwargs or {}), mapped=mapped)
        for other in each(upstream_tasks):
            self.graph.connect(other, node)
        return node

    def set_dependencies(
        self,
        task: Any,
        upstream_tasks: Any = (),
        downstream_tasks: Any = (),
        keyword_tasks: Mapping[str, Any] | None = None,
        mapped: bool = False,
    ) -> None:
        """Say at once what a task waits for, what waits for it, and what its arguments are.

        Args:
            mapped: whether each element of the arguments gets a run of its own.
        """
        node = self.bind(task, (), keyword_tasks, upstream_tasks, mapped=mapped)
        for other in each(downstream_tasks):
            self.graph.connect(node, other)

    def set_reference_tasks(self, tasks: Any) -> None:
        """Say which tasks decide the flow's final state; without any, those that none waits for."""
        self._reference = [self.graph.node_of(one) for one in each(tasks)] or None

    def copy(self) -> Self:
        """Another flow of the same tasks and edges."""
        made = type(self)(
            self.name,
            self.schedule,
            self.executor,
            state_handlers=self.state_handlers,
            description=self.description,
            tags=self.tags,
            resume=self.resume,
        )
        made.graph = self.graph.copy()
        if self._reference is not None:
            made._reference = [made.graph.nodes[node.index] for node in self._reference]
        return made

    # --- asking ----------------------------------------------------------------------------

    @property
    def tasks(self) -> list[Node]:
        """Every use of a task, in the order they were added."""
        return list(self.graph.nodes)

    @property
    def edges(self) -> list[Edge]:
        """Who waits for whom, and for what."""
        return list(self.graph.edges())

    def parameters(self) -> dict[str, Parameter]:
        """Its parameters, by name."""
        return parameters_of(self.graph)

    def sorted_tasks(self) -> list[Node]:
        """Every use of a task, upstream before downstream."""
        return list(self.graph.plan().order)

    def root_tasks(self) -> list[Node]:
        """Those that wait for none."""
        upstream = self.graph.plan().upstream
        return [node for node in self.graph.nodes if not upstream[node.index]]

    def terminal_tasks(self) -> list[Node]:
        """Those that none waits for."""
        downstream = self.graph.plan().downstream
        return [node for node in self.graph.nodes if not downstream[node.index]]

    def reference_tasks(self) -> list[Node]:
        """Those that decide the flow's final state."""
        return self.terminal_tasks() if self._reference is None else list(self._reference)

    def upstream_tasks(self, task: Any) -> list[Node]:
        """Those that a task waits for."""
        plan = self.graph.plan()
        return [self.graph.nodes[index] for index in plan.upstream[self.graph.node_of(task).index]]

    def downstream_tasks(self, task: Any) -> list[Node]:
        """Those that wait for a task."""
        plan = self.graph.plan()
        node = self.graph.node_of(task)
        return [self.graph.nodes[index] for index in plan.downstream[node.index]]

    def validate(self) -> None:
        """See whether it can run.

        Raises:
            CycleError: tasks wait for each other.
            GraphError: an argument is missing, or two parameters have one name.
        """
        self.graph.plan()
        seen: dict[str, Node] = {}
        for node in self.graph.nodes:
            if isinstance(node.task, Parameter) and seen.setdefault(node.name, node) is not node:
                raise GraphError(
                    "parameters", node.name, "two parameters of the flow have this name"
                )

    def visualize(self, format: str = "text") -> str:
        """The graph as "text", "mermaid" or "dot"."""
        return drawn(self.graph, self.name, format)
