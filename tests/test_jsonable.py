"""Snapshots: any Python value becomes JSON that every backend can read."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import fractions
import io
import json
import math
import threading
import types
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfect.jsonable import DEEPEST, EXACT_INTEGER, snapshot
from perfect.text import clean


def as_json(value: Any, **limits: int) -> Any:
    """What arrives of it: through the strictest encoder there is."""
    text = json.dumps(snapshot(value, **limits), allow_nan=False, ensure_ascii=False)
    return json.loads(text.encode("utf-8"))


class Colour(enum.Enum):
    RED = "red"
    SET = frozenset({1})


class Level(enum.IntEnum):
    HIGH = 3


class Named(str):
    def __str__(self) -> str:
        return "not me"


class Counted(int):
    def __str__(self) -> str:
        return "not me"


@dataclass
class Point:
    x: float
    label: Any = None


class Raising:
    """Raises wherever it is looked at."""

    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    def __str__(self) -> str:
        raise self._error("no")

    @property
    def item(self) -> Any:
        raise self._error("no")


class RaisingDict(dict[str, Any]):
    def items(self) -> Any:
        raise KeyError("no")


odd = st.one_of(
    st.binary(),
    st.complex_numbers(),
    st.decimals(),
    st.fractions(),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.ip_addresses(),
    st.sampled_from(
        [
            json,
            math.sqrt,
            object,
            object(),
            Ellipsis,
            NotImplemented,
            range(3),
            Colour.RED,
            Level.HIGH,
        ]
    ),
    st.sampled_from([Raising(ValueError), Raising(RecursionError), RaisingDict(a=1), Colour.SET]),
    st.builds(Named, st.text()),
    st.builds(Counted, st.integers()),
    st.builds(io.StringIO, st.text()),
    st.sampled_from([mock.MagicMock(), mock.Mock(spec=dict), mock.MagicMock(spec=str)]),
    st.just(5000).map(lambda digits: 10**digits),
)
text = st.text(st.characters(codec=None), max_size=20)  # lone surrogates too
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text, odd)
keys = st.one_of(
    text, st.integers(), st.floats(), st.none(), st.binary(), st.tuples(text), st.uuids()
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(keys, inner, max_size=5),
        st.sets(st.one_of(text, st.integers(), st.none(), st.floats()), max_size=5),
        st.builds(Point, st.floats(), inner),
        st.lists(inner, max_size=5).map(collections.deque),
        st.dictionaries(text, inner, max_size=3).map(types.MappingProxyType),
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(values)
def test_whatever_it_is_it_becomes_strict_json(value: Any) -> None:
    as_json(value)
    as_json(value, longest=5, most=2)


plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-EXACT_INTEGER, EXACT_INTEGER),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=15,
)


@settings(deadline=None)
@given(plain)
def test_json_data_stays_as_it_is(value: Any) -> None:
    assert snapshot(value) == value


def test_later_changes_do_not_show() -> None:
    table = [{"rows": [1, 2]}]
    kept = snapshot(table)
    table[0]["rows"].append(3)
    table.append({"rows": []})
    assert kept == [{"rows": [1, 2]}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (EXACT_INTEGER, EXACT_INTEGER),
        (EXACT_INTEGER + 1, str(EXACT_INTEGER + 1)),
        (-(2**64), str(-(2**64))),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ((1, "x"), [1, "x"]),
        (b"ok \xff", "ok \\xff"),
        (bytearray(b"x"), "x"),
        (dt.datetime(2024, 2, 29, 12, 0, 1), "2024-02-29T12:00:01"),
        (dt.date(2024, 2, 29), "2024-02-29"),
        (dt.timedelta(hours=1), "1:00:00"),
        (decimal.Decimal("1.10"), "1.10"),
        (fractions.Fraction(1, 3), "1/3"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("/a/b"), "/a/b"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Named("me"), "me"),
        (Counted(7), 7),
        (Point(1.5, {"a": (1,)}), {"x": 1.5, "label": {"a": [1]}}),
        ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "None": "b", "(1, 2)": "c"}),
        (collections.OrderedDict(a=1), {"a": 1}),
        ("a\ud800b", "a?b"),
        ({"\udfff": 1}, {"?": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_how_a_value_reads(value: Any, expected: Any) -> None:
    found = snapshot(value)
    assert found == expected
    assert type(found) is type(expected)


def test_what_has_no_json_form_is_described() -> None:
    assert snapshot(json).startswith("<module 'json'")
    assert "lock" in snapshot(threading.Lock())
    assert snapshot(10**5000).startswith("0x")
    assert snapshot(Raising(ValueError)) == "<Raising: ValueError while reading it>"


def test_a_mixed_set_has_a_fixed_order() -> None:
    mixed: set[Any] = {"b", 2, None, "a", 1}
    assert snapshot(mixed) == snapshot(set(reversed(list(mixed))))
    assert sorted(map(repr, snapshot(mixed))) == sorted(map(repr, mixed))


def test_a_circle_is_cut() -> None:
    circle: list[Any] = [1]
    circle.append({"again": circle})
    assert snapshot(circle) == [1, {"again": "<circular>"}]
    twice = [1]
    assert snapshot([twice, twice]) == [[1], [1]]  # the same value twice is no circle


def test_what_is_nested_too_deep_is_cut() -> None:
    deep: Any = "bottom"
    for _ in range(100_000):
        deep = [deep]
    kept, depth = snapshot(deep), 0
    while isinstance(kept, list):
        kept, depth = kept[0], depth + 1
    assert (kept, depth) == ("<nested too deep>", DEEPEST)
    while isinstance(deep, list):  # its own destruction would recurse
        deep = deep[0]


def test_an_error_in_one_entry_leaves_the_others() -> None:
    assert snapshot({"good": 1, "bad": Raising(KeyError)}) == {
        "good": 1,
        "bad": "<Raising: KeyError while reading it>",
    }


def test_an_interruption_is_not_swallowed() -> None:
    class Interrupted:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        snapshot(Interrupted())


def test_limits() -> None:
    assert snapshot("x" * 20, longest=5) == "xxxxx… [cut, 15 characters]"
    assert snapshot(b"x" * 20, longest=5) == "xxxxx… [cut, 15 characters]"
    assert snapshot([1, 2, 3, 4], most=2) == [1, 2, "… 2 more"]
    assert snapshot({"a": 1, "b": 2, "c": 3}, most=2) == {"a": 1, "b": 2, "…": "1 more"}
    assert snapshot([1, 2], most=2) == [1, 2]
    assert snapshot({"a": ["x" * 9]}, longest=3) == {"a": ["xxx… [cut, 6 characters]"]}


def test_a_numpy_like_scalar_is_its_value() -> None:
    class Scalar:
        ndim = 0

        def item(self) -> float:
            return 2.5

    assert snapshot(Scalar()) == 2.5


def test_a_large_table_is_kept_whole() -> None:
    table = [{"id": i, "text": "x" * 90} for i in range(50_000)]  # about 5 MB
    assert snapshot(table) == table


@pytest.mark.parametrize("good", ["", "ascii", "naïve", "😀", "\x00\n"])
def test_clean_text_stays_the_same_object(good: str) -> None:
    assert clean(good) is good


@given(st.text(st.characters(codec=None)))
def test_clean_text_can_be_encoded(any_text: str) -> None:
    cleaned = clean(any_text)
    cleaned.encode()
    assert len(cleaned) == len(any_text)
