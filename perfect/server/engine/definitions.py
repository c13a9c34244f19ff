"""The registration of a flow, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perfect.schedules import CronSchedule
from perfect.server.engine import schedules, values
from perfect.server.engine.parameters import check_schema
from perfect.server.engine.refusals import Invalid, shown
from perfect.server.settings import Limits

DEFAULT_ESTIMATE = 1_000
_LONGEST_DESCRIPTION = 20_000
_MOST_EDGES = 1_000_000


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """One predefined task of a flow; ``estimate`` in ms."""

    name: str
    description: str
    estimate: int
    crucial: bool
    weight: float | None


@dataclass(frozen=True, slots=True)
class FlowDefinition:
    """What a client registers.

    Attributes:
        name: identifies the flow within its client.
        description: for people.
        tags: for people and filters.
        tasks: those expected in a run.
        parameters: JSON Schema of its parameters, or None.
        edges: of a graph flow the pairs [before, after] of positions in ``tasks``, or None.
        schedule: when it is to be run, or None.
        resumes: a run goes on where the one before it failed, because the client keeps the results.
        auto_trigger: configuration with which a run is to be queued at once, or None.
    """

    name: str
    description: str
    tags: dict[str, str]
    tasks: tuple[TaskDefinition, ...]
    parameters: dict[str, Any] | None
    edges: list[list[int]] | None
    schedule: CronSchedule | None
    auto_trigger: str | None
    resumes: bool = False

    @classmethod
    def parse(cls, body: Any, limits: Limits) -> FlowDefinition:
        """The body of a registration.

        Raises:
            Invalid: naming the field that is wrong.
        """
        body = values.mapping("flow", body)
        values.depth("flow", body, limits.depth)
        tasks = body.get("tasks") or []
        if not isinstance(tasks, list):
            raise Invalid(f"tasks={shown(tasks)}: is not a list")
        if len(tasks) > limits.tasks:
            raise Invalid(f"tasks: there are {len(tasks)}, more than {limits.tasks}")
        parameters = body.get("parameters")
        auto = values.truth("autoTrigger", body.get("autoTrigger") or False)
        return cls(
            name=values.name("name", body.get("name"), limits.name),
            description=values.text(
                "description", body.get("description") or "", _LONGEST_DESCRIPTION
            ),
            tags=_tags(body.get("tags") or {}, limits),
            tasks=tuple(_task(f"tasks[{i}]", task, limits) for i, task in enumerate(tasks)),
            parameters=(
                None
                if parameters is None
                else check_schema(values.mapping("parameters", parameters), limits)
            ),
            edges=_edges(body.get("edges"), len(tasks)),
            schedule=schedules.parse(body.get("schedule"), limits),
            resumes=values.truth("resumes", body.get("resumes") or False),
            auto_trigger=(
                configuration(body.get("autoTriggerConfig"), limits, "autoTriggerConfig")
                if auto
                else None
            ),
        )


def configuration(value: Any, limits: Limits, field: str = "configuration") -> str:
    """The name of a configuration; "development" where none is given."""
    return "development" if value is None else values.text(field, value, limits.name)


def _task(field: str, body: Any, limits: Limits) -> TaskDefinition:
    body = values.mapping(field, body)
    estimate, weight, crucial = (
        body.get("estimatedTime"),
        body.get("weight"),
        body.get("crucialPass"),
    )
    return TaskDefinition(
        name=values.name(f"{field}.name", body.get("name"), limits.name),
        description=values.text(
            f"{field}.description", body.get("description") or "", _LONGEST_DESCRIPTION
        ),
        estimate=(
            DEFAULT_ESTIMATE
            if estimate is None
            else values.whole(f"{field}.estimatedTime", estimate)
        ),
        crucial=True if crucial is None else values.truth(f"{field}.crucialPass", crucial),
        weight=None if weight is None else values.number(f"{field}.weight", weight),
    )


def _edges(edges: Any, tasks: int) -> list[list[int]] | None:
    if edges is None:
        return None
    if not isinstance(edges, list):
        raise Invalid(f"edges={shown(edges)}: is not a list")
    if len(edges) > _MOST_EDGES:
        raise Invalid(f"edges: there are {len(edges)}, more than {_MOST_EDGES}")
    for number, edge in enumerate(edges):
        if (
            edge.__class__ is not list
            or len(edge) != 2
            or not all(end.__class__ is int and 0 <= end < tasks for end in edge)
        ):
            raise Invalid(f"edges[{number}]={shown(edge)}: is not a pair of positions in tasks")
    return edges


def _tags(tags: Any, limits: Limits) -> dict[str, str]:
    tags = values.mapping("tags", tags)
    if len(tags) > limits.tags:
        raise Invalid(f"tags: there are {len(tags)}, more than {limits.tags}")
    return {
        values.name("tags", key, limits.tag): values.text(f"tags[{shown(key)}]", value, limits.tag)
        for key, value in tags.items()
    }
