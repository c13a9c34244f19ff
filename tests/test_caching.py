"""Keys of calls, the same in every process and different for different calls; results under them."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import inspect
import itertools
import json
import math
import operator
import os
import pathlib
import subprocess
import sys
import textwrap
import threading
import types
import uuid
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perfect
from perfect.caching import TaskCache
from perfect.canonical import canonical
from perfect.errors import ConfigurationError, PerfectError, Uncacheable
from perfect.errors import StorageError
from perfect.store import StateManager

HERE = str(Path(perfect.__file__).parents[1])
CACHE = TaskCache()


def key(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    return CACHE.key_for(function, args, kwargs)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Other(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Bits(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Point3(Point):
    z: Any = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: Any
    y: Any = dataclasses.field(default=0, compare=False, repr=False)


@dataclasses.dataclass
class Lazy:
    x: int

    @functools.cached_property
    def lock(self) -> Any:
        return threading.Lock()


@dataclasses.dataclass
class FullDict(dict[str, int]):
    x: int = 0


class Pair(NamedTuple):
    a: Any
    b: Any


class Pair2(collections.namedtuple("Pair2", "a b")):
    pass


def add(x: Any, y: Any = 2, *, z: Any = 3) -> Any:
    return x, y, z


def many(*args: Any, **kwargs: Any) -> None:
    pass


def only(x: Any, y: Any = 1, /, **kwargs: Any) -> None:
    pass


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
AT = dt.datetime(2026, 7, 1, 12, 30, 15, 250)
DIFFERENT: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    0.0,
    -0.0,
    1.0,
    math.inf,
    math.nan,
    10**6000,
    10**6000 + 1,
    1j,
    complex(1, -0.0),
    complex(1, 0.0),
    "",
    "1",
    "None",
    "True",
    "\udc80",
    "\udc81",
    "?",
    "é",
    b"",
    b"1",
    ...,
    NotImplemented,
    [],
    [1],
    ["1"],
    [[1]],
    [1, 2],
    [12],
    ["a", "b"],
    ["a]str[b"],
    [[1], 2],
    [[1, 2]],
    (),
    (1,),
    ((1,), 2),
    {},
    {"a": 1},
    {"a": [1]},
    {"a": 1, "b": 2},
    {"a": 2, "b": 1},
    {1: "a"},
    {1.0: "a"},
    {("a", 1)},
    {"a", 1},
    {("a", "b"): 1},
    set(),
    {1},
    {1, 2},
    frozenset(),
    frozenset({1}),
    range(3),
    range(0, 3, 2),
    slice(3),
    slice(0, 3),
    Colour.RED,
    Colour.BLUE,
    Other.RED,
    "RED",
    Level.LOW,
    Bits.A,
    Bits.A | Bits.B,
    Bits(0),
    Point(1, 2),
    Point(2, 1),
    Point(1, 2.0),
    Point3(1, 2),
    Slotted(1, 2),
    Slotted(1, 3),
    Pair(1, 2),
    Pair2(1, 2),
    (1, 2),
    dt.date(2026, 7, 1),
    dt.time(12, 30),
    dt.time(12, 30, fold=1),
    dt.time(12, 30, tzinfo=dt.UTC),
    AT,
    AT.replace(fold=1),
    AT.replace(tzinfo=dt.UTC),
    AT.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))),
    AT.replace(tzinfo=dt.timezone(dt.timedelta(hours=2), "CEST")),
    AT.replace(tzinfo=BERLIN),
    AT.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
    dt.timedelta(1),
    dt.timedelta(0, 1),
    decimal.Decimal("1"),
    decimal.Decimal("1.0"),
    decimal.Decimal("NaN"),
    fractions.Fraction(1, 2),
    fractions.Fraction(2, 1),
    uuid.UUID(int=1),
    uuid.UUID(int=2),
    pathlib.Path("a"),
    pathlib.PurePosixPath("a"),
    pathlib.PureWindowsPath("a"),
    pathlib.Path("a/b"),
    int,
    str,
    Point,
    dt.date,
    len,
    math.sin,
    json,
    math,
    add,
    many,
    lambda: 1,
    lambda: 2,
    lambda x: 1,
    lambda x=1: 1,
    functools.partial(add, 1),
    functools.partial(add, x=1),
    functools.partial(many, 1),
]


def test_different_values_have_different_keys() -> None:
    keys = [key(add, value) for value in DIFFERENT]
    for (n, one), (m, other) in itertools.combinations(enumerate(keys), 2):
        assert one != other, (DIFFERENT[n], DIFFERENT[m])


def test_what_is_added_to_an_object_counts_and_what_it_remembers_does_not() -> None:
    plain, more = Point(1), Point(1)
    more.added = 2  # type: ignore[attr-defined]
    assert key(add, plain) != key(add, more)
    lazy = Lazy(1)
    before = key(add, lazy)
    assert lazy.lock
    assert key(add, lazy) == before


SAME: list[tuple[Any, Any]] = [
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({"x", "y", "z", 1, None}, {None, 1, "z", "y", "x"}),
    ({1: "a", "1": "b"}, {"1": "b", 1: "a"}),
    (fractions.Fraction(1, 2), fractions.Fraction(2, 4)),
    (pathlib.Path("a//b"), pathlib.Path("a/b/")),
    (Point(x=1), Point(1, 0)),
    (AT.replace(tzinfo=BERLIN), AT.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))),
    (float("nan"), -float("nan")),
    ("".join(["a", "b"]), "ab"),
]


@pytest.mark.parametrize("one, other", SAME)
def test_equal_values_have_the_same_key(one: Any, other: Any) -> None:
    assert key(add, one) == key(add, other)
    assert key(add, [one], y={"a": one}) == key(add, [other], y={"a": other})


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


def described(value: Any) -> Any:
    """What compares as the keys should: with types, signs of zero and without the order of dicts."""
    if isinstance(value, dict):
        return "dict", {(type(k), k): described(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [described(entry) for entry in value]
    return type(value), repr(value)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_keys_are_equal_exactly_if_the_values_are(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) is (described(one) == described(other))
    assert canonical(one) == canonical(one)


class Plain:
    pass


class Number(float):
    pass


class Broken(dt.tzinfo):
    pass


def local_class() -> Any:
    @dataclasses.dataclass
    class Local:
        x: int = 0

    return Local


CIRCLE: dict[str, Any] = {}
CIRCLE["rows"] = [1, CIRCLE]


UNCACHEABLE: list[tuple[Any, str, str]] = [
    (Plain(), "x", "Plain can't be told"),
    ({"rows": [1, (2, Plain())]}, "x['rows'][1][1]", "Plain"),
    ({Plain(): 1}, "x.keys()[0]", "Plain"),
    ({Plain()}, "x", "Plain"),
    (Point(1, Plain()), "x.y", "Plain"),
    (Pair(Plain(), 1), "x.a", "Plain"),
    (threading.Lock(), "x", "lock"),
    (bytearray(b"a"), "x", "bytearray"),
    (Number(1), "x", "Number"),
    (collections.OrderedDict(), "x", "OrderedDict"),
    (FullDict(), "x", "FullDict"),
    (local_class()(), "x", "Local can't be imported"),
    (local_class(), "x", "Local can't be imported"),
    (dt.datetime(2026, 1, 1, tzinfo=Broken()), "x", "Broken"),
    ([].append, "x", "can't be imported"),
    (Plain().__init__, "x", "can't be told"),
    (CIRCLE, "x['rows'][1]", "contains itself"),
    (iter([]), "x", "list_iterator"),
    ((n for n in "a"), "x", "generator"),
    (ValueError("a"), "x", "ValueError"),
    (functools.partial(add, Plain()), "x.args[0]", "Plain"),
]


@pytest.mark.parametrize("value, place, reason", UNCACHEABLE, ids=[str(c[1:]) for c in UNCACHEABLE])
def test_what_is_not_known_by_its_value_is_refused_by_name(
    value: Any, place: str, reason: str
) -> None:
    for args, kwargs in (((value,), {}), ((), {"x": value})):
        with pytest.raises(Uncacheable) as caught:
            CACHE.key_for(add, args, kwargs)
        assert str(caught.value).startswith(f"{place} of {__name__}.add: ")
        assert reason in str(caught.value)
        assert isinstance(caught.value, PerfectError)
    for args, kwargs, where in (((0, value), {}, "args[1]"), ((), {"more": value}, "more")):
        with pytest.raises(Uncacheable) as caught:
            CACHE.key_for(many, args, kwargs)
        assert str(caught.value).startswith(where + place.removeprefix("x"))
    with pytest.raises(Uncacheable, match=r"^context\[1\]"):
        CACHE.key_for(add, (), {}, 1, value)


def test_nesting_without_end_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Uncacheable, match="nested too deep"):
        key(add, deep)
    while deep:  # taken apart by hand: its end must not come recursively
        deep = deep.pop()


# Calls


def test_it_does_not_matter_how_an_argument_is_passed() -> None:
    keys = {
        key(add, 1),
        key(add, x=1),
        key(add, 1, 2),
        key(add, y=2, x=1),
        key(add, 1, z=3),
        key(add, z=3, y=2, x=1),
        key(functools.partial(add, 1)),
        key(functools.partial(functools.partial(add, z=3), 1), y=2),
    }
    assert len(keys) == 1
    assert len({*keys, key(add, 2), key(add, 1, 3), key(add, 1, z=4), key(add, 1, 3, z=2)}) == 5


def test_variable_arguments() -> None:
    calls = [
        key(many),
        key(many, 1),
        key(many, 1, 2),
        key(many, (1, 2)),
        key(many, [1, 2]),
        key(many, args=1),
        key(many, kwargs=1),
        key(many, a=1, b=2),
        key(many, {"a": 1, "b": 2}),
        key(only, 1),
        key(only, 1, y=1),
        key(only, 1, y=2),
        key(only, 2),
    ]
    assert len(set(calls)) == len(calls)
    assert key(many, a=1, b=2) == key(many, b=2, a=1)
    assert key(only, 1) == key(only, 1, 1)


def test_a_call_that_does_not_fit_has_a_key_all_the_same() -> None:
    calls = [key(add), key(add, 1, 2, 3), key(add, 1, unknown=1), key(add, 1, 2, 3, 4)]
    assert len(set(calls)) == 4


def test_defaults_belong_to_the_call() -> None:
    def made(default: Any) -> Any:
        def function(x: Any = default) -> None:
            pass

        return function

    assert key(made(1)) != key(made(2))
    assert key(made(1), 2) == key(made(2))
    assert key(made(object()), 2) == key(made(2))
    with pytest.raises(Uncacheable, match="^x of "):
        key(made(object()))


# Code


def compiled(text: str, name: str = "f", **names: Any) -> Any:
    space: dict[str, Any] = {"__name__": "somewhere", **names}
    exec(compile(textwrap.dedent(text), "file.py", "exec"), space)
    return space[name]


BODIES = [
    "def f(x): return x",
    "def f(x): return x + 1",
    "def f(x): return x + 1.0",
    "def f(x): return x + True",
    "def f(x): return x - 1",
    "def f(x): return abs(x)",
    "def f(x): return len(x)",
    "def f(x): return x.a",
    "def f(x): return x.b",
    "def f(y): return y",
    "def f(x, *y): return x",
    "def f(x, **y): return x",
    "def f(x, *, y=1): return x",
    "async def f(x): return x",
    "def f(x): yield x",
    "def f(x): return lambda: x",
    "def f(x): return lambda: x + 1",
    "def f(x): return lambda: x + 2",
    "def f(x): return [n for n in x]",
    "def f(x): return [n for n in x if n]",
    "def f(x): return x in {1, 2}",
    "def f(x): return x in {1, 3}",
    "def f(x): return x[...]",
    "def f(x): return x[1:2]",
    "def f(x): return 'a'",
    "def f(x): return b'a'",
    "def f(x): return (1, (2, 3))",
    "def f(x): return -0.0",
    "def f(x): return 0.0",
    "def f(x):\n  try: return g(x)\n  except E: return 1",
    "def f(x):\n  try: return g(x)\n  except F: return 1",
]


def test_other_code_has_another_key() -> None:
    keys = [key(compiled(body), 1) for body in BODIES]
    assert len(set(keys)) == len(BODIES)
    assert [key(compiled(body), 1) for body in BODIES] == keys


def test_what_a_try_covers_counts() -> None:
    function = compiled(BODIES[-1])
    code = function.__code__.replace(co_exceptiontable=b"")
    assert key(function, 1) != key(types.FunctionType(code, function.__globals__, "f"), 1)


def test_code_may_move() -> None:
    body = "def f(x):\n    return [n + 1 for n in x]"
    assert key(compiled(body), 1) == key(compiled("\n\n# a comment\nimport os\n" + body), 1)
    assert key(compiled(body), 1) != key(compiled(body.replace("f(", "g("), "g"), 1)
    assert key(compiled(body), 1) != key(compiled(body, __name__="elsewhere"), 1)


def test_code_that_was_run_often_has_the_same_key() -> None:
    function = compiled("def f(x):\n    t = 0\n    for n in range(x): t += n\n    return t")
    before = key(function, 1)
    for _ in range(200):
        function(50)
    assert key(function, 1) == before


def closed_over(value: Any) -> Any:
    def function(x: Any) -> Any:
        return x, value

    return function


def test_closures_count() -> None:
    assert key(closed_over(1), 0) == key(closed_over(1), 0)
    keys = {key(closed_over(value), 0) for value in (1, 1.0, "1", [1], add, json, math, Point)}
    assert len(keys) == 8
    with pytest.raises(Uncacheable, match=r"^\.__closure__\['value'\]\[0\] of .*Plain"):
        key(closed_over([Plain()]), 0)


def test_wrapped_functions_count() -> None:
    def doubled(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args) * 2

        return wrapper

    one, other = compiled("def f(x): return x + 1"), compiled("def f(x): return x + 2")
    assert key(doubled(one), 1) == key(doubled(one), 1) != key(doubled(other), 1)
    assert key(one, 1) != key(doubled(one), 1)


def test_local_functions_may_call_themselves_and_each_other() -> None:
    def made(step: int) -> Any:
        def even(n: int) -> bool:
            return n == 0 or odd(n - step)

        def odd(n: int) -> bool:
            return n != 0 and even(n - step)

        return even

    assert key(made(1), 4) == key(made(1), 4) != key(made(2), 4)


def test_a_cell_without_a_value_is_no_trouble() -> None:
    def made(assigned: bool) -> Any:
        def function() -> Any:
            return later

        if assigned:
            later = 1
        return function

    assert key(made(False)) == key(made(False)) != key(made(True))


class Fetch:
    """As a subclass of Task is: `run` and attributes."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, page: int, size: int = 10) -> Any:
        return self.url, page, size

    def __call__(self, page: int) -> Any:
        return self.run(page)


