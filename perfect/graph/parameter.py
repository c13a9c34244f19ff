"""What a graph flow is given when it is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfect.definitions import check_name
from perfect.errors import ConfigurationError
from perfect.tasks import Task

_NONE: Any = object()


class Parameter(Task[..., Any]):
    """A value that a flow is given when it is run; as an argument of a task it stands for that value.

    Args:
        name: what the value goes by: ``flow.run(parameters={name: …})``.
        default: what it is where none is given; without one it must be given.
        required: whether it must be given; default: if there is no default.
    """

    def __init__(self, name: str, default: Any = _NONE, required: bool | None = None) -> None:
        super().__init__(name=check_name("name", name), description="parameter", estimated_time=0)
        self.default = None if default is _NONE else default
        self.required = default is _NONE if required is None else bool(required)
        if self.required and default is not _NONE:
            raise ConfigurationError("required", required, f"{name!r} has a default")

    def run(self) -> Any:
        """Its default; the value that a run was given is that run's."""
        return self.default

    def value_from(self, given: Mapping[str, Any]) -> Any:
        """Its value in a run."""
        return given[self.name] if self.name in given else self.default

    def __repr__(self) -> str:
        return f"<Parameter {self.name!r}>"
