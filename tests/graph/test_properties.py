"""Random graphs, run by every executor, come to what a plain sequential evaluation comes to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perfect.core import Executor, Flow, State, task, triggers, unmapped
from tests.graph.executors_under_test import EXECUTORS, UnderTest

# --- what the graphs are made of ------------------------------------------------------------------------


class Ref(NamedTuple):
    """The result of an earlier node, or with keys a part of it."""

    node: int
    keys: tuple[Any, ...] = ()


class Spec(NamedTuple):
    """A node.

    Attributes:
        value: its argument: constants, `Ref`s and containers of both; of a mapped one its rows.
        after: nodes that it waits for beside.
        trigger: the name of one of `triggers`, or None.
        wanted: what its `when` says; None: it has none.
        fails: how many attempts fail; of a mapped one, those of the elements in `fails_at`.
        rows: of a mapped one, how many elements there are; None: it is not mapped.
    """

    value: Any
    after: tuple[int, ...]
    trigger: str | None
    wanted: bool | None
    fails: int
    retries: int
    crucial: bool
    rows: int | None
    fails_at: tuple[int, ...]


@task
def step(
    value: Any, label: int, fails: int, fails_at: Any, folder: str, position: Any = None
) -> Any:
    """Fails so often, then returns what it was given; the attempts are counted in files."""
    path = os.path.join(folder, f"{label}-{position}")
    with open(path, "ab") as file:
        file.write(b".")
        attempts = file.tell()
    if attempts <= fails and (position is None or position in fails_at):
        raise ValueError(f"attempt {attempts} of {label}")
    return label, plain(value)


def plain(value: Any) -> Any:
    """A value that can be compared: exceptions, which carry times and tracebacks, by a word."""
    if isinstance(value, BaseException):
        return "error"
    if isinstance(value, (list, tuple)):
        return type(value)(plain(part) for part in value)
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return value


# --- the plain evaluation ---------------------------------------------------------------------------------


class End(NamedTuple):
    """What a node comes to: a kind of state, whether it blocks, its result, its elements' ends."""

    kind: str
    blocks: bool
    result: Any
    elements: tuple[Any, ...] = ()

    @property
    def failed(self) -> bool:
        return self.kind in ("Failed", "TriggerFailed")


TRIGGERS: dict[str | None, Callable[[list[End]], bool]] = {
    None: lambda ends: not any(end.blocks for end in ends),
    "all_successful": lambda ends: not any(end.blocks for end in ends),
    "all_finished": lambda ends: True,
    "any_successful": lambda ends: not ends or any(not end.failed for end in ends),
    "any_failed": lambda ends: not ends or any(end.failed for end in ends),
    "all_failed": lambda ends: all(end.failed for end in ends),
}