class Fetch2(Fetch):
    pass


def test_context_counts() -> None:
    assert CACHE.key_for(add, (1,), {}) != CACHE.key_for(add, (1,), {}, None)
    keys = [
        CACHE.key_for(add, (1,), {}, *context)
        for context in ([], [1], [1.0], [{}], [1, 2], [[1, 2]])
    ]
    assert len(set(keys)) == 6


def test_context_stands_in_for_the_object_of_a_method() -> None:
    one, other = Fetch("one"), Fetch("other")
    same = {
        CACHE.key_for(one.run, (1,), {}, {"url": "one"}),
        CACHE.key_for(Fetch("one").run, (), {"page": 1}, {"url": "one"}),
        CACHE.key_for(one.run, (1, 10), {}, {"url": "one"}),
    }
    assert len(same) == 1
    different = {
        CACHE.key_for(other.run, (1,), {}, {"url": "other"}),
        CACHE.key_for(one.run, (2,), {}, {"url": "one"}),
        CACHE.key_for(Fetch2("one").run, (1,), {}, {"url": "one"}),
        CACHE.key_for(one, (1,), {}, {"url": "one"}),
    }
    assert len(same | different) == 5
    with pytest.raises(Uncacheable, match="^self of "):
        CACHE.key_for(one.run, (1,), {})
    with pytest.raises(Uncacheable, match="^self of "):
        CACHE.key_for(one, (1,), {})


