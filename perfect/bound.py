"""A task that stands in a class, looked up on an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Unpack

    from perfect.tasks import Task, TaskOptions


class BoundTask:
    """A task with the instance as the first argument of each call; everything else is asked of the task."""

    __slots__ = ("__func__", "__self__")

    def __init__(self, task: Task[..., Any], instance: object) -> None:
        self.__func__ = task
        self.__self__ = instance

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(self.__self__, *args, **kwargs)

    def run(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.__func__.run(self.__self__, *args, **kwargs)

    def submit(self, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self.__func__.submit(self.__self__, *args, **kwargs)

    def map(self, /, *args: Any, **kwargs: Any) -> list[Any]:
        from perfect.mapping import unmapped

        return self.__func__.map(unmapped(self.__self__), *args, **kwargs)

    def copy(self, **changes: Unpack[TaskOptions]) -> BoundTask:
        return BoundTask(self.__func__.copy(**changes), self.__self__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BoundTask):
            return NotImplemented
        return self.__func__ is other.__func__ and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return BoundTask, (self.__func__, self.__self__)
