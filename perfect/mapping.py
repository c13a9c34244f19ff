"""Calls of a task for each element of its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from perfect.errors import ConfigurationError
from perfect.tasks import Task

Row = tuple[tuple[Any, ...], dict[str, Any]]

_END = object()


class unmapped:
    """An argument of `Task.map` that is the same for every element."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"unmapped({self.value!r})"


def rows(task: Task[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Row]:
    """The arguments of each element's call, made as they are asked for.

    Raises:
        ConfigurationError: an argument can't be gone through, all are unmapped, or (while they are
            gone through) they differ in length.
    """
    named = [(str(position), value) for position, value in enumerate(args)] + list(kwargs.items())
    iterators = {
        name: iter(_elements(task, name, value))
        for name, value in named
        if not isinstance(value, unmapped)
    }
    if not iterators:
        raise ConfigurationError(
            "map", task.name, "has no argument to go through: all are unmapped or there is none"
        )
    return _zipped(task, named, iterators)


def _elements(task: Task[..., Any], name: str, value: Any) -> Iterable[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise ConfigurationError(
            f"map argument {name} of {task.name!r}",
            value,
            "is not a row of elements; hand it over as unmapped(…), or as a list",
        )
    return value


def _zipped(
    task: Task[..., Any], named: list[tuple[str, Any]], iterators: dict[str, Iterator[Any]]
) -> Iterator[Row]:
    while True:
        element = {name: next(iterator, _END) for name, iterator in iterators.items()}
        ended = [name for name, value in element.items() if value is _END]
        if ended:
            if len(ended) < len(element):
                longer = next(name for name in element if name not in ended)
                raise ConfigurationError(
                    f"map argument {ended[0]} of {task.name!r}",
                    None,
                    f"has fewer elements than argument {longer}",
                )
            return
        given = [
            (name, value.value if isinstance(value, unmapped) else element[name])
            for name, value in named
        ]
        yield (
            tuple(value for name, value in given if name.isdigit()),
            {name: value for name, value in given if not name.isdigit()},
        )
