"""Calls of a task for each element of its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
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
    values = [*args, *kwargs.values()]
    columns = [
        repeat(value.value) if isinstance(value, unmapped) else iter(_elements(task, place, value))
        for place, value in zip([*range(len(args)), *kwargs], values, strict=True)
    ]
    mapped = [place for place, value in enumerate(values) if not isinstance(value, unmapped)]
    if not mapped:
        raise ConfigurationError(
            "map", task.name, "has no argument to go through: all are unmapped or there is none"
        )
    return _rows(task, len(args), kwargs, values, columns, mapped)


def _rows(
    task: Task[..., Any],
    count: int,
    names: Iterable[str],
    values: list[Any],
    columns: list[Iterator[Any]],
    mapped: list[int],
) -> Iterator[Row]:
    while True:
        row = [next(column, _END) for column in columns]
        if any(value is _END for value in row):  # not `in`: an array is equal to nothing
            break
        yield tuple(row[:count]), dict(zip(names, row[count:]))
    ended = [place for place in mapped if row[place] is _END]
    longer = [place for place in mapped if row[place] is not _END]
    if longer:
        places = [*range(count), *names]
        raise ConfigurationError(
            _argument(task, places[ended[0]]),
            values[ended[0]],
            f"has fewer elements than argument {_parameter(task, places[longer[0]])}",
        )


def _elements(task: Task[..., Any], place: int | str, value: Any) -> Iterable[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise ConfigurationError(
            _argument(task, place),
            value,
            "is not a row of elements; hand it over as unmapped(…), or as a list",
        )
    return value


def _argument(task: Task[..., Any], place: int | str) -> str:
    return f"map argument {_parameter(task, place)} of {task.name!r}"


def _parameter(task: Task[..., Any], place: int | str) -> str:
    """An argument by its parameter's name, or by its position where it has none."""
    if isinstance(place, str):
        return place
    code = getattr(task.body, "__code__", None)  # a bound method has its function's
    names = () if code is None else code.co_varnames[: code.co_argcount]
    names = names[1:] if hasattr(task.body, "__self__") else names
    return names[place] if place < len(names) else str(place)
