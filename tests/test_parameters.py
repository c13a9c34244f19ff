"""What a flow takes: annotations as JSON Schema, and values of requests as arguments."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import pathlib
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    Union,
)
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfect import ConfigurationError
from perfect.jsonable import snapshot
from perfect.kinds import Definitions
from perfect.parameters import LARGEST, Parameters, described_in
from perfect.redaction import MASK, Redactor
from perfect.scalars import Unfit

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2
    PAIR = (1, "x")


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Leaf:
    day: date
    size: int = 3


@dataclass
class Tree:
    name: str
    children: list[Tree] = field(default_factory=list)
    leaf: Leaf | None = None


@dataclass
class Made:
    half: InitVar[int]
    whole: int = field(init=False)

    def __post_init__(self, half: int) -> None:
        if half < 0:
            raise ValueError("half is negative")
        self.whole = 2 * half


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Options(TypedDict):
    depth: int
    until: NotRequired[date]


UserId = NewType("UserId", int)


def convert(annotation: Any, value: Any) -> Any:
    return Definitions().kind_of(annotation).load(value)


def schema_of(annotation: Any) -> Any:
    return Definitions().kind_of(annotation).schema


SCHEMAS: list[tuple[Any, dict[str, Any]]] = [
    (int, {"type": "integer"}),
    (float, {"type": "number"}),
    (str, {"type": "string"}),
    (bool, {"type": "boolean"}),
    (None, {"type": "null"}),
    (Any, {}),
    (object, {}),
    (bytes, {}),
    (complex, {}),
    (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
    (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
    (Union[int, Any], {}),
    (Literal["a", 1, None], {"enum": ["a", 1, None]}),
    (list, {"type": "array"}),
    (list[int], {"type": "array", "items": {"type": "integer"}}),
    (Sequence[str], {"type": "array", "items": {"type": "string"}}),
    (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
    (
        tuple[int, str],
        {
            "type": "array",
            "minItems": 2,
            "maxItems": 2,
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
        },
    ),
    (tuple[()], {"type": "array", "minItems": 0, "maxItems": 0}),
    (set[int], {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
    (frozenset, {"type": "array", "uniqueItems": True}),
    (dict, {"type": "object"}),
    (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
    (Mapping[int, Any], {"type": "object"}),
    (Colour, {"enum": ["red", 2, [1, "x"]]}),
    (Level, {"enum": [1, 2]}),
    (Rights, {"type": "integer"}),
    (date, {"type": "string", "format": "date"}),
    (datetime, {"type": "string", "format": "date-time"}),
    (time, {"type": "string", "format": "time"}),
    (timedelta, {"type": ["string", "number"], "format": "duration"}),
    (Decimal, {"type": ["string", "number"], "format": "decimal"}),
    (UUID, {"type": "string", "format": "uuid"}),
    (Path, {"type": "string", "format": "path"}),
    (pathlib.PurePosixPath, {"type": "string", "format": "path"}),
    (UserId, {"type": "integer"}),
    (Annotated[int, "how many"], {"type": "integer", "description": "how many"}),
    (Annotated[int, 5], {"type": "integer"}),
    (Leaf, {"$ref": "#/$defs/Leaf"}),
]


@pytest.mark.parametrize(("annotation", "schema"), SCHEMAS, ids=[str(one) for one, _ in SCHEMAS])
def test_the_schema_of_an_annotation(annotation: Any, schema: dict[str, Any]) -> None:
    assert schema_of(annotation) == schema


VALUES: list[tuple[Any, Any, Any]] = [
    (int, 5, 5),
    (int, 5.0, 5),
    (int, str(2**60), 2**60),
    (float, 5, 5.0),
    (float, "inf", float("inf")),
    (bool, True, True),
    (str, "x", "x"),
    (None, None, None),
    (Any, {"a": [1]}, {"a": [1]}),
    (Optional[date], None, None),
    (Optional[date], "2024-02-29", date(2024, 2, 29)),
    (str | date, "2024-02-29", date(2024, 2, 29)),
    (date | datetime, "2024-02-29T05:00", datetime(2024, 2, 29, 5)),
    (int | bool, True, True),
    (float | int, 5, 5),
    (int | str, "5", "5"),
    (list[int] | int, [5], [5]),
    (Literal["a", 1], 1, 1),
    (Literal["a", Colour.RED], "red", Colour.RED),
    (list[date], ["2024-01-01"], [date(2024, 1, 1)]),
    (tuple[int, date], [1, "2024-01-01"], (1, date(2024, 1, 1))),
    (set[int], [1, 1, 2], {1, 2}),
    (frozenset[str], ["a"], frozenset("a")),
    (dict[int, Decimal], {"5": "1.5"}, {5: Decimal("1.5")}),
    (dict[date, bool], {"2024-01-01": True}, {date(2024, 1, 1): True}),
    (dict[bool, int], {"True": 1}, {True: 1}),
    (Colour, "red", Colour.RED),
    (Colour, 2, Colour.BLUE),
    (Colour, [1, "x"], Colour.PAIR),
    (Colour, "RED", Colour.RED),
    (Colour, "Colour.RED", Colour.RED),
    (Level, 2, Level.HIGH),
    (Rights, 3, Rights.READ | Rights.WRITE),
    (datetime, "2024-01-01T10:00:00Z", datetime(2024, 1, 1, 10, tzinfo=UTC)),
    (time, "10:30", time(10, 30)),
    (timedelta, 90, timedelta(seconds=90)),
    (timedelta, "PT1H30M", timedelta(minutes=90)),
    (timedelta, "-P1DT0.5S", -timedelta(days=1, seconds=0.5)),
    (timedelta, "P2W", timedelta(weeks=2)),
    (timedelta, "1:30:00", timedelta(minutes=90)),
    (timedelta, "-1 day, 23:59:59.500000", timedelta(seconds=-0.5)),
    (Decimal, 1.5, Decimal("1.5")),
    (Decimal, "0.10", Decimal("0.10")),
    (Path, "a/b", Path("a/b")),
    (Leaf, {"day": "2024-01-01"}, Leaf(date(2024, 1, 1))),
    (
        Tree,
        {"name": "a", "children": [{"name": "b", "leaf": {"day": "2024-01-01", "size": 1}}]},
        Tree("a", [Tree("b", [], Leaf(date(2024, 1, 1), 1))]),
    ),
    (Point, [1], Point(1)),
    (Point, [1, 2], Point(1, 2.0)),
    (Point, {"x": 1}, Point(1)),
    (Options, {"depth": 1, "until": "2024-01-01"}, {"depth": 1, "until": date(2024, 1, 1)}),
    (UserId, 5, 5),
]


@pytest.mark.parametrize(("annotation", "value", "wanted"), VALUES, ids=lambda one: str(one)[:40])
def test_a_value_is_made_of_json(annotation: Any, value: Any, wanted: Any) -> None:
    made = convert(annotation, value)
    assert made == wanted and type(made) is type(wanted)


WRONG: list[tuple[Any, Any, str, str]] = [
    (int, True, "", "is not a whole number"),
    (int, "5", "", "is not a whole number"),
    (int, 5.5, "", "is not a whole number"),
    (int, float("nan"), "", "is not a whole number"),
    (float, "x", "", "is not a number"),
    (float, 10**400, "", "is not a number"),
    (float, True, "", "is not a number"),
    (bool, 1, "", "is neither true nor false"),
    (str, 1, "", "is not text"),
    (None, 0, "", "is not null"),
    (Optional[int], "x", "", "is not a whole number"),
    (int | date, "x", "", "is not a whole number or a date (YYYY-MM-DD)"),
    (Literal["a", 1], True, "", "is not one of 'a', 1"),
    (list[int], {"a": 1}, "", "is not a list"),
    (list[int], "abc", "", "is not a list"),
    (list[list[int]], [[1], [1, "x"]], "[1][1]", "is not a whole number"),
    (tuple[int, int], [1], "", "is not a list of 2"),
    (set[Any], [[1]], "", "has parts that a set can't hold"),
    (dict[str, int], {"a": "x"}, "['a']", "is not a whole number"),
    (dict[int, int], {"a": 1}, "['a']", "is not a whole number"),
    (dict[str, int], [], "", "is not an object"),
    (Colour, "green", "", "is not one of 'red', 2, [1, 'x']"),
    (Level, True, "", "is not one of 1, 2"),
    (date, "2024-02-30", "", "is not a date (YYYY-MM-DD)"),
    (date, 20240101, "", "is not a date (YYYY-MM-DD)"),
    (datetime, "now", "", "is not a date and time (ISO 8601)"),
    (timedelta, "PT", "", "is not a duration (seconds, or ISO 8601 as in PT1H30M)"),
    (timedelta, "P1Y", "", "is not a duration (seconds, or ISO 8601 as in PT1H30M)"),
    (timedelta, 1e300, "", "is not a duration (seconds, or ISO 8601 as in PT1H30M)"),
    (timedelta, True, "", "is not a duration (seconds, or ISO 8601 as in PT1H30M)"),
    (Decimal, "one", "", "is not a decimal number"),
    (UUID, "x", "", "is not a UUID"),
    (Path, 5, "", "is not a path"),
    (Leaf, 5, "", "is not an object of Leaf"),
    (Leaf, {}, ".day", "is required and not given"),
    (Leaf, {"day": "2024-01-01", "colour": 1}, ".colour", "is not known; known: day, size"),
    (Tree, {"name": "a", "children": [{"name": 1}]}, ".children[0].name", "is not text"),
    (Point, [1, 2, 3], "", "has 3 parts, not 1 to 2"),
    (Point, ["x"], "[0]", "is not a whole number"),
    (Options, {"until": "2024-01-01"}, ".depth", "is required and not given"),
]


@pytest.mark.parametrize(("annotation", "value", "path", "reason"), WRONG)
def test_what_does_not_fit_says_where_and_why(
    annotation: Any, value: Any, path: str, reason: str
) -> None:
    with pytest.raises(Unfit) as caught:
        convert(annotation, value)
    assert (caught.value.path, caught.value.reason) == (path, reason)


def test_what_a_class_itself_refuses_is_said() -> None:
    @dataclass
    class Even:
        n: int

        def __post_init__(self) -> None:
            if self.n % 2:
                raise ValueError("odd")

    assert convert(Even, {"n": 2}) == Even(2)
    with pytest.raises(Unfit, match="is no Even: ValueError: odd"):
        convert(Even, {"n": 1})


def test_a_field_that_the_class_makes_is_told_and_not_taken() -> None:
    @dataclass
    class Area:
        side: int
        area: int = field(init=False)

        def __post_init__(self) -> None:
            self.area = self.side**2

    definitions = Definitions()
    kind = definitions.kind_of(Area)
    assert kind.load(snapshot(Area(3))) == Area(3)
    assert definitions.schemas["Area"]["properties"]["area"] == {"readOnly": True}


# There and back: `snapshot` is what the client reports, and what a run is asked for again with.

_moments = st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=5.5))]))
_leaves: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (float, st.floats(allow_nan=False)),
    (str, st.text(st.characters(codec="utf-8"))),
    (bool, st.booleans()),
    (type(None), st.none()),
    (date, st.dates()),
    (datetime, _moments),
    (time, st.times()),
    (timedelta, st.timedeltas()),
    (Decimal, st.decimals(allow_nan=False)),
    (UUID, st.uuids()),
    (Path, st.sampled_from([Path("a/b"), Path("/"), Path(".")])),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Rights, st.sampled_from([Rights(0), Rights.READ, Rights.READ | Rights.WRITE])),
    (Literal["a", 1, False], st.sampled_from(["a", 1, False])),
    (Leaf, st.builds(Leaf, st.dates(), st.integers())),
    (Point, st.builds(Point, st.integers(), st.floats(allow_nan=False))),
    (Options, st.fixed_dictionaries({"depth": st.integers()}, optional={"until": st.dates()})),
    (
        Tree,
        st.recursive(
            st.builds(Tree, st.just("x")),
            lambda inner: st.builds(Tree, st.just("y"), st.lists(inner, max_size=3)),
            max_leaves=5,
        ),
    ),
]
_HASHED = (int, str, date, UUID, bool)


def _containers(
    pair: tuple[Any, st.SearchStrategy[Any]],
) -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    annotation, values = pair
    made: list[tuple[Any, st.SearchStrategy[Any]]] = [
        (annotation, values),
        (list[annotation], st.lists(values, max_size=3)),
        (tuple[annotation, ...], st.lists(values, max_size=3).map(tuple)),
        (tuple[annotation, int], st.tuples(values, st.integers())),
        (dict[str, annotation], st.dictionaries(st.text("abc"), values, max_size=3)),
        (Optional[annotation], st.none() | values),
    ]
    if annotation in _HASHED:
        made.append((set[annotation], st.frozensets(values, max_size=3).map(set)))
        made.append((dict[annotation, int], st.dictionaries(values, st.integers(), max_size=3)))
    return st.sampled_from(made)


@given(st.data())
def test_there_and_back(data: st.DataObject) -> None:
    pair = data.draw(st.sampled_from(_leaves).flatmap(_containers), label="annotation")
    value = data.draw(pair[1], label="value")
    json_text = json.dumps(snapshot(value), allow_nan=False)
    made = convert(pair[0], json.loads(json_text))
    assert made == value and type(made) is type(value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_no_value_raises_anything_else(value: Any) -> None:
    for annotation, _ in _leaves:
        try:
            convert(annotation, value)
        except Unfit:
            pass


# Functions


def example(
    day: date,
    count: int = 5,
    *rest: int,
    colour: Colour = Colour.RED,
    tree: Tree | None = None,
    anything=None,  # type: ignore[no-untyped-def]
) -> None:
    """Do it.

    Args:
        day: The day of
            the data.
        count (int): how many: at most ten.
        anything:
            What you like.

    Returns:
        tree: no argument's.
    """


def test_the_schema_of_a_function() -> None:
    schema = Parameters(example).schema
    assert schema["type"] == "object"
    assert schema["required"] == ["day"]
    assert schema["additionalProperties"] is False
    assert schema["properties"] == {
        "day": {"type": "string", "format": "date", "description": "The day of the data."},
        "count": {"type": "integer", "default": 5, "description": "how many: at most ten."},
        "colour": {"enum": ["red", 2, [1, "x"]], "default": "red"},
        "tree": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}], "default": None},
        "anything": {"default": None, "description": "What you like."},
    }
    assert schema["$defs"]["Tree"]["properties"]["children"] == {
        "type": "array",
        "items": {"$ref": "#/$defs/Tree"},
        "default": [],
    }
    assert schema["$defs"]["Leaf"]["required"] == ["day"]


def test_the_arguments_of_a_function() -> None:
    found = Parameters(example).arguments({"day": "2024-01-01", "tree": {"name": "a"}})
    assert found == ((), {"day": date(2024, 1, 1), "tree": Tree("a")})


@pytest.mark.parametrize(
    ("given_values", "message"),
    [
        ({}, "parameters['day']=None: is required and not given"),
        ({"day": "x"}, "parameters['day']='x': is not a date (YYYY-MM-DD)"),
        (
            {"day": "2024-01-01", "dya": 1},
            "parameters['dya']=1: the flow has no such parameter; it has: day, count, colour, tree, anything",
        ),
        (
            {"day": "2024-01-01", "tree": {"name": "a", "children": [{"name": 5}]}},
            "parameters['tree'].children[0].name=5: is not text",
        ),
        ({"day": "2024-01-01", "rest": [1]}, "parameters['rest']=[1]: the flow has no such"),
    ],
)
def test_what_can_t_be_used_names_parameter_and_value(
    given_values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Parameters(example).arguments(given_values)
    assert str(caught.value).startswith(message)


def test_positional_and_further_parameters() -> None:
    def function(a: int, b: int = 2, /, c: date = date.min, **more: float) -> None: ...

    parameters = Parameters(function)
    assert parameters.schema["additionalProperties"] == {"type": "number"}
    assert parameters.arguments({"a": 1, "b": 3, "z": 1}) == ((1, 3), {"z": 1.0})
    assert parameters.arguments({"a": 1, "c": "2024-01-01"}) == ((1,), {"c": date(2024, 1, 1)})
    with pytest.raises(ConfigurationError, match=r"parameters\['z'\]='x': is not a number"):
        parameters.arguments({"a": 1, "z": "x"})

    def two(a: int = 1, b: int = 2, /) -> None: ...

    with pytest.raises(ConfigurationError, match="can't be given without 'a'"):
        Parameters(two).arguments({"b": 5})

    def any_more(**more) -> None: ...  # type: ignore[no-untyped-def]

    assert Parameters(any_more).schema["additionalProperties"] is True
    assert Parameters(any_more).arguments({"x": [1]}) == ((), {"x": [1]})


def test_what_can_t_be_resolved_takes_anything_and_the_others_their_own() -> None:
    def function(frame: Unknown, when: date) -> None: ...

    parameters = Parameters(function)
    assert parameters.schema["properties"] == {
        "frame": {},
        "when": {"type": "string", "format": "date"},
    }
    assert parameters.arguments({"frame": 5, "when": "2024-01-01"})[1]["frame"] == 5


def test_callables_of_every_kind_are_looked_at() -> None:
    class Flow:
        def __call__(self, n: int) -> None: ...

        def method(self, n: int) -> None: ...

    def function(m: str, n: int) -> None: ...

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None: ...

    for one in (Flow(), Flow().method, functools.partial(function, "m"), wrapped):
        assert Parameters(one).schema["properties"]["n"] == {"type": "integer"}, one
    assert Parameters(min).arguments({"x": 1}) == ((), {"x": 1})  # it has no signature


def test_only_defaults_that_can_be_sent_back_are_shown() -> None:
    def function(
        a=object(), b: int = None, c="x" * 2000, d=float("inf"), e: list[int] = [1], f=sys  # type: ignore
    ) -> None: ...

    shown = Parameters(function).schema["properties"]
    assert {name: part.get("default", "none") for name, part in shown.items()} == {
        "a": "none",
        "b": "none",
        "c": "none",
        "d": "none",
        "e": [1],
        "f": "none",
    }


def test_secrets_are_not_in_the_schema_and_their_names_break_nothing() -> None:
    def function(
        db_password: str = "hunter2", token: Leaf | None = None, key: str = ""
    ) -> None: ...

    schema = Parameters(function).schema
    assert schema["properties"]["db_password"] == {"type": "string", "writeOnly": True}
    assert "hunter2" not in json.dumps(schema)
    redacted = Redactor().redact_schema({**schema, "default": {"password": "hunter2"}})
    assert redacted["default"] == {"password": MASK}
    assert redacted["properties"] == schema["properties"]


def test_no_annotation_and_no_callable_stops_a_flow() -> None:
    class Strange:
        """Equal to nothing, and wrapped in itself."""

        def __eq__(self, other: object) -> bool:
            raise ValueError("can't be compared")

        def __getattr__(self, name: str) -> Any:
            return self

        def __call__(self) -> None: ...

    def function(a: Strange(), b: "1 + 1", c: 5, d: "[" = 1) -> None:  # type: ignore  # noqa: F722
        ...

    assert Parameters(function).schema["properties"] == {
        "a": {},
        "b": {},
        "c": {},
        "d": {"default": 1},
    }
    assert Parameters(Strange()).schema["type"] == "object"


def test_a_schema_with_the_names_of_secrets_stays_one() -> None:
    schema = {
        "type": "object",
        "properties": {"default": {"properties": {"password": {"type": "string"}}}},
        "$defs": {"Token": {"enum": ["Bearer abcdefghijkl"]}, "token": {}},
        "required": ["password"],
    }
    flow = {"name": "f", "password": "hunter2", "parameters": schema}
    redacted = Redactor().redact_flow(flow)
    assert redacted["password"] == MASK
    assert redacted["parameters"]["$defs"]["Token"] == {"enum": ["Bearer ********"]}
    assert redacted["parameters"]["properties"] == schema["properties"]
    assert Redactor().redact_flow({"name": "Bearer abcdefghijkl"}) == {"name": "Bearer ********"}


def test_a_schema_that_is_too_large_is_not_told() -> None:
    many = Literal[tuple("x" * 100 + str(n) for n in range(LARGEST // 100))]  # type: ignore[valid-type]

    def function(a) -> None: ...  # type: ignore[no-untyped-def]

    function.__annotations__["a"] = many
    assert Parameters(function).schema == {"type": "object"}


def test_classes_of_one_name_are_told_apart() -> None:
    def made(kind: type) -> type:
        return dataclasses.make_dataclass("Same", [("part", kind)])

    definitions = Definitions()
    first, second = definitions.kind_of(made(int)), definitions.kind_of(made(str))
    assert first.load({"part": 1}).part == 1 and second.load({"part": "x"}).part == "x"
    assert set(definitions.schemas) == {"Same", "Same2"}


@pytest.mark.parametrize(
    ("doc", "said"),
    [
        ("", {}),
        ("Args: are good.", {}),
        ("Args:\n    a: one\n    b (int): two\n\n        more\n", {"a": "one", "b": "two more"}),
        ("Args:\n    *a: one\n    **b: two\nReturns:\n    c: x", {"a": "one", "b": "two"}),
        ("Args:\n    a: x\n\nRaises:\n    b: y", {"a": "x"}),
        ("Args:\n", {}),
        ("Args:\n    no entry\n    a:\n", {}),
    ],
)
def test_descriptions_are_found_in_the_docstring(doc: str, said: dict[str, str]) -> None:
    assert described_in(doc) == said


def test_uuid_is_known_by_its_name_only() -> None:
    assert convert(UUID, str(uuid.UUID(int=5))) == UUID(int=5)
