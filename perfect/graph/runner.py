"""Runs a graph: a queue of what is ready, an executor that makes the attempts, and one thread that decides."""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from perfect import attempts, mapping
from perfect.attempts import MISSING
from perfect.context import current
from perfect.definitions import TaskResult
from perfect.errors import TaskFailed, TriggerNotMet
from perfect.failures import describe, state_after
from perfect.graph.arguments import Nested, named_arguments, replaced
from perfect.graph.executors.base import Executor, Pool, Tracker, Work
from perfect.graph.executors.local import LocalExecutor
from perfect.graph.graph import Graph
from perfect.graph.node import Item, Node
from perfect.graph.parameter import Parameter
from perfect.mapping import unmapped
from perfect.outcomes import (
    Cancelled,
    Failed,
    Mapped,
    Pending,
    Skipped,
    State,
    Success,
    TriggerFailed,
)
from perfect.records import result_snapshot
from perfect.states import TaskState
from perfect.tasks import Task

log = logging.getLogger("perfect")


class GraphRun:
    """One run of a graph.

    Args:
        graph: what to run.
        executor: where the attempts are made; default: one after the other in this thread.
        parameters: values by name for the graph's parameters.
        fail_fast: whether nothing more is begun once a crucial task has failed.
        keep: the nodes whose results the caller gets; those of others are let go as soon as
            nothing needs them. None: all.
        tracker: who is told of the task runs; None: nobody.
        body_of: what a call of a task runs; default: its function.
        given: nodes that are not run, with the states they have.
        settled: called with each node and its state as it ends.

    Attributes:
        states: by the nodes' indices.
        failure: the first crucial node that failed, or None.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        executor: Executor | None = None,
        parameters: Mapping[str, Any] | None = None,
        fail_fast: bool = False,
        keep: Collection[Node] | None = None,
        tracker: Tracker | None = None,
        body_of: Callable[[Task[..., Any]], Callable[..., Any]] | None = None,
        given: Mapping[Node, State] | None = None,
        settled: Callable[[Node, State], None] | None = None,
    ) -> None:
        self.plan = graph.plan()
        self.nodes = graph.nodes[:]
        count = len(self.nodes)
        self.states: list[State | None] = [None] * count
        self.failure: Node | None = None
        self._executor = executor or LocalExecutor()
        self._parameters = parameters or {}
        self._fail_fast = fail_fast
        self._tracker = tracker
        self._body_of = body_of
        self._given = given or {}
        self._on_settled = settled
        self._results: list[Any] = [None] * count  # what tasks downstream are given
        self._missing = [len(before) for before in self.plan.upstream]
        self._blocked = bytearray(count)  # whether a node before it keeps it from running
        self._ready: deque[Any] = deque()  # nodes to begin, works to hand over
        self._timers: list[tuple[float, int, Work]] = []  # heap: monotonic s when an attempt is due
        self._order = itertools.count()
        self._under_way = 0  # attempts handed over
        self._elements: dict[int, _Elements] = {}  # of the mapped nodes that run, by index
        if tracker is not None:
            tracker.reserve(len(self.nodes) - self.plan.told.count(None))
        self._users: list[int] | None = None  # how many nodes still need each result
        if keep is not None:
            self._users = [len(after) for after in self.plan.downstream]
            for node in keep:
                self._users[node.index] += 1

    # --- the loop --------------------------------------------------------------------------

    def run(self) -> list[State]:
        """Run to the end, in this thread; the states by the nodes' indices.

        Raises:
            KeyboardInterrupt and the like; what was not run is Cancelled then.
        """
        pool = self._executor.start()
        try:
            for node in self.plan.order:
                if not self._missing[node.index]:
                    self._ready.append(node)
            self._loop(pool)
        except BaseException:
            pool.close(hurried=True)
            self._cancel_rest("interrupted")
            raise
        pool.close(hurried=False)
        if self.failure is not None and self._fail_fast:
            self._cancel_rest(f"not started: {self.failure.name!r} had failed")
        return self.states  # type: ignore[return-value]

    def _loop(self, pool: Pool) -> None:
        ready, timers = self._ready, self._timers
        alone = pool.inline and pool.slots == 1
        while True:
            while ready and self._under_way < pool.slots:
                next_one = ready.popleft()
                work = self._begun(next_one) if type(next_one) is Node else next_one
                if work is None:
                    continue
                # The only thing there is to do may as well be done here: no thread has to wake up.
                if alone or (pool.inline and not (self._under_way or ready or timers)):
                    work.make()
                    if work.error is not None and not isinstance(
                        work.error, (Exception, SystemExit)
                    ):
                        raise work.error
                    self._ended(work)
                else:
                    self._under_way += 1
                    pool.submit(work)
            if timers:
                self._wake(time.monotonic())
                if ready and self._under_way < pool.slots:
                    continue
            if self._under_way:
                timeout = max(0.0, timers[0][0] - time.monotonic()) if timers else None
                for work in pool.wait(timeout):
                    self._under_way -= 1
                    self._ended(work)
            elif timers:
                time.sleep(max(0.0, timers[0][0] - time.monotonic()))
            elif not ready:
                return

    def _wake(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            self._advance(heapq.heappop(self._timers)[2])

    # --- a node begins ---------------------------------------------------------------------

    def _begun(self, node: Node) -> Work | None:
        """Everything is there that the node waits for: its first attempt, if it is to be made."""
        task = node.task
        index = node.index
        if self._given and node in self._given:
            self._end(node, self._given[node])
            return None
        if task.trigger is not None or self._blocked[index]:
            refusal = self._refused(node)
            if refusal is not None:
                self._end(node, refusal)
                return None
        if type(task) is Parameter:
            self._settle(node, Success("", task.value_from(self._parameters)))
            return None
        results = self._results
        try:
            args: Any = [
                results[value.index] if type(value) is Node else self._value(value)
                for value in node.args
            ]
            kwargs = (
                {name: self._value(value) for name, value in node.kwargs.items()}
                if node.kwargs
                else {}
            )
        except Exception as error:  # a result that has no such part
            self._end(node, attempts.failed(task, error))
            return None
        if node.mapped:
            self._begin_elements(node, tuple(args), kwargs)
            return None
        work = Work(task, task.body, args, kwargs, node)
        if self._body_of is not None:
            work.body = self._body_of(task)
        if self._tracker is not None:
            work.tracker = self._tracker
            work.index = self.plan.told[index]
            work.upstream = self.plan.told_upstream[index]
        if task.is_guarded:
            work.steps = attempts.course(task, tuple(args), kwargs, work, self._subject(node))
            return work if self._proceeds(work) else None
        return work

    def _value(self, value: Any) -> Any:
        kind = type(value)
        if kind is Node:
            return self._results[value.index]
        if kind is Item or kind is Nested or kind is unmapped:
            return replaced(value, lambda node: self._results[node.index])
        return value

    def _subject(self, node: Node) -> Any:
        """What `when` tests: the first upstream result, if there is one."""
        if node.tested is not None:
            first = node.tested.index
        elif self.plan.upstream[node.index]:
            first = self.plan.upstream[node.index][0]
        else:
            return MISSING
        return MISSING if type(self.states[first]) is Skipped else self._results[first]

    def _refused(self, node: Node) -> State | None:
        """What a node's trigger makes of the states before it: None lets it run."""
        before: list[State] = [
            state
            for index in self.plan.upstream[node.index]
            if (state := self.states[index]) is not None
        ]
        if node.mapped and node.task.trigger is None:
            by_element = _sources_by_element(node)
            if all(
                index in by_element and getattr(self.states[index], "map_states", None)
                for index in self.plan.upstream[node.index]
                if (state := self.states[index]) is not None and state.blocks
            ):
                return None  # each element is judged by itself
        return refused(node.task, before)

    # --- elements of a mapped node -----------------------------------------------------------

    def _begin_elements(self, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        task = node.task
        parent = self._elements[node.index] = _Elements(node)
        if self._tracker is not None:
            parent.entry = self._tracker.open(
                task, self.plan.told[node.index], self.plan.told_upstream[node.index]
            )
        try:
            rows = list(mapping.rows(task, args, kwargs))
        except Exception as error:
            self._end(node, attempts.failed(task, error), parent)
            return
        parent.states = [Pending()] * len(rows)
        parent.left = len(rows)
        if not rows:
            self._end(node, Mapped("over no elements", []), parent)
            return
        before = [
            states
            for index in _sources_by_element(node)
            if (states := getattr(self.states[index], "map_states", None))
            and len(states) == len(rows)
        ]
        for position, (row, named) in enumerate(rows):
            work = Work(task, task.body, row, named, node)
            work.mapped, work.map_index = parent, position
            if self._body_of is not None:
                work.body = self._body_of(task)
            if self._tracker is not None:
                work.tracker = self._tracker
                work.upstream = self.plan.told_upstream[node.index]
            refusal = refused(task, [states[position] for states in before]) if before else None
            if refusal is not None:
                self._conclude(work, refusal)
                continue
            if task.is_guarded:
                subject = row[0] if row else next(iter(named.values()), MISSING)
                work.steps = attempts.course(task, row, named, work, subject)
                if not self._proceeds(work):
                    continue
            self._ready.append(work)

    def _element_ended(self, work: Work, state: State) -> None:
        parent: _Elements = work.mapped
        parent.states[work.map_index or 0] = state
        parent.left -= 1
        if parent.left:
            return
        self._end(parent.node, parent.state(), parent)

    # --- an attempt has ended ----------------------------------------------------------------

    def _ended(self, work: Work) -> None:
        if work.steps is not None:
            if self._proceeds(work, arrived=True):
                self._ready.append(work)
            return
        error = work.error
        if error is not None:
            self._conclude(work, _state_of(work.task, error))
        elif isinstance(work.result, TaskResult):
            self._conclude(work, attempts.judged(work.task, work.result))
        else:
            self._conclude(work, Success("", work.result))

    def _advance(self, work: Work) -> None:
        """A pause is over."""
        if self._proceeds(work):
            self._ready.append(work)

    def _proceeds(self, work: Work, arrived: bool = False) -> bool:
        """Take a guarded call to its next step; whether that is an attempt."""
        error, result = work.error, work.result
        work.error = work.result = None
        try:
            if not arrived:
                pause = next(work.steps)
            elif error is not None:
                pause = work.steps.throw(error)
            else:
                pause = work.steps.send(result)
        except StopIteration as end:
            self._conclude(work, end.value)
            return False
        except BaseException as raised:  # what is no Exception is not tried again
            self._conclude(work, _state_of(work.task, raised))
            return False
        if pause is None:
            return not self._stopped(work)
        heapq.heappush(self._timers, (time.monotonic() + pause, next(self._order), work))
        return False

    def _stopped(self, work: Work) -> bool:
        """Whether nothing more is begun; the work is given up then."""
        if self.failure is None or not self._fail_fast:
            return False
        self._conclude(work, Cancelled(f"given up: {self.failure.name!r} had failed"))
        return True

    def _conclude(self, work: Work, state: State) -> None:
        """A call has come to its end."""
        if self._tracker is not None:
            work.begin(begun=False)
            self._tell(work.entry, state)
        if work.mapped is not None:
            self._element_ended(work, state)
        else:
            self._settle(work.node, state)

    def _end(self, node: Node, state: State, parent: _Elements | None = None) -> None:
        """A node that made no attempt of its own has come to its end."""
        if node.task.state_handlers and parent is None:
            state = attempts.changed(node.task, Pending(), state)
        if self._tracker is not None and type(node.task) is not Parameter:
            entry = None if parent is None else parent.entry
            if entry is None:
                index = node.index
                entry = self._tracker.open(
                    *(node.task, self.plan.told[index], self.plan.told_upstream[index]),
                    begun=False,
                )
            self._tell(entry, state)
        self._elements.pop(node.index, None)
        self._settle(node, state)

    def _tell(self, entry: Any, state: State) -> None:
        result = state.result
        if state.is_failed():
            if isinstance(result, TaskFailed) and result.task == entry.task.name:
                entry.result = result_snapshot(result.result, False)
            elif not isinstance(result, TriggerNotMet) and isinstance(result, BaseException):
                entry.error = describe(result)
            if not entry.task.crucial_pass:
                token = current.set(entry)  # so that the line stands in the task's log
                log.warning(
                    "task %r failed (not crucial), the flow goes on: %s",
                    entry.task.name,
                    state.message,
                )
                current.reset(token)
            if isinstance(result, TriggerNotMet):
                entry.reason = state.message
        else:
            if isinstance(result, TaskResult):
                entry.result = result_snapshot(result, True)
            entry.reason = state.message or None
        if self._tracker is not None:
            self._tracker.close(entry, state.wire)

    def _settle(self, node: Node, state: State) -> None:
        """A node has its final state: what waits for it may be ready."""
        index = node.index
        self.states[index] = state
        self._results[index] = handed_on(state)
        missing, blocked = self._missing, self._blocked
        blocks = state.blocks
        if blocks and self.failure is None and state.is_failed():
            self.failure = node
            if self._fail_fast:
                self._give_up()
        stop = self._fail_fast and self.failure is not None
        for after in self.plan.downstream[index]:
            missing[after] -= 1
            if blocks:
                blocked[after] = 1
            if not missing[after] and not stop:
                self._ready.append(self.nodes[after])
        if self._users is not None:
            self._let_go(node)
        if self._on_settled is not None:
            self._on_settled(node, state)

    def _give_up(self) -> None:
        """Begin nothing more: what waits for its first or next attempt is Cancelled."""
        works = [work for work in self._ready if type(work) is Work]
        works += [timer[2] for timer in self._timers]
        self._ready.clear()
        self._timers.clear()
        for work in works:
            self._stopped(work)

    def _let_go(self, node: Node) -> None:
        """Drop the results that nothing needs any more."""
        assert self._users is not None
        for before in (*self.plan.upstream[node.index],):
            self._users[before] -= 1
            if not self._users[before]:
                self._drop(before)
        if not self._users[node.index]:
            self._drop(node.index)

    def _drop(self, index: int) -> None:
        self._results[index] = None
        state = self.states[index]
        if state is not None and not state.is_failed():
            state.result = None

    def _cancel_rest(self, reason: str) -> None:
        """What has no state yet was not run."""
        for node in self.nodes:
            if self.states[node.index] is None:
                self._fail_fast = True  # nothing becomes ready by this
                self.failure = node if self.failure is None else self.failure
                self._end(node, Cancelled(reason), self._elements.get(node.index))


class _Elements:
    """The elements of a mapped node while they run."""

    __slots__ = ("node", "states", "left", "entry")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.states: list[State] = []
        self.left = 0
        self.entry: Any = None

    def state(self) -> State:
        """The state of the whole."""
        results = [handed_on(state) for state in self.states]
        blocking = [state for state in self.states if state.blocks]
        if not blocking:
            return Mapped(f"over {len(results)} elements", results, self.states)
        failed = Failed(
            f"{len(blocking)} of {len(results)} elements failed", blocking[0].result, True
        )
        failed.map_states = self.states
        return failed


def handed_on(state: State) -> Any:
    """What the tasks after it are given of a finished task, by the rules of eager calls.

    One that is not crucial and failed gives None, or the `TaskResult` that did not pass. The error of
    a crucial one goes to those whose trigger lets them run.
    """
    if isinstance(state, Failed):
        if state.map_states:
            return [handed_on(element) for element in state.map_states]
        if not state.crucial:
            return state.result.result if isinstance(state.result, TaskFailed) else None
    return state.result


def refused(task: Task[..., Any], before: list[State]) -> State | None:
    """What a task's trigger makes of the states before it: None lets it run."""
    if task.trigger is None:
        blocking = [state for state in before if state.blocks]
        if not blocking:
            return None
        message = f"not run: of the {len(before)} before it, {len(blocking)} did not succeed"
    else:
        try:
            if task.trigger(before):
                return None
        except Exception as error:
            return attempts.failed(task, error)
        name = getattr(task.trigger, "__name__", repr(task.trigger))
        message = f"not run: its trigger {name} is not met"
    return TriggerFailed(message, TriggerNotMet(task.name, message), task.crucial_pass)


def _state_of(task: Task[..., Any], error: BaseException) -> State:
    if state_after(error) is TaskState.CANCELLED:
        return Cancelled(f"{type(error).__name__}: {error}", error)
    return attempts.failed(task, error)


def _sources_by_element(node: Node) -> list[int]:
    """The nodes whose elements go to the elements of a mapped node one by one."""
    return [
        value.index for _, value in named_arguments(node) if type(value) is Node and value.mapped
    ]
