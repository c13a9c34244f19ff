"""Runs a graph: a queue of what is ready, an executor that makes the attempts, and one thread that decides."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from perfect import attempts
from perfect.definitions import TaskResult
from perfect.graph.elements import Elements, by_element
from perfect.graph.executors.base import Executor, Pool, Tracker, Work
from perfect.graph.executors.local import LocalExecutor
from perfect.graph.graph import Graph
from perfect.graph.judging import handed_on, refused
from perfect.graph.ledger import Ledger
from perfect.graph.node import Node
from perfect.graph.parameter import Parameter
from perfect.graph.telling import Numbers, tell
from perfect.outcomes import Cancelled, Pending, Retrying, Running, State, Success
from perfect.signals import RunCancelled, Terminated
from perfect.tasks import Task
from perfect.workers import LONGEST_WAIT

__all__ = ["GraphRun", "handed_on"]


class GraphRun:
    """One run of a graph.

    Args:
        graph: what to run.
        executor: where the attempts are made; default: one after the other in this thread.
        parameters: values by name for the graph's parameters.
        fail_fast: whether nothing more is begun once a crucial task has failed; what is under way is
            waited for then.
        keep: the nodes whose results the caller gets; those of others are let go as soon as
            nothing needs them. None: all.
        tracker: who is told of the task runs; None: nobody.
        body_of: what a call of a task runs; default: its function.
        given: nodes that are not run, with the states they have.
        settled: called with each node and its state as it ends.
        halted: why the run is to be cancelled, None while it is not: asked before each attempt, and every second.

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
        halted: Callable[[], str | None] | None = None,
    ) -> None:
        self.plan = graph.plan()
        self._ledger = Ledger(self.plan, keep)
        self.states = self._ledger.states
        self.failure: Node | None = None
        self._executor = executor or LocalExecutor()
        self._parameters = parameters or {}
        self._fail_fast = fail_fast
        self._tracker = tracker
        self._body_of = body_of
        self._given = given or {}
        self._on_settled = settled
        self._halted = halted
        self._cancelled: str | None = None  # why the run was
        self._ready: deque[Any] = deque()  # nodes to begin, works to hand over
        self._timers: list[tuple[float, int, Work]] = []  # heap: monotonic s when an attempt is due
        self._order = itertools.count()
        self._under_way: set[Work] = set()  # attempts handed over
        self._here: Work | None = None  # the attempt that is made in this thread
        self._elements: dict[int, Elements] = {}  # of the mapped nodes that run, by index
        self._pool: Pool | None = None
        self._stopped: str | None = None  # why nothing more is begun
        self._numbers = Numbers(self.plan)
        if tracker is not None:
            tracker.reserve(self._numbers.reserved)

    # --- the loop --------------------------------------------------------------------------

    def run(self) -> list[State]:
        """Run to the end, in this thread; the states by the nodes' indices.

        Raises:
            RunCancelled: what was under way has ended, or was killed where it could be.
            KeyboardInterrupt and the like, and what the executor itself raises. What was not run is
                Cancelled then.
        """
        try:
            pool = self._pool = self._executor.start()
            self._ready.extend(self._ledger.roots())
            try:
                try:
                    self._loop(pool)
                except RunCancelled as error:  # it came just as a task was about to begin
                    self._cancel(pool, str(error))
                    self._loop(pool)
            except BaseException as error:
                interrupted = _interrupts(error)
                reason = f"given up: {type(error).__name__}: {error}"
                self._on_settled = None  # it may be what has raised
                try:
                    self._stop("interrupted" if interrupted else reason)
                finally:
                    pool.close(hurried=interrupted)
                raise
            pool.close(hurried=self._cancelled is not None)
        finally:
            self._cancel_rest()
        if self._cancelled is not None:
            raise RunCancelled(self._cancelled)
        return self.states  # type: ignore[return-value]

    def _loop(self, pool: Pool) -> None:
        ready, timers, under_way = self._ready, self._timers, self._under_way
        alone = pool.inline and pool.slots == 1
        halted = self._halted
        while True:
            while ready and len(under_way) < pool.slots:
                if halted is not None and halted() is not None:
                    break
                if timers:
                    self._wake()
                next_one = ready.popleft()
                work = self._begun(next_one) if type(next_one) is Node else self._next(next_one)
                if work is None:
                    continue
                # The only thing there is to do may as well be done here: no thread has to wake up.
                if alone or (pool.inline and not (under_way or ready or timers)):
                    self._here = work
                    pool.make(work)
                    if work.error is not None and _interrupts(work.error):
                        raise work.error
                    self._ended(work)
                    self._here = None
                else:
                    under_way.add(work)
                    pool.submit(work)
            if halted is not None and self._cancelled is None:
                reason = halted()
                if reason is not None:
                    self._cancel(pool, reason)
            next_one = work = None  # what has ended is not held on to while others are waited for
            if under_way:
                for work in pool.wait(self._time_left()):
                    under_way.discard(work)
                    self._ended(work)
                work = None
            elif timers:
                time.sleep(self._time_left())
            elif not ready:
                return
            if timers:
                self._wake()

    def _time_left(self) -> float:
        """s to wait at most: until the next pause is over, and no longer than a signal may go unheard."""
        if not self._timers:
            return LONGEST_WAIT
        return min(LONGEST_WAIT, max(0.0, self._timers[0][0] - time.monotonic()))

    def _wake(self) -> None:
        """Make the attempts ready whose pauses are over; they come before what has not begun."""
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            work = heapq.heappop(self._timers)[2]
            work.urgent = True
            self._ready.appendleft(work)

    # --- a node begins ---------------------------------------------------------------------

    def _begun(self, node: Node) -> Work | None:
        """Everything is there that the node waits for: its first attempt, if it is to be made."""
        task = node.task
        index = node.index
        if self._given and node in self._given:
            self._end(node, self._given[node])
            return None
        if task.trigger is not None or self._ledger.blocked[index]:
            refusal = self._refusal(node)
            if refusal is not None:
                self._end(node, refusal)
                return None
        if isinstance(task, Parameter):
            self._settle(node, Success("", task.value_from(self._parameters)))
            return None
        try:
            args, kwargs = self._ledger.arguments(node)
        except Exception as error:  # a result that has no such part
            self._end(node, attempts.failed(task, error))
            return None
        if node.mapped:
            self._begin_elements(node, args, kwargs)
            return None
        work = self._work(node, args, kwargs)
        work.index = self._numbers.of(index)
        if task.is_guarded:
            subject = self._ledger.subject(node)
            own = (
                work.body is task.body
            )  # what a test put in its place is neither kept nor looked up
            work.steps = attempts.course(task, tuple(args), kwargs, work, subject, reuse=own)
        return self._next(work)

    def _work(self, node: Node, args: Any, kwargs: dict[str, Any]) -> Work:
        task = node.task
        work = Work(task, task.body, args, kwargs, node)
        if self._body_of is not None:
            work.body = self._body_of(task)
        if self._tracker is not None:
            work.tracker = self._tracker
            work.upstream = self._numbers.before(node.index)
        return work

    def _refusal(self, node: Node) -> State | None:
        """What a node's trigger makes of the states before it: None lets it run."""
        before = self._ledger.before(node)
        if node.mapped and (elements := by_element(node, before)):
            if node.task.trigger is not None:
                return None  # it is asked for each element
            before = {index: state for index, state in before.items() if index not in elements}
        return refused(
            node.task, {self.plan.nodes[index]: state for index, state in before.items()}
        )

    def _begin_elements(self, node: Node, args: list[Any], kwargs: dict[str, Any]) -> None:
        task = node.task
        index = node.index
        entry = None
        if self._tracker is not None:
            entry = self._tracker.open(task, self._numbers.of(index), self._numbers.before(index))
        elements = self._elements[index] = Elements(node, self._ledger, entry)
        try:
            rows = elements.rows(args, kwargs)
        except Exception as error:
            self._end(node, attempts.failed(task, error))
            return
        if not rows:
            self._end(node, elements.state())
        for position, row in enumerate(rows):
            work = self._work(node, *row)
            work.mapped, work.map_index = elements, position
            refusal = elements.refusal(position)
            if refusal is not None:
                self._conclude(work, attempts.changed(task, Pending(), refusal))
                continue
            if task.is_guarded:
                own = work.body is task.body
                subject = elements.subject(position, row)
                work.steps = attempts.course(task, *row, work, subject, reuse=own)
            if self._stopped is None:
                self._ready.append(work)
            else:  # by an element that was refused
                self._give_up(work, Pending())

    # --- an attempt has ended ----------------------------------------------------------------

    def _ended(self, work: Work) -> None:
        if work.steps is not None:
            self._proceeds(work, arrived=True)
            return
        error = work.error
        if error is not None:
            self._conclude(work, attempts.state_of(work.task, error))
        elif isinstance(work.result, TaskResult):
            self._conclude(work, attempts.judged(work.task, work.result))
        else:
            self._conclude(work, Success("", work.result))

    def _next(self, work: Work) -> Work | None:
        """A call for its first or next attempt, if it is to be made."""
        return work if work.steps is None or self._proceeds(work) else None

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
            self._conclude(work, attempts.state_of(work.task, raised))
            return False
        if pause is None:
            return True
        if self._stopped is not None:
            self._give_up(work, Retrying())
            return False
        heapq.heappush(self._timers, (time.monotonic() + pause, next(self._order), work))
        return False

    def _conclude(self, work: Work, state: State) -> None:
        """A call has come to its end."""
        if self._tracker is not None:
            work.begin(begun=False)
            assert work.entry is not None
            if work.mapped is None:
                self._numbers.note(work.node.index, work.entry.index)
            tell(self._tracker, work.entry, state)
        elements: Elements | None = work.mapped
        if elements is None:
            self._settle(work.node, state)
            return
        elements.ended(work.map_index or 0, state)
        if self._fail_fast and state.blocks and state.is_failed() and self._stopped is None:
            self._fail(work.node)
        if not elements.left:
            self._end(work.node, elements.state())

    def _end(self, node: Node, state: State) -> None:
        """A node that made no attempt of its own has come to its end."""
        if self.states[node.index] is not None:
            return  # by its last element, given up with the rest
        if node.task.state_handlers:
            state = attempts.changed(node.task, Pending(), state)
        elements = self._elements.pop(node.index, None)
        if self._tracker is not None and not isinstance(node.task, Parameter):
            entry = None if elements is None else elements.entry
            if entry is None:
                index, before = self._numbers.of(node.index), self._numbers.before(node.index)
                entry = self._tracker.open(node.task, index, before, begun=False)
            self._numbers.note(node.index, entry.index)
            tell(self._tracker, entry, state)
        self._settle(node, state)

    def _settle(self, node: Node, state: State) -> None:
        """A node has its final state: what waits for it may be ready."""
        ready = self._ledger.settle(node, state)
        if self.failure is None and state.blocks and state.is_failed():
            self._fail(node)
        if self._stopped is None:
            self._ready.extend(ready)
        if self._on_settled is not None:
            self._on_settled(node, state)

    # --- nothing more is begun -----------------------------------------------------------------

    def _fail(self, node: Node) -> None:
        """A crucial node has failed, or an element of it."""
        self.failure = node
        if self._fail_fast and self._stopped is None:
            self._stop(f"not started: {node.name!r} had failed")

    def _stop(self, reason: str) -> None:
        """Begin nothing more: what waits for its first or next attempt is given up."""
        self._stopped = reason
        waiting = [work for work in self._ready if type(work) is Work]
        self._ready.clear()
        pausing = [work for _, _, work in self._timers]
        self._timers.clear()
        withdrawn = list(self._pool.withdraw()) if self._pool is not None else []
        self._under_way.difference_update(withdrawn)
        for work in withdrawn:
            self._give_up(work, Running())
        for work in waiting:
            self._give_up(work, Retrying() if work.urgent else Pending())
        for work in pausing:
            self._give_up(work, Retrying())

    def _cancel(self, pool: Pool, reason: str) -> None:
        """The run is to end: nothing more is begun, and what is under way is killed where that can be."""
        self._cancelled = reason
        self._stop(reason)
        for work in pool.interrupt(reason):
            self._under_way.discard(work)
            self._ended(work)

    def _give_up(self, work: Work, old: State) -> None:
        state: State = Cancelled(self._stopped or "")
        if work.task.state_handlers:
            state = attempts.changed(work.task, old, state)
        self._conclude(work, state)

    def _cancel_rest(self) -> None:
        """What has no state yet was not run, or not to its end."""
        if None not in self.states:
            return
        if self._stopped is None:
            self._stop("not started: the executor did not start")
        if self._here is not None:
            self._under_way.add(self._here)
        for work in list(self._under_way):
            if self.states[work.node.index] is None:
                self._give_up(work, Running())
        for node in self.plan.order:
            if self.states[node.index] is None:
                self._end(node, Cancelled(self._stopped or ""))


def _interrupts(error: BaseException) -> bool:
    """Whether an exception ends the run, not only the task that it came out of."""
    return isinstance(error, Terminated) or not isinstance(
        error, (Exception, SystemExit, RunCancelled)
    )