def test_builtins_and_classes_can_be_tasks() -> None:
    keys = {key(len, "abc"), key(sum, "abc"), key(Point, 1), key(int, "1"), key(int, 1)}
    assert len(keys) == 5
    with pytest.raises(Uncacheable, match="^function of "):
        key(operator.itemgetter(1), [1, 2])


def test_a_key_is_text_that_names_the_function() -> None:
    name, _, digest = key(add, 1).rpartition(" ")
    assert name == f"{__name__}.add"
    assert len(digest) == 64 and set(digest) <= set("0123456789abcdef")


# A key function


def test_a_key_function_takes_the_place_of_code_and_arguments() -> None:
    cache = TaskCache(key=lambda x, y=0: (x, "y"))
    assert cache.key_for(add, (1,), {}) == cache.key_for(add, (1, Plain()), {})
    assert cache.key_for(add, (1,), {}) == cache.key_for(add, (), {"x": 1}, Plain())
    assert cache.key_for(add, (1,), {}) != cache.key_for(add, (2,), {})
    assert cache.key_for(add, (1,), {}) != cache.key_for(many, (1,), {})
    first, second = compiled(BODIES[0]), compiled(BODIES[1])
    assert cache.key_for(first, (1,), {}) == cache.key_for(second, (1,), {})
    assert cache.key_for(add, (1,), {}) != CACHE.key_for(add, ((1, "y"),), {})
    with pytest.raises(Uncacheable, match=r"^key\(\)\[1\] of "):
        TaskCache(key=lambda x: (x, Plain())).key_for(add, (1,), {})
    with pytest.raises(ZeroDivisionError):
        TaskCache(key=lambda x: 1 / 0).key_for(add, (1,), {})


