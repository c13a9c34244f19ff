"""A graph as a flow that can be run, tracked and registered like any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from perfect.context import current
from perfect.errors import ConfigurationError
from perfect.executor import FlowExecutor
from perfect.flows import FlowDefinition
from perfect.graph.graph import Graph
from perfect.graph.parameter import Parameter
from perfect.graph.runner import GraphRun
from perfect.graph.telling import MOST_LISTED
from perfect.jsonable import snapshot
from perfect.schedules import CronSchedule


class GraphDefinition(FlowDefinition):
    """A flow whose function is to run a graph.

    Args:
        graph: what it runs.
        run_graph: runs it: called in the run, with the run's tracker and the parameters' values.
        resumes: whether it goes on where a run before it failed.
    """

    def __init__(
        self,
        graph: Graph,
        run_graph: Callable[[FlowExecutor, dict[str, Any]], Any],
        name: str,
        description: str = "",
        tags: dict[str, str] | None = None,
        schedule: CronSchedule | None = None,
        *,
        resumes: bool = False,
    ) -> None:
        def run(**parameters: Any) -> Any:
            scope = current.get()
            assert scope is not None and isinstance(scope.caller, FlowExecutor)
            values = given_parameters(graph, parameters)
            scope.run.given = lambda: values
            return run_graph(scope.caller, values)

        super().__init__(name, run, description, None, tags, schedule)
        self.graph = graph
        self.resumes = resumes

    def find_tasks(self) -> None:
        nodes = self.graph.nodes if len(self.graph.nodes) <= MOST_LISTED else []
        self._tasks = [
            node.task.definition for node in nodes if not isinstance(node.task, Parameter)
        ]

    def parameters_schema(self) -> dict[str, Any]:
        return parameters_schema(self.graph)

    def arguments(self, given: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The values as they are: a graph's parameters have no types. The run checks their names."""
        return (), dict(given)

    def _check_given(self, given: Mapping[str, Any]) -> None:
        given_parameters(self.graph, given)

    def to_dict(self) -> dict[str, Any]:
        body = super().to_dict()
        if self.resumes:
            body["resumes"] = True
        if self.tasks:
            plan = self.graph.plan()
            body["edges"] = [
                [early, late]
                for late, before in zip(plan.told, plan.told_upstream)
                if late is not None
                for early in before
            ]
        return body


def tracked(run: FlowExecutor, graph: Graph, **options: Any) -> GraphRun:
    """A run of the graph whose tasks are told as those of a flow run."""
    return GraphRun(
        graph,
        **{"tracker": run, "body_of": run.body_of, "halted": lambda: run.run.cancelled, **options},
    )


def parameters_of(graph: Graph) -> dict[str, Parameter]:
    """The parameters of a graph, by name."""
    return {node.name: node.task for node in graph.nodes if isinstance(node.task, Parameter)}


def given_parameters(graph: Graph, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's parameters are: what is given, and defaults.

    Raises:
        ConfigurationError: one is unknown, or a required one is missing; it says which.
    """
    known = parameters_of(graph)
    for name, value in given.items():
        if name not in known:
            takes = ", ".join(known) or "none"
            raise ConfigurationError(
                f"parameters[{name!r}]", value, f"the flow has no such parameter; it has: {takes}"
            )
    for name, parameter in known.items():
        if parameter.required and name not in given:
            raise ConfigurationError(f"parameters[{name!r}]", None, "is required and not given")
    return {name: parameter.value_from(given) for name, parameter in known.items()}


def parameters_schema(graph: Graph) -> dict[str, Any]:
    """The parameters as a JSON Schema object."""
    known = parameters_of(graph)
    return {
        "type": "object",
        "properties": {
            name: {} if parameter.required else {"default": snapshot(parameter.default)}
            for name, parameter in known.items()
        },
        "required": [name for name, parameter in known.items() if parameter.required],
        "additionalProperties": False,
    }
