"""Building graphs: nodes, edges, cycles, what is refused, and in which scope all that happens."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import perfect
from perfect.context import current
from perfect.core import Edge, Flow, FlowRunner, Node, Parameter, Task, TaskRunner, task
from perfect.errors import ConfigurationError, CycleError, GraphError
from perfect.testing import Recorder


@task
def one() -> int:
    return 1


@task
def same(value: Any) -> Any:
    return value


@task
def plus(x: Any, y: Any = 1) -> Any:
    return x + y


def names(nodes: list[Node]) -> list[str]:
    return [node.name for node in nodes]


def uses(*labels: str) -> list[Task[..., Any]]:
    return [plus.copy(name=label) for label in labels]


# --- both ways of building -----------------------------------------------------------------------


def test_functional() -> None:
    with Flow("functional") as flow:
        a = one()
        b = plus(a, y=a)
        c = plus(b)

    state = FlowRunner(flow).run()

    assert [state.result[node].result for node in (a, b, c)] == [1, 2, 3]
    assert flow.tasks == [a, b, c] == flow.sorted_tasks()
    assert flow.edges == [
        Edge(a, b, "x", False),
        Edge(a, b, "y", False),
        Edge(b, c, "x", False),
    ]
    assert (flow.root_tasks(), flow.terminal_tasks()) == ([a], [c])
    assert (flow.upstream_tasks(b), flow.downstream_tasks(b)) == ([a], [c])


def test_imperative() -> None:
    done: list[str] = []

    @task
    def say(text: str) -> None:
        done.append(text)

    @task
    def add(x: int, y: int) -> int:
        done.append(f"{x}+{y}")
        return x + y

    second = add.copy(name="second")
    name = Parameter("name")
    flow = Flow("imperative", tasks=[add])
    flow.add_task(second)
    flow.add_task(say)
    say.set_upstream(second, flow=flow)
    add.bind(x=1, y=2, flow=flow)
    second.bind(x=add, y=100, flow=flow)
    say.bind(text=name, flow=flow)

    state = FlowRunner(flow).run({"name": "Ann"})

    assert done == ["1+2", "3+100", "Ann"]
    assert state.result[second].result == 103
    assert names(flow.tasks) == ["add", "second", "say", "name"]
    assert flow.add_task(add) is flow.tasks[0]


def test_every_way_to_wire() -> None:
    a, b, c, d, e, f, g = uses(*"abcdefg")
    flow = Flow("wires")
    assert [edge.key for edge in flow.chain(a, b, c)] == [None, None]
    assert flow.add_edge(c, d, key="x") == Edge(flow.tasks[2], flow.tasks[3], "x", False)
    e.set_downstream(a, flow=flow)
    flow.set_dependencies(f, upstream_tasks=[d], downstream_tasks=[g], keyword_tasks={"y": c})
    for one_of_them in (a, b, c, e, f, g):
        flow.bind(one_of_them, kwargs={"x": 1})

    assert [(edge.upstream.name, edge.downstream.name, edge.key) for edge in flow.edges] == [
        ("e", "a", None),
        ("a", "b", None),
        ("b", "c", None),
        ("c", "d", "x"),
        ("c", "f", "y"),
        ("d", "f", None),
        ("f", "g", None),
    ]
    assert names(flow.sorted_tasks()) == ["e", "a", "b", "c", "d", "f", "g"]


def test_inside_with_the_flow_need_not_be_said() -> None:
    a, b, c = uses(*"abc")
    with Flow("context") as flow:
        a.bind(1)
        b.bind(a, upstream_tasks=[c])
        c.bind(5).set_upstream(a)
        result = plus(2)
        result.bind(y=3, flow=flow).set_downstream(a)

    assert names(flow.sorted_tasks()) == ["plus", "a", "c", "b"]
    with pytest.raises(ConfigurationError, match="say which flow"):
        a.bind(1)


def test_arrows_while_a_flow_is_built_are_that_flows() -> None:
    with Flow("arrows") as flow:
        a, b, c, d = (same(letter) for letter in "abcd")
        tail = same.copy(name="tail").bind("tail")
        a >> [b, c] >> d
        [b, c] >> tail
        tail << d
        part = d["x"]
        part >> tail

    assert flow.upstream_tasks(d) == [b, c]
    assert flow.upstream_tasks(tail) == [b, c, d]
    assert flow.upstream_tasks(b) == [a] == flow.upstream_tasks(c)


def test_one_task_used_several_times() -> None:
    with Flow("uses") as flow:
        first, second = same(1), same(2)

    state = FlowRunner(flow).run()

    assert [state.result[first].result, state.result[second].result] == [1, 2]
    for ask in (lambda: state.result[same], lambda: flow.upstream_tasks(same)):
        with pytest.raises(GraphError, match="task 'same' is used 2 times in this flow"):
            ask()
    with pytest.raises(GraphError, match="used 2 times"), flow:
        plus(same)


def test_a_parameter_is_in_a_flow_once() -> None:
    x = Parameter("x", default=3)
    with Flow("parameter") as flow:
        result = plus(x(), x)  # type: ignore[operator]

    assert names(flow.tasks) == ["x", "plus"]
    assert FlowRunner(flow).run().result[result].result == 6


def test_two_parameters_of_one_name_are_refused() -> None:
    with pytest.raises(GraphError, match="two parameters"), Flow("twins"):
        plus(Parameter("x"), Parameter("x"))


def test_a_copy_has_the_same_shape_and_goes_its_own_way() -> None:
    with Flow("original", tags={"a": "b"}) as flow:
        a = one()
        b = same([a, {"deep": [(a, plus(a)["x":])]}], upstream_tasks=[a])  # type: ignore[misc]
        plus.map(b[0:2], y=perfect.unmapped([[a]]))
    flow.set_reference_tasks([a])

    made = flow.copy()
    with made:
        one()

    def shape(of: Flow) -> list[Any]:
        return [
            (edge.upstream.index, edge.downstream.index, edge.key, edge.mapped) for edge in of.edges
        ]

    assert shape(made) == shape(flow) != []
    assert len(made.tasks) == len(flow.tasks) + 1
    assert made.reference_tasks() == [made.tasks[0]]
    assert (made.name, made.tags) == ("original", {"a": "b"})
    assert all(edge.upstream.graph is made.graph for edge in made.edges)
    assert made.visualize().splitlines()[1:5] == flow.visualize().splitlines()[1:]


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda flow, alien: flow.add_edge(alien, one),
        lambda flow, alien: flow.add_edge(one, alien["x"]),
        lambda flow, alien: flow.bind(same, ([{"x": alien}],)),
        lambda flow, alien: flow.bind(same, (alien["x"][0],)),
        lambda flow, alien: flow.set_reference_tasks([alien]),
        lambda flow, alien: flow.run(return_tasks=[alien]),
        lambda flow, alien: flow.upstream_tasks(alien),
        lambda flow, alien: alien.set_upstream(one, flow=flow),
        lambda flow, alien: alien.bind(5, flow=flow),
    ],
)
def test_nodes_of_another_flow_are_refused(use: Any) -> None:
    with Flow("other"):
        alien = same(1)
    with pytest.raises(GraphError, match="part of another flow"):
        use(Flow("mine"), alien)


def test_calls_with_nodes_of_another_flow_are_refused() -> None:
    with Flow("outer") as outer:
        alien = one()
        with Flow("inner") as inner:
            with pytest.raises(GraphError, match="task 'one' is part of another flow"):
                same(alien)
            with pytest.raises(GraphError, match="part of another flow"):
                same(1, upstream_tasks=[alien])
        assert inner.tasks == []
        assert same(alien) in outer.tasks  # the outer one is built on


@pytest.mark.parametrize("subject", [5, "one", None, object()])
def test_what_is_no_task_is_refused(subject: Any) -> None:
    with pytest.raises(GraphError, match="neither a task nor the result of one"):
        Flow("x").add_edge(one, subject)


def test_a_cycle_is_spelled_out_in_the_order_of_waiting() -> None:
    a, b, c, before, after = uses("a", "b", "c", "before", "after")
    flow = Flow("circle")
    for each in (a, b, c, before, after):
        flow.bind(each, (1,))
    flow.chain(before, a, b, c, after)
    flow.add_edge(c, a)

    for refuse in (flow.validate, flow.run, flow.visualize, flow.sorted_tasks, flow.register):
        with pytest.raises(CycleError, match="wait for each other: ") as refused:
            refuse()
        cycle = refused.value.cycle
        assert cycle[0] == cycle[-1]
        # b waits for a: a → b. Wherever it begins, it goes around that way.
        turn = cycle.index("a") if "a" in cycle[:-1] else 0
        assert (cycle[:-1] * 2)[turn : turn + 3] == ["a", "b", "c"]
        assert " → ".join(cycle) in str(refused.value)


def test_cycles_of_one_task_and_of_uses_of_one_task() -> None:
    flow = Flow("self")
    flow.bind(plus, (1,))
    flow.add_edge(plus, plus)
    with pytest.raises(CycleError) as alone:
        flow.validate()
    assert alone.value.cycle == ["plus", "plus"]

    with pytest.raises(CycleError) as several, Flow("uses"):
        first = plus(1)
        second = plus(first)
        first.set_upstream(second)
    assert sorted(set(several.value.cycle)) == ["plus", "plus (2)"]


def test_a_cycle_through_data_is_found_when_the_with_ends() -> None:
    with pytest.raises(CycleError), Flow("data circle"):
        first = plus(1)
        first.bind(y=[plus(first)])


def test_a_long_way_round_is_no_cycle() -> None:
    chain = uses(*(str(number) for number in range(3000)))
    flow = Flow("backwards")
    for late, early in zip(chain, chain[1:]):
        flow.bind(late, kwargs={"x": early})
    flow.bind(chain[-1], (0,))

    assert FlowRunner(flow).run().result[chain[0]].result == 3000


def test_results_can_not_be_looked_at_while_the_flow_is_built() -> None:
    with Flow("early"):
        node = same([1, 2])
        for result in (node, node[0]):
            with pytest.raises(GraphError, match="'same' can't be a condition.*`when=`"):
                if result:
                    pass
            with pytest.raises(GraphError, match="can't be a row.*task.map"):
                for _ in result:
                    pass
            with pytest.raises(GraphError, match="can't be a row"):
                _first, _second = result
            with pytest.raises(GraphError, match="can't be a row"):
                list(result)
            with pytest.raises(GraphError, match="can't be a container"):
                1 in result
            with pytest.raises(GraphError, match="can't be a condition"):
                not result
            for index in (one(), slice(one(), None), node[0]):
                with pytest.raises(GraphError, match="can't be an index"):
                    result[index]
            with pytest.raises(TypeError):
                len(result)


def test_submit_is_refused_while_a_flow_is_built() -> None:
    with Flow("submit"), pytest.raises(GraphError, match="task 'one': submit"):
        one.submit()


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"name": ""}, "name"),
        ({"schedule": "0 * * * *"}, "schedule"),
        ({"executor": "thread"}, "executor"),
        ({"state_handlers": [1]}, "state_handlers"),
        ({"state_handlers": print}, "state_handlers"),
        ({"on_failure": 1}, "on_failure"),
        ({"tags": []}, "tags"),
    ],
)
def test_arguments_of_a_flow(options: dict[str, Any], argument: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Flow(**{"name": "x", **options})
    assert refused.value.argument == argument


# --- the scope of `with` ---------------------------------------------------------------------------


def test_an_error_inside_with_goes_out_and_ends_the_building() -> None:
    flow = Flow("broken")
    with pytest.raises(ZeroDivisionError), flow:
        plus(one())
        plus(1 // 0)

    assert current.get() is None
    assert names(flow.tasks) == ["one", "plus"]
    assert one() == 1  # a call is a call again


def test_an_error_inside_with_hides_no_error_of_the_flow() -> None:
    with pytest.raises(ZeroDivisionError), Flow("broken and circular"):
        first = plus(1)
        first.set_upstream(first)
        1 // 0


def test_flows_may_be_built_inside_each_other_and_one_twice() -> None:
    outer, inner = Flow("outer"), Flow("inner")
    with outer:
        a = one()
        with inner:
            b = one()
        with outer:
            c = plus(a)
        d = plus(c)

    assert (outer.tasks, inner.tasks) == ([a, c, d], [b])
    assert current.get() is None
    with outer:
        plus(d)
    assert FlowRunner(outer).run().result[outer.tasks[-1]].result == 4


def test_leaving_a_flow_that_is_not_being_built_here_is_refused() -> None:
    with pytest.raises(GraphError, match="not the one that is being built"):
        Flow("x").__exit__(None, None, None)


def test_threads_build_their_own_flows_and_one_flow_together() -> None:
    shared = Flow("shared")
    own = [Flow(str(number)) for number in range(4)]
    together = threading.Barrier(4)
    errors: list[BaseException] = []

    def build(flow: Flow) -> None:
        try:
            with shared:
                together.wait(10)
                one()
                together.wait(10)
            together.wait(10)
            with flow:
                together.wait(10)
                plus(one())
                together.wait(10)
            assert current.get() is None
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=build, args=(flow,)) for flow in own]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not errors
    assert [len(flow.tasks) for flow in own] == [2, 2, 2, 2]
    assert len(shared.tasks) == 4


def test_a_thread_that_is_started_inside_with_builds_nothing() -> None:
    got: list[Any] = []
    with Flow("x") as flow:
        thread = threading.Thread(target=lambda: got.append(one()))
        thread.start()
        thread.join()

    assert (got, flow.tasks) == ([1], [])


def test_coroutines_build_side_by_side() -> None:
    async def build(name: str, mine: asyncio.Event, others: asyncio.Event) -> Flow:
        with Flow(name) as flow:
            one()
            mine.set()
            await others.wait()
            plus(flow.tasks[0])
        return flow

    async def both() -> list[Flow]:
        a, b = asyncio.Event(), asyncio.Event()
        return list(await asyncio.gather(build("a", a, b), build("b", b, a)))

    assert [names(flow.tasks) for flow in asyncio.run(both())] == [["one", "plus"]] * 2


def test_a_coroutine_that_outlives_the_with_it_was_begun_in_calls_tasks() -> None:
    async def late(left: asyncio.Event) -> tuple[Any, Any]:
        await left.wait()
        return one(), plus.map([1, 2])

    async def build() -> Any:
        left = asyncio.Event()
        with Flow("short") as flow:
            running = asyncio.create_task(late(left))
            await asyncio.sleep(0)
        left.set()
        return await running, flow.tasks

    assert asyncio.run(build()) == ((1, [2, 3]), [])


def test_printing_while_building_goes_to_whoever_is_around(
    perfect_mock: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    with Flow("alone"):
        print("alone")

    @perfect.task
    def build() -> int:
        with Flow("inside a task"):
            print("being built")
            perfect.progress(0.5)
        return 1

    @perfect.flow
    def outer() -> int:
        return build()

    assert outer() == 1
    assert capsys.readouterr().out == "alone\nbeing built\n"
    assert perfect_mock.run.task("build").logs == ["being built"]
    assert perfect_mock.run.task("build").progress == 0.5


def test_an_eager_flow_is_run_while_a_graph_is_built(perfect_mock: Recorder) -> None:
    @perfect.flow
    def eager() -> int:
        return plus(one())

    with Flow("building") as flow:
        result = same(eager())

    assert (perfect_mock.run.flow, len(perfect_mock.run.tasks)) == ("eager", 2)
    assert flow.tasks == [result]
    assert flow.run().result[result].result == 2


def test_a_graph_flow_is_run_while_another_is_built(perfect_mock: Recorder) -> None:
    @task
    def calls() -> int:
        return plus(one())

    with Flow("inner") as inner:
        result = calls()
    with Flow("outer") as outer:
        assert inner.run().result[result].result == 2
        assert FlowRunner(inner).run().result[result].result == 2
        assert TaskRunner(calls).run().result == 2
        with Flow("third"):
            assert TaskRunner(calls).run().result == 2

    assert outer.tasks == []
