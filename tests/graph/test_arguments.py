"""What tasks are given in a graph: what fits is put together, what does not is refused while it is built."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import pytest

from perfect.core import Flow, FlowRunner, Parameter, State, Task, task, unmapped
from perfect.errors import ConfigurationError, GraphError


class Point(NamedTuple):
    x: Any
    y: Any


@task
def one() -> int:
    return 1


@task
def two() -> int:
    return 2


@task
def same(value: Any) -> Any:
    return value


@task
def table() -> dict[str, Any]:
    return {"a": [10, {"b": 20}], "c": (30, 31)}


@task
def named(first: Any, second: Any = "default", *, only: Any = "only") -> tuple[Any, Any, Any]:
    return first, second, only


@task
def many(first: Any, *rest: Any, **more: Any) -> tuple[Any, Any, Any]:
    return first, rest, more


@task
def strict(a: Any, b: Any = 0, /, c: Any = 0) -> tuple[Any, Any, Any]:
    return a, b, c


def ran(flow: Flow, **parameters: Any) -> State:
    state = FlowRunner(flow).run(parameters)
    assert state.is_successful(), state
    return state


# --- values and containers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda a, b: [a, b, 3], [1, 2, 3]),
        (lambda a, b: (a, (b, "x")), (1, (2, "x"))),
        (lambda a, b: {"a": a, "b": [b, {"deep": (a,)}]}, {"a": 1, "b": [2, {"deep": (1,)}]}),
        (lambda a, b: {a, b, 3}, {1, 2, 3}),
        (lambda a, b: frozenset((a, "x")), frozenset((1, "x"))),
        (lambda a, b: [[[a]], [], [b]], [[[1]], [], [2]]),
        (lambda a, b: Point(a, [b]), Point(1, [2])),
        (lambda a, b: a, 1),
        (lambda a, b: one, 1),
        (lambda a, b: [one, {"x": two}], [1, {"x": 2}]),
        (lambda a, b: "text", "text"),
        (lambda a, b: None, None),
        (lambda a, b: {}, {}),
        (lambda a, b: [], []),
    ],
)
def test_results_stand_anywhere_in_the_arguments(make: Any, expected: Any) -> None:
    with Flow("containers") as flow:
        a, b = one(), two()
        result = same(make(a, b))

    got = ran(flow).result[result].result

    assert got == expected
    assert type(got) is type(expected)


def test_constants_are_handed_over_as_they_are() -> None:
    constants: list[Any] = [
        [1, [2]],
        {"a": {"b": 1}},
        object(),
        Point(1, 2),
        {1, 2},
        defaultdict(int),
    ]
    with Flow("constants") as flow:
        results = [same(constant) for constant in constants]

    state = ran(flow)

    for result, constant in zip(results, constants):
        assert state.result[result].result is constant


def test_parts_of_results() -> None:
    with Flow("parts") as flow:
        whole = table()
        parts = [
            *(same(whole["a"]), same(whole["a"][0]), same(whole["a"][1]["b"])),
            *(same(whole["c"][1:]), same([whole["c"][0], whole["a"][1]["b"]])),
        ]

    state = ran(flow)

    assert [state.result[part].result for part in parts] == [
        [10, {"b": 20}],
        10,
        20,
        (31,),
        [30, 20],
    ]
    assert state.result[whole["a"][1]["b"]].result == 20


def test_a_part_that_is_not_there_fails_the_task_that_wants_it() -> None:
    with Flow("no part") as flow:
        result = same(table()["nothing"])

    state = FlowRunner(flow).run()

    assert state.is_failed()
    assert isinstance(state.result[result].result, KeyError)


def test_a_thousand_indices_deep() -> None:
    deep: Any = "bottom"
    for _ in range(3000):
        deep = [deep]
    with Flow("deep") as flow:
        holder = Parameter("holder")
        part: Any = same(holder)  # nothing is gone through when it is run, either
        for _ in range(3000):
            part = part[0]
        result = same(part)

    assert ran(flow, holder=deep).result[result].result == "bottom"


def test_a_constant_may_contain_itself() -> None:
    circle: list[Any] = [object()]
    circle.append(circle)
    with Flow("circle") as flow:
        result = same(circle)

    assert ran(flow).result[result].result is circle


def test_an_argument_that_is_used_twice_makes_one_upstream() -> None:
    with Flow("twice") as flow:
        a = one()
        result = same([a, a, {"x": a}])

    assert flow.upstream_tasks(result) == [a]
    assert ran(flow).result[result].result == [1, 1, {"x": 1}]


@pytest.mark.parametrize(
    "make",
    [
        lambda node: {node: 1},
        lambda node: [{(1, 2): 3}, {node: 1}],
        lambda node: OrderedDict(x=node),
        lambda node: defaultdict(list, x=node),
    ],
)
def test_a_result_where_it_can_not_be_put_in_is_refused(make: Any) -> None:
    with pytest.raises(GraphError, match="result of a task"):
        with Flow("misplaced"):
            same(make(one()))


# --- positional, by name, defaults, *args, **kwargs -----------------------------------------------


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: named(one()), (1, "default", "only")),
        (lambda: named(one(), two()), (1, 2, "only")),
        (lambda: named(second=one(), first=two()), (2, 1, "only")),
        (lambda: named(0, only=one()), (0, "default", 1)),
        (lambda: many(0), (0, (), {})),
        (lambda: many(0, one(), two(), x=one()), (0, (1, 2), {"x": 1})),
        (lambda: many(first=one(), y=[two()]), (1, (), {"y": [2]})),
        (lambda: strict(one(), two(), c=one()), (1, 2, 1)),
        (lambda: strict(one(), 5, two()), (1, 5, 2)),
    ],
)
def test_arguments_go_where_they_belong(call: Any, expected: Any) -> None:
    with Flow("fits") as flow:
        result = call()

    assert ran(flow).result[result].result == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: named(), r"task 'named': argument 'first' is missing"),
        (lambda: named(only=1), r"task 'named': argument 'first' is missing"),
        (
            lambda: named(1, 2, 3),
            r"task 'named' takes 2 positional arguments \(first, second\), not 3",
        ),
        (lambda: named(1, first=2), r"task 'named': argument 'first' is given twice"),
        (
            lambda: named(1, third=2),
            r"task 'named': argument 'third' is unknown; it takes: first, ",
        ),
        (lambda: one(1), r"task 'one' takes 0 positional arguments \(none\), not 1"),
        (lambda: many(), r"task 'many': argument 'first' is missing"),
        (lambda: many(1, first=2), r"task 'many': argument 'first' is given twice"),
        (lambda: strict(a=1), r"task 'strict': argument 'a' can be given by position only"),
        (lambda: named.map(), r"task 'named': argument 'first' is missing"),
        (lambda: named.map([1], x=[2]), r"task 'named': argument 'x' is unknown"),
        (lambda: Task(name="empty")(), r"neither a function nor a run\(\) method"),
        (lambda: named.map(unmapped([1])), r"task 'named' is mapped over nothing"),
        (lambda: one.map(), r"task 'one' is mapped over nothing"),
    ],
)
def test_what_does_not_fit_is_refused_while_the_flow_is_built(call: Any, message: str) -> None:
    flow = Flow("misfit")
    with pytest.raises(GraphError, match=message) as refused:
        with flow:
            call()

    assert isinstance(refused.value, (ConfigurationError, ValueError))
    assert not str(refused.value).endswith("None: is missing")


def test_what_a_refused_call_was_to_add_is_not_there() -> None:
    flow = Flow("misfit")
    with pytest.raises(GraphError):
        with flow:
            named(1, 2, 3)

    assert flow.tasks == []


def test_an_argument_that_was_never_bound_is_refused_with_task_and_parameter() -> None:
    flow = Flow("unbound")
    flow.bind(named, kwargs={"only": 1})

    with pytest.raises(GraphError, match="task 'named': argument 'first' is missing"):
        flow.run()


def test_a_builtin_takes_anything() -> None:
    with Flow("builtin") as flow:
        result = Task(max, name="max")(one(), two())

    assert ran(flow).result[result].result == 2


def test_a_task_may_have_a_parameter_that_is_called_upstream_tasks() -> None:
    @task
    def odd(upstream_tasks: Any) -> Any:
        return upstream_tasks

    with Flow("odd") as flow:
        a = one()
        result = odd(upstream_tasks=[a])
        other = odd.map(upstream_tasks=[1, 2])

    state = ran(flow)
    assert state.result[result].result == [1]
    assert state.result[other].result == [1, 2]


def test_upstream_tasks_are_waited_for_and_hand_over_nothing() -> None:
    done: list[str] = []

    @task
    def note(text: str) -> None:
        done.append(text)

    with Flow("order") as flow:
        last = note("last", upstream_tasks=(later := []))
        first = note("first")
        middle = note("middle", upstream_tasks=first)  # one need not be in a list
        assert later == []
        last.set_upstream(middle)

    ran(flow)
    assert done == ["first", "middle", "last"]
    assert flow.upstream_tasks(middle) == [first]


# --- the imperative way ------------------------------------------------------------------------------


def test_bind_keeps_what_was_said_before_and_says_anew_what_is_named_again() -> None:
    flow = Flow("bind")
    flow.bind(named, (1,), {"only": 3})
    flow.bind(named, kwargs={"second": two})
    node = flow.bind(named, kwargs={"only": one})

    assert ran(flow).result[node].result == (1, 2, 1)

    flow.bind(named, ("new",))
    assert ran(flow).result[node].result == ("new", 2, 1)


def test_bind_keeps_further_positional_arguments() -> None:
    flow = Flow("bind rest")
    node = flow.bind(many, (1, 2, one))
    flow.bind(many, kwargs={"x": two}, upstream_tasks=[same.copy().bind(0, flow=flow)])

    assert ran(flow).result[node].result == (1, (2, 1), {"x": 2})

    flow.bind(many, (5, 6))
    assert ran(flow).result[node].result == (5, (6,), {"x": 2})


def test_bind_takes_what_goes_by_position_only() -> None:
    flow = Flow("bind strict")
    node = flow.bind(strict, (one,))
    flow.bind(strict, kwargs={"c": two})

    assert ran(flow).result[node].result == (1, 0, 2)
    with pytest.raises(GraphError, match="'b' can be given by position only"):
        flow.bind(strict, kwargs={"b": 1})


@pytest.mark.parametrize("misfit", [{"kwargs": {"x": 1}}, {"args": (1, 2, 3)}])
def test_bind_refuses_what_does_not_fit(misfit: dict[str, Any]) -> None:
    with pytest.raises(GraphError, match="task 'named'"):
        Flow("bind misfit").bind(named, **misfit)


@pytest.mark.parametrize("constant_first", [True, False])
def test_mapped_edges_map_over_their_own_argument_only(constant_first: bool) -> None:
    flow = Flow("mapped edges")
    rows = same.copy(name="rows")
    flow.bind(rows, kwargs={"value": [1, 2]})
    if constant_first:
        flow.bind(named, kwargs={"second": [7, 8, 9]})
    flow.add_edge(rows, named, key="first", mapped=True)
    if not constant_first:
        flow.bind(named, kwargs={"second": [7, 8, 9]})
    flow.add_edge(one, named, key="only")

    state = ran(flow)

    assert state.result[named].result == [(1, [7, 8, 9], 1), (2, [7, 8, 9], 1)]
    assert {edge.key: edge.mapped for edge in flow.edges if edge.downstream.task is named} == {
        "first": True,
        "only": False,
    }


def test_mapped_without_a_parameter_says_nothing() -> None:
    with pytest.raises(GraphError, match="mapped"):
        Flow("x").add_edge(one, two, mapped=True)


def test_a_large_constant_is_not_gone_through_piece_by_piece() -> None:
    numbers = list(range(300_000))
    with Flow("large") as flow:
        result = same(numbers)
        mapping = same(dict.fromkeys(range(100_000), 1.5))

    state = ran(flow)
    assert state.result[result].result is numbers
    assert len(state.result[mapping].result) == 100_000
