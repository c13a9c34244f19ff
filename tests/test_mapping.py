"""The calls that `Task.map` makes of its arguments."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from perfect.errors import ConfigurationError
from perfect.mapping import rows, unmapped
from perfect.tasks import Task, task


@task
def step(first: Any, second: Any = None, *rest: Any, named: Any = None) -> Any:
    return first, second, rest, named


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        (([1, 2],), {}, [((1,), {}), ((2,), {})]),
        (([1, 2], (3, 4)), {}, [((1, 3), {}), ((2, 4), {})]),
        (([1, 2], unmapped("x")), {}, [((1, "x"), {}), ((2, "x"), {})]),
        ((unmapped("x"), [1]), {"named": [2]}, [(("x", 1), {"named": 2})]),
        ((), {"first": range(2), "named": unmapped([9])}, [
            ((), {"first": 0, "named": [9]}),
            ((), {"first": 1, "named": [9]}),
        ]),
        (([],), {}, []),
        (([[1], [2]],), {}, [(([1],), {}), (([2],), {})]),
        (([unmapped(1)],), {}, None),
    ],
)  # fmt: skip
def test_the_arguments_of_each_call(args: Any, kwargs: Any, expected: Any) -> None:
    found = list(rows(step, args, kwargs))
    if expected is None:  # only a whole argument is unmapped
        assert isinstance(found[0][0][0], unmapped)
    else:
        assert found == expected


def test_the_order_of_named_arguments_is_the_callers() -> None:
    (row,) = rows(step, (), {"named": [1], "first": unmapped(2)})
    assert list(row[1]) == ["named", "first"]


def test_elements_are_asked_for_one_by_one() -> None:
    asked: list[int] = []

    def source() -> Iterator[int]:
        for number in itertools.count():
            asked.append(number)
            yield number

    made = rows(step, (source(),), {})
    assert asked == []
    assert [next(made), next(made)] == [((0,), {}), ((1,), {})]
    assert asked == [0, 1]


def test_elements_that_are_equal_to_everything() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        __hash__ = object.__hash__

    assert len(list(rows(step, ([Odd(), Odd()],), {}))) == 2


@pytest.mark.parametrize("value", ["text", b"bytes", {"a": 1}, 3, None, object], ids=repr)
def test_what_can_not_be_gone_through_is_named(value: Any) -> None:
    for args, kwargs, name in (
        ((value,), {}, "first"),
        ((unmapped(1), value), {}, "second"),
        (([1], [2], value), {}, "2"),
        ((), {"named": value}, "named"),
    ):
        with pytest.raises(ConfigurationError, match="is not a row of elements") as caught:
            rows(step, args, kwargs)  # type: ignore[arg-type]
        assert caught.value.argument == f"map argument {name} of 'step'"
        assert caught.value.value is value


def test_nothing_to_go_through() -> None:
    for args in ((), (unmapped([1, 2]),)):
        with pytest.raises(ConfigurationError, match="all are unmapped or there is none"):
            rows(step, args, {})


@pytest.mark.parametrize(
    ("args", "shorter", "longer"),
    [
        (([1], [1, 2]), "first", "second"),
        (([1, 2], [1]), "second", "first"),
        (([1, 2], unmapped(0), []), "2", "first"),
        (([], itertools.count()), "first", "second"),
    ],
)
def test_different_lengths_are_refused_when_they_show(args: Any, shorter: str, longer: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        list(rows(step, args, {}))
    assert caught.value.argument == f"map argument {shorter} of 'step'"
    assert caught.value.value in args
    assert caught.value.reason == f"has fewer elements than argument {longer}"


def test_the_parameters_of_a_subclass_are_named() -> None:
    class Add(Task[[int, int], int]):
        def run(self, left: int, right: int) -> int:
            return left + right

    with pytest.raises(ConfigurationError, match="map argument right of 'Add'=5"):
        rows(Add(), ([1], 5), {})


def test_an_error_of_the_elements_own_comes_through() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    made = rows(step, (source(),), {})
    next(made)
    with pytest.raises(OSError, match="disk"):
        next(made)


def test_unmapped_says_what_it_is() -> None:
    assert repr(unmapped([1])) == "unmapped([1])"
