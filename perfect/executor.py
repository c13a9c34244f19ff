"""Runs flows and their tasks, and reports both as they happen.

A task runs in its caller's thread. Around it stand two clock readings, one context variable and two
puts into the outbox; everything else happens in the sender.
"""

from __future__ import annotations

import inspect
import itertools
import logging
from collections.abc import Callable, Generator
from time import time
from typing import TYPE_CHECKING, Any

from perfect import capture, forking, terminal, ticker
from perfect.context import current, enter_run, leave_run
from perfect.errors import NotFound, TaskFailed
from perfect.failures import describe, state_after
from perfect.jsonable import snapshot
from perfect.records import (
    COMPLETED,
    FAILED,
    RELIEVE_MASK,
    FlowRun,
    TaskRun,
    result_snapshot,
)
from perfect.session import Session
from perfect.signals import Terminated, terminable
from perfect.states import TaskState
from perfect.tasks import FlowDefinition, Task, TaskResult, WorkflowRegistry

if TYPE_CHECKING:
    from perfect.api import ExecutionRequest

log = logging.getLogger("perfect")

# What is kept of an argument for display: the first so many entries and characters.
MOST_ENTRIES, LONGEST_TEXT = 100, 1000


class FlowExecutor:
    """One run of one flow.

    Args:
        session: where the run is reported.
        definition: the flow.
        run_id: given with an execution request; default: a new one.
        configuration: "development", "debug", "release" or free text.
        parent: id of the run this one was called in.
        trigger: "call", "request" or "schedule".
    """

    def __init__(
        self,
        session: Session,
        definition: FlowDefinition,
        *,
        run_id: str | None = None,
        configuration: str = "development",
        parent: str | None = None,
        trigger: str = "call",
    ) -> None:
        self.run = FlowRun(
            definition.to_dict(),
            session.put,
            run_id=run_id,
            configuration=configuration,
            parent=parent,
            trigger=trigger,
        )
        self.run.caller = self.call
        self.run.abandon = self._abandon
        self.run.relieve = session.relieve
        self.running: dict[int, TaskRun] = {}
        self.crucial_failure: str | None = None  # the name of the first crucial task that failed
        self._session = session
        self._function = definition.func
        self._put = session.put
        self._indices = itertools.count()
        self._stubs = session.stubs

    # --- the flow --------------------------------------------------------------------------

    def execute(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the flow in this thread and return its value; what it raises is raised."""
        with terminable():
            token = self._begin(args, kwargs)
            try:
                value = self._function(*args, **kwargs)
            except BaseException as error:
                self._end(error)
                raise
            else:
                self._end(None)
                return value
            finally:
                current.reset(token)

    async def execute_async(self, /, *args: Any, **kwargs: Any) -> Any:
        """The same for an ``async def`` flow."""
        with terminable():
            token = self._begin(args, kwargs)
            try:
                value = await self._function(*args, **kwargs)
            except BaseException as error:
                self._end(error)
                raise
            else:
                self._end(None)
                return value
            finally:
                current.reset(token)

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.run.parameters = _parameters(self._function, args, kwargs)
        capture.begin()
        self._session.begin(self.run)
        enter_run(self.run)
        terminal.attach()
        ticker.add(self)
        return current.set(self.run)

    def _end(self, error: BaseException | None) -> None:
        run = self.run
        if run.id not in self._session.active:
            return  # in a forked child: the run is the parent's
        ticker.remove(self)
        terminal.detach()
        leave_run(run)
        capture.end()
        forking.leave(run.id)
        run.flush_lines()
        run.ended = time()
        for entry in list(self.running.values()):
            # In a thread nobody joined, a generator nobody finished, or too deep in a recursion.
            entry.reason = "still running when the flow ended"
            self._close(entry, FAILED)
        run.task_count = next(self._indices)
        state = COMPLETED
        if error is not None:
            run.error = describe(error)
            state = state_after(error)
        elif self.crucial_failure is not None:
            run.reason = f"crucial task {self.crucial_failure!r} failed; the flow went on"
            state = FAILED
        if isinstance(error, (KeyboardInterrupt, Terminated)):
            self._session.interrupted = True
        run.state = state
        self._session.end(run)

    def _abandon(self, reason: str) -> None:
        """The process ends before the run does: close it from outside."""
        for entry in list(self.running.values()):
            entry.reason = reason
            self._close(entry, TaskState.CANCELLED)
        run = self.run
        run.reason = reason
        run.task_count = next(self._indices)
        run.ended = time()
        run.state = TaskState.CANCELLED
        self._session.end(run)

    # --- its tasks -------------------------------------------------------------------------

    def call(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a task as part of this run; what `Task.__call__` comes to inside a flow."""
        if self.run.ended is not None:  # by a thread or generator that outlives its flow
            return task.body(*args, **kwargs)
        if not task.is_plain:
            if task.is_async:
                return self._call_async(task, args, kwargs)
            return self._call_generator(task, args, kwargs)
        entry = self._open(task)
        token = current.set(entry)
        try:
            result = self._body(task)(*args, **kwargs)
        except BaseException as error:
            if self._fails(entry, error):
                raise
            return None
        finally:
            current.reset(token)
        return self._done(entry, result)

    async def _call_async(
        self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self.run.ended is not None:
            return await task.body(*args, **kwargs)
        entry = self._open(task)
        token = current.set(entry)
        try:
            result = self._body(task)(*args, **kwargs)
            if inspect.isawaitable(result):  # a stub may be a plain function
                result = await result
        except BaseException as error:
            if self._fails(entry, error):
                raise
            return None
        finally:
            current.reset(token)
        return self._done(entry, result)

    def _call_generator(
        self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[Any, Any, Any]:
        """The task run lasts until its generator is exhausted or closed."""
        if self.run.ended is not None:
            return (yield from task.body(*args, **kwargs))
        entry = self._open(task)
        sent: Any = None
        generator: Any = None
        thrown: BaseException | None = None
        while True:
            token = current.set(entry)
            try:
                if generator is None:
                    made = self._body(task)(*args, **kwargs)
                    # A stub may be any iterable.
                    generator = made if inspect.isgenerator(made) else (one for one in made)
                if thrown is not None:
                    value = generator.throw(thrown)
                else:
                    value = next(generator) if sent is None else generator.send(sent)
            except StopIteration as stop:
                self._close(entry, COMPLETED)
                return stop.value
            except GeneratorExit:  # its consumer has seen enough
                self._close(entry, COMPLETED)
                raise
            except BaseException as error:
                if self._fails(entry, error):
                    raise
                return None
            finally:
                current.reset(token)
            thrown = None
            try:
                sent = yield value
            except BaseException as error:
                thrown = error

    def _body(self, task: Task[..., Any]) -> Callable[..., Any]:
        return self._stubs.get(task.name, task.body) if self._stubs else task.body

    def _open(self, task: Task[..., Any]) -> TaskRun:
        entry = TaskRun(self.run, -1, task, self.call, time())
        entry.index = next(self._indices)
        # Noted before it is put: where the stack has no room for the put, the run's end reports it.
        self.running[entry.index] = entry
        self._put(entry)
        if not entry.index & RELIEVE_MASK:
            self._session.relieve()
        return entry

    def _close(self, entry: TaskRun, state: TaskState) -> None:
        if self.running.pop(entry.index, None) is None:
            return  # the run ended before it, and closed it
        forking.drain()
        if entry.partials:
            entry.flush_lines()
        entry.ended = time()
        entry.state = state
        self._put(entry)

    def _done(self, entry: TaskRun, result: Any) -> Any:
        """Report what a task returned, and return it."""
        if isinstance(result, TaskResult):
            return self._accept(entry, result)
        self._close(entry, COMPLETED)
        return result

    def _accept(self, entry: TaskRun, result: TaskResult) -> TaskResult:
        """Report a TaskResult; one that did not pass fails the task."""
        try:
            passed = bool(result.passed)
        except Exception:  # an array, say: nobody can tell
            passed = False
        entry.result = result_snapshot(result, passed)
        if passed:
            self._close(entry, COMPLETED)
            return result
        self._close(entry, FAILED)
        if entry.task.crucial_pass:
            self._note_crucial(entry)
            raise TaskFailed(entry.task.name, result)
        token = current.set(entry)  # so that the line stands in the task's log
        log.warning("task %r did not pass (not crucial): %s", entry.task.name, result.note)
        current.reset(token)
        return result

    def _fails(self, entry: TaskRun, error: BaseException) -> bool:
        """Report what a task raised; whether it is to be raised on."""
        entry.error = describe(error)
        state = state_after(error)
        # Logged while the task is still the scope, so that the line stands in its log.
        goes_on = isinstance(error, Exception) and not entry.task.crucial_pass
        if goes_on:
            log.warning(
                "task %r failed (not crucial), the flow goes on: %s: %s",
                entry.task.name,
                type(error).__name__,
                error,
            )
        elif state is FAILED:
            self._note_crucial(entry)
        self._close(entry, state)
        return not goes_on

    def _note_crucial(self, entry: TaskRun) -> None:
        if self.crucial_failure is None:
            self.crucial_failure = entry.task.name


def _parameters(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The arguments of a flow's call by name, for display: a bounded snapshot."""
    if not args and not kwargs:
        return {}
    try:
        bound = inspect.signature(function).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # the call itself will say so
        return {}
    shown = snapshot(bound, longest=LONGEST_TEXT, most=MOST_ENTRIES)
    return shown if isinstance(shown, dict) else {}


def create_execution_handler(
    registry: WorkflowRegistry, session: Session
) -> Callable[[ExecutionRequest], Any]:
    """Make what executes an execution request: looks the flow up and runs it to its end.

    The listener calls it in a thread of its own for each request. What the flow raises is in the run
    and goes no further.
    """

    def handle(request: ExecutionRequest) -> Any:
        definition = registry.get_flow(request.flow_name)
        if definition is None:
            definition = _missing_flow(request.flow_name)
        executor = FlowExecutor(
            session,
            definition,
            run_id=request.run_id,
            configuration=request.configuration,
            trigger="request",
        )
        try:
            if definition.is_async:
                import asyncio  # 25 ms, and only needed here

                return asyncio.run(executor.execute_async(**request.parameters))
            return executor.execute(**request.parameters)
        except (Exception, SystemExit) as error:
            log.error(
                "run %s of flow %r failed: %s: %s",
                request.run_id,
                request.flow_name,
                type(error).__name__,
                error,
            )
            return None

    return handle


def _missing_flow(name: str) -> FlowDefinition:
    """A flow that fails, saying that this process does not have it."""

    def missing() -> None:
        raise NotFound("flow", name, "this client has no such flow")

    return FlowDefinition(name or "unnamed", missing)