# Results


def test_results_come_back() -> None:
    cache = TaskCache()
    result = object()
    assert cache.lookup(key(add, 1)) == (False, None)
    cache.keep(key(add, 1), result)
    cache.keep(key(add, 2), None)
    assert cache.lookup(key(add, 1))[1] is result
    assert cache.lookup(key(add, 2)) == (True, None)
    assert TaskCache().lookup(key(add, 1)) == (False, None)  # each has a memory of its own


def test_results_last_as_long_as_they_are_told_to() -> None:
    now = [1000.0]
    store = StateManager(default_ttl=5, clock=lambda: now[0])
    TaskCache(store).keep("a", 1)
    TaskCache(store, ttl=dt.timedelta(seconds=10)).keep("b", 2)
    cache = TaskCache(store)
    assert cache.store is store
    now[0] += 5
    assert (cache.lookup("a"), cache.lookup("b")) == ((False, None), (True, 2))
    now[0] += 5
    assert cache.lookup("b") == (False, None)


def test_a_file_keeps_them_for_the_next_process(tmp_path: Path) -> None:
    for path in (tmp_path / "results.json", str(tmp_path / "results2.json")):
        TaskCache(path).keep(key(add, 1), [1, 2])
        assert TaskCache(path).lookup(key(add, 1)) == (True, [1, 2])
        assert f"{__name__}.add " in Path(path).read_text()
    assert repr(TaskCache(path)) == f"TaskCache(StateManager({path!r}))"


