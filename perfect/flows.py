"""What a flow is made of: its definition, and the tasks that its code names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from perfect.definitions import COROUTINE, TaskDefinition, _Facts, code_kind
from perfect.errors import ConfigurationError
from perfect.redaction import MASK, hides
from perfect.schedules import CronSchedule
from perfect.tasks import Task

if TYPE_CHECKING:
    from perfect.parameters import Parameters


class FlowDefinition(_Facts):
    """A flow as it is registered.

    Attributes:
        tasks: default: the ones its code is seen to call, looked for when first asked.
    """

    __match_args__ = ("name", "func", "description", "tasks", "tags", "schedule")

    def __init__(
        self,
        name: str,
        func: Callable[..., Any],
        description: str = "",
        tasks: list[TaskDefinition] | None = None,
        tags: dict[str, str] | None = None,
        schedule: CronSchedule | None = None,
    ) -> None:
        self.name = name
        self.func = func
        self.description = description
        self.tags = {} if tags is None else tags
        self.schedule = schedule
        self._tasks = tasks
        self._parameters: Parameters | None = None

    @property
    def is_async(self) -> bool:
        """Whether it is an ``async def``."""
        return code_kind(self.func) == COROUTINE

    @property
    def tasks(self) -> list[TaskDefinition]:
        if self._tasks is None:
            self.find_tasks()
        return self._tasks or []

    @tasks.setter
    def tasks(self, tasks: list[TaskDefinition]) -> None:
        self._tasks = tasks

    def find_tasks(self) -> None:
        """Look (again) for the tasks that the flow's code calls."""
        self._tasks = [found.definition for found in tasks_of(self.func)]

    @property
    def _takes(self) -> Parameters:
        if self._parameters is None:
            from perfect.parameters import Parameters

            self._parameters = Parameters(self.func)
        return self._parameters

    def parameters_schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of its parameters, from its function's signature."""
        return self._takes.schema

    def arguments(self, given: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What its function is called with, positional and by name, made of JSON values by name.

        Raises:
            ConfigurationError: one is unknown, missing or can't be converted; it names it.
        """
        return self._takes.arguments(given)

    def check_schedule(self) -> None:
        """See whether the flow can be called with what its schedule gives.

        Raises:
            ConfigurationError: a parameter is unknown, missing, wrong or a secret; it names it.
        """
        if self.schedule is None:
            return
        given = self.schedule.parameters
        for name in given:
            if hides(name):
                raise ConfigurationError(
                    f"schedule.parameters[{name!r}]",
                    MASK,
                    "is the name of a secret, and everyone sees a schedule; let the flow read it elsewhere",
                )
        try:
            self._check_given(given)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"schedule.{error.argument}", error.value, error.reason
            ) from None

    def _check_given(self, given: Mapping[str, Any]) -> None:
        if given or _may_need_arguments(self.func):
            from perfect.parameters import Parameters

            # of its own: where the function is decorated, names in its annotations may not be there yet
            Parameters(self.func).arguments(given)

    def to_dict(self) -> dict[str, Any]:
        """The registration body (PROTOCOL part 1)."""
        return {
            "name": self.name,
            "description": self.description,
            "tags": dict(self.tags),
            "tasks": [task.to_dict() for task in self.tasks],
            "schedule": None if self.schedule is None else self.schedule.to_wire(),
            "parameters": self.parameters_schema(),
        }


def _may_need_arguments(function: Callable[..., Any]) -> bool:
    code = getattr(function, "__code__", None)
    if code is None or hasattr(function, "__wrapped__"):
        return True
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or ())]
    return bool(code.co_argcount + code.co_kwonlyargcount > len(defaults))


def tasks_of(function: Callable[..., Any]) -> list[Task[..., Any]]:
    """The tasks that a function's code names, in the order of first use; functions inside it count."""
    from perfect.scan import values_of  # reads byte code: `dis` and `inspect` take 5 ms

    found = {id(value): value for value in values_of(function) if isinstance(value, Task)}
    return list(found.values())