def refs(value: Any) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from refs(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from refs(part)


def put_in(value: Any, result: Callable[[Ref], Any]) -> Any:
    if isinstance(value, Ref):
        return result(value)
    if isinstance(value, dict):
        return {key: put_in(part, result) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(put_in(part, result) for part in value)
    return value


def handed_on(end: End) -> Any:
    if end.kind in ("Failed", "TriggerFailed"):
        if end.elements:
            return [handed_on(element) for element in end.elements]
        return ValueError() if end.blocks else None
    return end.result


def evaluated(specs: list[Spec]) -> tuple[list[End], dict[str, int]]:
    """What the nodes come to, and how many attempts each call takes."""
    ends: list[End] = []
    attempts: dict[str, int] = {}

    def part(ref: Ref) -> Any:
        found = handed_on(ends[ref.node])
        for key in ref.keys:
            found = found[key]
        return found

    def called(label: int, spec: Spec, value: Any, position: int | None) -> End:
        fails = spec.fails if position is None or position in spec.fails_at else 0
        attempts[f"{label}-{position}"] = min(fails, spec.retries) + 1
        if fails > spec.retries:
            return End("Failed", spec.crucial, None)
        return End("Success", False, (label, plain(value)))

    def unrun(spec: Spec, before: list[End]) -> End:
        return End("TriggerFailed", spec.crucial or any(end.blocks for end in before), None)

    def node(label: int, spec: Spec) -> End:
        upstream = list(dict.fromkeys([*(ref.node for ref in refs(spec.value)), *spec.after]))
        whole = spec.value if isinstance(spec.value, Ref) and not spec.value.keys else None
        lined_up: int | None = None  # the mapped node whose elements this one's stand beside
        if spec.rows is not None and whole is not None:
            if specs[whole.node].rows is not None and ends[whole.node].elements:
                lined_up = whole.node
        before = [ends[index] for index in upstream if index != lined_up]
        asked_here = lined_up is None or spec.trigger is None
        if asked_here and not TRIGGERS[spec.trigger](before):
            return unrun(spec, before)
        try:
            value = put_in(spec.value, part)
        except (TypeError, IndexError, KeyError):
            return End("Failed", spec.crucial, None)
        first = upstream[0] if upstream else None
        if spec.rows is None:
            if spec.wanted is not None:
                if first is None or ends[first].kind == "Skipped" or not spec.wanted:
                    return End("Skipped", False, None)
            return called(label, spec, value, None)
        if not isinstance(value, list):
            return End("Failed", spec.crucial, None)
        elements = []
        for position, row in enumerate(value):
            of_element = [
                ends[index].elements[position] if index == lined_up else ends[index]
                for index in upstream
            ]
            beside = None if lined_up is None else ends[lined_up].elements[position]
            if beside is not None and not TRIGGERS[spec.trigger](of_element):
                elements.append(unrun(spec, of_element))
            elif spec.wanted is False or (
                spec.wanted
                and beside is not None
                and first == lined_up
                and beside.kind == "Skipped"
            ):
                elements.append(End("Skipped", False, None))
            else:
                elements.append(called(label, spec, row, position))
        if any(end.blocks for end in elements):
            return End("Failed", True, None, tuple(elements))
        return End("Mapped", False, [handed_on(end) for end in elements], tuple(elements))

    for label, spec in enumerate(specs):
        ends.append(node(label, spec))
    return ends, attempts


# --- the same by perfect --------------------------------------------------------------------------------------


def built(specs: list[Spec], folder: str) -> Flow:
    with Flow("random") as flow:
        nodes: list[Any] = []

        def stands_for(ref: Ref) -> Any:
            found = nodes[ref.node]
            for key in ref.keys:
                found = found[key]
            return found

        for label, spec in enumerate(specs):
            options: dict[str, Any] = {"retries": spec.retries, "delay": 0.0005}
            if spec.trigger is not None:
                options["trigger"] = getattr(triggers, spec.trigger)
            if spec.wanted is not None:
                options["when"] = lambda value, wanted=spec.wanted: wanted
            one: Any = step.copy(crucial_pass=spec.crucial, **options)
            value = put_in(spec.value, stands_for)
            after = [nodes[index] for index in spec.after]
            if spec.rows is None:
                node = one(value, label, spec.fails, spec.fails_at, folder, upstream_tasks=after)
            else:
                fixed = [unmapped(each) for each in (label, spec.fails, spec.fails_at, folder)]
                node = one.map(value, *fixed, range(spec.rows), upstream_tasks=after)
            nodes.append(node)
    return flow


def end_of(state: State) -> End:
    elements = tuple(end_of(element) for element in getattr(state, "map_states", ()))
    result = None if state.is_failed() else plain(state.result)
    return End(state.type, state.blocks, result, elements)


def check(specs: list[Spec], executor: Executor) -> None:
    with tempfile.TemporaryDirectory() as folder:
        flow = built(specs, folder)
        state = flow.run(executor=executor)
        counted = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}

    expected, attempts = evaluated(specs)
    # Exceptions that were handed on stand in results of other tasks.
    plainly = [end._replace(result=plain(end.result)) for end in expected]
    assert [end_of(state.result[node]) for node in flow.tasks] == plainly
    assert counted == attempts
    ends = {node: plainly[node.index] for node in flow.terminal_tasks()}
    assert state.is_failed() == any(end.blocks for end in ends.values())


# --- random specs -----------------------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn, most: int = 10) -> list[Spec]:
    specs: list[Spec] = []
    for label in range(draw(st.integers(1, most))):
        ref = st.just(0)
        leaf: Any = st.integers(0, 9) | st.none() | st.text("ab", max_size=2)
        if label:
            near = st.integers(max(0, label - 5), label - 1)
            ref = near
            whole = near.map(Ref)
            item = st.builds(Ref, near, st.sampled_from([(0,), (1,), (1, 0), ("x",)]))
            leaf = whole | whole | item | leaf
        mapped = draw(st.integers(0, 2)) == 0
        rows: int | None = None
        if mapped:
            before = [index for index, spec in enumerate(specs) if spec.rows is not None]
            if before and draw(st.integers(0, 2)):
                value: Any = Ref(draw(st.sampled_from(before)))
                rows = specs[value.node].rows
            else:
                value = draw(st.lists(leaf, max_size=4))
                rows = len(value)
        else:
            value = draw(
                st.recursive(
                    leaf,
                    lambda inner: st.lists(inner, max_size=3)
                    | st.tuples(inner, inner)
                    | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
                    max_leaves=4,
                )
            )
        often = st.sampled_from([0, 0, 0, 0, 1, 2])
        specs.append(
            Spec(
                value,
                tuple(sorted(draw(st.sets(ref, max_size=2)))) if label else (),
                draw(st.sampled_from([None] * 6 + [name for name in TRIGGERS if name])),
                draw(st.sampled_from([None, None, None, None, True, False])),
                draw(often),
                draw(st.integers(0, 2)),
                draw(st.sampled_from([True, True, False])),
                rows,
                tuple(draw(st.lists(st.integers(0, 3), max_size=3))) if mapped else (),
            )
        )
    return specs


QUIET = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
# Those that start in no time; the others run several random graphs as one.
FAST = [one for one in EXECUTORS if one.name in ("local", "thread")]
SLOW = [one for one in EXECUTORS if one not in FAST]


@pytest.fixture(autouse=True)
def quiet(perfect_mock: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The warnings of tasks that fail on purpose are many."""
    caplog.set_level("CRITICAL", "perfect")


@pytest.mark.parametrize("under_test", FAST, ids=lambda one: one.name)
def test_as_evaluated_plainly(under_test: UnderTest) -> None:
    reached: set[str] = set()

    with under_test.make() as executor:

        @settings(max_examples=150, **QUIET)  # type: ignore[arg-type]
        @given(specs=graphs())
        def each(specs: list[Spec]) -> None:
            reached.update(kinds(specs))
            check(specs, executor)

        each()

    # Else the random graphs would prove little.
    assert reached >= {
        *("Success", "Failed", "Failed lenient", "TriggerFailed", "Skipped", "Mapped"),
        *("element Success", "element Failed", "element TriggerFailed", "element Skipped"),
        *("1 attempts", "2 attempts", "3 attempts"),
    }


def kinds(specs: list[Spec]) -> Iterator[str]:
    ends, attempts = evaluated(specs)
    for end in ends:
        yield end.kind + ("" if end.blocks or not end.failed else " lenient")
        yield from (f"element {element.kind}" for element in end.elements)
    yield from (f"{count} attempts" for count in attempts.values())


@pytest.mark.parametrize("under_test", SLOW, ids=lambda one: one.name)
def test_many_as_evaluated_plainly(under_test: UnderTest) -> None:
    """Several random graphs as one: workers take long to start."""
    found: list[Spec] = []

    @settings(max_examples=25, **QUIET)  # type: ignore[arg-type]
    @given(specs=graphs())
    def collect(specs: list[Spec]) -> None:
        shift = len(found)
        found.extend(
            spec._replace(
                value=put_in(spec.value, lambda ref: Ref(ref.node + shift, ref.keys)),
                after=tuple(index + shift for index in spec.after),
            )
            for spec in specs
        )

    collect()
    with under_test.make() as executor:
        check(found, executor)