def test_a_result_that_the_file_can_not_hold_is_refused_by_name(tmp_path: Path) -> None:
    cache = TaskCache(tmp_path / "results.json")
    with pytest.raises(Uncacheable, match=r"^result\['rows'\]\[1\]: .* a tuple back"):
        cache.keep("a", {"rows": [1, (2,)]})
    assert cache.lookup("a") == (False, None)


def test_a_file_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    cache = TaskCache(tmp_path)
    with pytest.raises(StorageError, match=str(tmp_path)):
        cache.keep("a", 1)
    with pytest.raises(StorageError, match=str(tmp_path)):
        cache.lookup("a")


@pytest.mark.parametrize(
    "arguments, argument",
    [
        ({"store": 1}, "storage_path"),
        ({"store": {}}, "storage_path"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": "1"}, "ttl"),
        ({"key": "x"}, "key"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], argument: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TaskCache(**arguments)
    assert caught.value.argument == argument


def test_threads_may_use_one_at_once() -> None:
    cache = TaskCache()
    barrier = threading.Barrier(8)
    found: list[Any] = []

    def work(thread: int) -> None:
        barrier.wait(30)
        for n in range(200):
            cache.keep(cache.key_for(add, (thread, n), {}), (thread, n))
        found.extend(cache.lookup(cache.key_for(add, (thread, n), {}))[1] for n in range(200))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == [(thread, n) for thread in range(8) for n in range(200)]


# Processes

WORK = '''
from __future__ import annotations
import dataclasses, datetime, decimal, enum, json, pathlib, sys, uuid
from perfect.caching import TaskCache

class Colour(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: object

def outer(factor):
    def work(rows, names, *, at=datetime.date(2026, 1, 2)):
        """Has a set constant, whose order differs between processes."""
        return [row * factor for row in rows if names in {"a", "b", "c", "d"}]
    return work

work = outer(3)
cache = TaskCache()
keys = [
    cache.key_for(work, ([1, 2.5, None], {"x", "y", "z", "w"}), {}),
    cache.key_for(work, (), {"names": Colour.RED, "rows": Point({"b": b"1", "a": (1,)})}),
    cache.key_for(work, (decimal.Decimal("1.0"), uuid.UUID(int=5)), {"at": pathlib.PurePosixPath("a")}),
    cache.key_for(work, (lambda x: x in {"q", "r", "s"}, len), {}, {"k": {"m", "n", "o"}}),
    TaskCache(key=lambda *args: {"e", "f", "g"}).key_for(work, (1, 2), {}),
]
'''


def output_of(script: str, *args: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *args],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": HERE, **environment},
    )
    return done.stdout


def test_other_processes_find_the_same_keys() -> None:
    script = f"{WORK}\nprint(json.dumps(keys))"
    found = [json.loads(output_of(script, PYTHONHASHSEED=seed)) for seed in ("0", "1", "77")]
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) == 5


def test_spawned_workers_find_the_same_keys(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(f"""{WORK}
def child(n):
    return keys
if __name__ == "__main__":
    import multiprocessing
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(child, [1]) == [keys]
    print("same")
""")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": HERE},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.stdout, done.stderr) == ("same\n", "")


def test_a_result_is_reused_by_another_process(tmp_path: Path) -> None:
    script = f"""{WORK}
cache = TaskCache(sys.argv[1])
hit, value = cache.lookup(keys[0])
if not hit:
    value = work([1, 2], "a")
    cache.keep(keys[0], value)
print(hit, value)
"""
    path = str(tmp_path / "results.json")
    assert [output_of(script, path) for _ in range(3)] == [
        "False [3, 6]\n",
        "True [3, 6]\n",
        "True [3, 6]\n",
    ]


def test_signatures_are_bound_as_inspect_binds_them() -> None:

    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (args, dict(kwargs))
        for n in range(4)
        for args in itertools.product((1, 2), repeat=n)
        for kwargs in itertools.chain.from_iterable(
            itertools.combinations([("x", 1), ("y", 2), ("z", 3), ("w", 1)], k) for k in range(4)
        )
    ]
    parameters = ["x", "x, y=2", "x=1, *y", "x, /, y=1", "x, *, z=3", "*x, **y", "x, y=1, /, **z"]
    for text in parameters:
        function = compiled(f"def f({text}): pass")
        known: dict[str, str] = {}
        for args, kwargs in calls:
            try:
                bound = inspect.signature(function).bind(*args, **kwargs)
            except TypeError:
                continue
            bound.apply_defaults()
            meaning = repr(
                [
                    (name, sorted(value.items()) if isinstance(value, dict) else value)
                    for name, value in bound.arguments.items()
                ]
            )
            found = key(function, *args, **kwargs)
            assert known.setdefault(meaning, found) == found, (text, args, kwargs)
        assert len(set(known.values())) == len(known), text
