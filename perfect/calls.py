"""The task calls of a run: each is reported as it happens.

A task runs in its caller's thread. Around it stand two clock readings, one context variable and two
puts into the outbox; everything else happens in the sender.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import threading
from collections.abc import Callable, Generator
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any

from perfect import attempts, driving, forking
from perfect.context import current
from perfect.definitions import TaskResult
from perfect.errors import TaskFailed
from perfect.failures import describe, state_after
from perfect.records import COMPLETED, FAILED, RELIEVE_MASK, FlowRun, TaskRun, result_snapshot
from perfect.session import Session
from perfect.signals import RunCancelled
from perfect.states import TaskState
from perfect.tasks import Task

if TYPE_CHECKING:
    from concurrent.futures import Future

    from perfect.outcomes import State
    from perfect.pool import FlowPool

log = logging.getLogger("perfect")


class TaskCalls:
    """What calls the tasks of a run, and the caller of its scopes (`perfect.context.Caller`).

    Args:
        session: where the run is reported.
        run: the run.

    Attributes:
        running: the task runs that have begun and not ended, by index.
        failure: why the run has failed, though nothing is raised; None while it has not.
    """

    def __init__(self, session: Session, run: FlowRun) -> None:
        self.run = run
        self.running: dict[int, TaskRun] = {}
        self.failure: str | None = None
        self._session = session
        self._put = session.put
        self._indices = itertools.count()
        self._stubs = session.stubs
        self._pool: FlowPool | None = None  # for `submit` and `map`
        self._pool_lock = threading.Lock()

    def call(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a task as part of this run; what `Task.__call__` comes to inside a flow."""
        if self.run.ended is not None:  # by a thread or generator that outlives its flow
            return task.call_alone(args, kwargs)
        if not task.is_plain:
            return self._call_other(task, args, kwargs, None)
        entry = self.open(task)
        token = current.set(entry)
        try:
            result = self.body_of(task)(*args, **kwargs)
        except BaseException as error:
            if self._fails(entry, error):
                raise
            return None
        finally:
            current.reset(token)
        if isinstance(result, TaskResult):
            return self._accept(entry, result)
        self.close(entry, COMPLETED)
        return result

    def submit(
        self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        """Call a task in a thread of the run's pool; what `Task.submit` comes to inside a flow."""
        if self.run.ended is not None:
            made: Future[Any] = task.submit_alone(args, kwargs)
            return made
        pool = self._pool or self._open_pool()
        return pool.submit(self._in_thread(task, None), args, kwargs)

    def map(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """Call a task for each element; what `Task.map` comes to inside a flow."""
        if self.run.ended is not None:
            done: list[Any] = task.map_alone(args, kwargs)
            return done
        from perfect import mapping
        from perfect.pool import awaited

        args = tuple(awaited(value) for value in args)
        kwargs = {name: awaited(value) for name, value in kwargs.items()}
        rows = mapping.rows(task, args, kwargs)
        pool = self._pool or self._open_pool()
        return pool.map(lambda index: self._in_thread(task, index), rows)

    def _open_pool(self) -> FlowPool:
        from perfect.pool import FlowPool  # concurrent.futures takes 8 ms

        with self._pool_lock:
            if self._pool is None:
                self._pool = FlowPool()
            return self._pool

    def _in_thread(
        self, task: Task[..., Any], map_index: int | None
    ) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
        """What a thread of the pool does for one call."""
        if task.is_plain and map_index is None:
            return partial(self.call, task)
        return lambda args, kwargs: driving.to_its_end(
            task, self._call_other(task, args, kwargs, map_index)
        )

    def _call_other(
        self,
        task: Task[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        map_index: int | None,
    ) -> Any:
        """The calls that are more than that of a function: async, generators, retries, elements of a map."""
        if task.is_async:
            return self._call_async(task, args, kwargs, map_index)
        if task.is_generator:
            return self._call_generator(task, args, kwargs, map_index)
        entry = self.open(task, map_index=map_index)
        token = current.set(entry)
        try:
            body = self.body_of(task)
            state = driving.drive(
                self._course(task, args, kwargs, entry, body), task, body, args, kwargs
            )
        except BaseException as error:  # nothing that may be tried again
            self._fails(entry, error)
            raise
        finally:
            current.reset(token)
        return self._conclude(entry, state)

    async def _call_async(
        self,
        task: Task[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        map_index: int | None,
    ) -> Any:
        if self.run.ended is not None:
            return await task.call_alone(args, kwargs)
        entry = self.open(task, map_index=map_index)
        token = current.set(entry)
        try:
            body = self.body_of(task)
            state = await driving.drive_async(
                self._course(task, args, kwargs, entry, body), task, body, args, kwargs
            )
        except BaseException as error:
            self._fails(entry, error)
            raise
        finally:
            current.reset(token)
        return self._conclude(entry, state)

    def _call_generator(
        self,
        task: Task[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        map_index: int | None,
    ) -> Generator[Any, Any, Any]:
        """The task run lasts until its generator is exhausted or closed."""
        if self.run.ended is not None:
            return (yield from task.call_alone(args, kwargs))
        entry = self.open(task, map_index=map_index)
        steps: attempts.Course | None = None
        if task.is_guarded:  # by `when` or state handlers; there is one attempt
            token = current.set(entry)
            try:
                steps = self._course(task, args, kwargs, entry, self.body_of(task))
                decided = driving.begun(steps)
            finally:
                current.reset(token)
            if decided is not None:
                return self._conclude(entry, decided)
        sent: Any = None
        generator: Any = None
        thrown: BaseException | None = None
        while True:
            token = current.set(entry)
            try:
                if generator is None:
                    made = self.body_of(task)(*args, **kwargs)
                    # A stub may be any iterable.
                    generator = made if inspect.isgenerator(made) else (one for one in made)
                if thrown is not None:
                    value = generator.throw(thrown)
                else:
                    value = next(generator) if sent is None else generator.send(sent)
            except StopIteration as stop:
                return self._gone_through(entry, steps, None, stop.value)
            except GeneratorExit:  # its consumer has seen enough
                self._gone_through(entry, steps, None)
                raise
            except BaseException as error:
                return self._gone_through(entry, steps, error)
            finally:
                current.reset(token)
            thrown = None
            try:
                sent = yield value
            except BaseException as error:
                thrown = error

    def _gone_through(
        self,
        entry: TaskRun,
        steps: attempts.Course | None,
        error: BaseException | None,
        result: Any = None,
    ) -> Any:
        """A generator has ended: what it returns, or raises."""
        if steps is not None:
            try:
                state = driving.ended(steps, error, result)
            except BaseException as interruption:
                self._fails(entry, interruption)
                raise
            return self._conclude(entry, state)
        if error is not None:
            if self._fails(entry, error):
                raise error
            return None
        if isinstance(result, TaskResult):
            return self._accept(entry, result)
        self.close(entry, COMPLETED)
        return result

    def _course(
        self,
        task: Task[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        entry: TaskRun,
        body: Callable[..., Any],
    ) -> attempts.Course:
        subject = attempts.first_argument(args, kwargs)
        return attempts.course(task, args, kwargs, entry, subject, reuse=body is task.body)

    def body_of(self, task: Task[..., Any]) -> Callable[..., Any]:
        """What a call of the task runs; a test may have put something in its place."""
        return self._stubs.get(task.name, task.body) if self._stubs else task.body

    def open(
        self,
        task: Task[..., Any],
        index: int | None = None,
        upstream: tuple[int, ...] | None = None,
        map_index: int | None = None,
        begun: bool = True,
    ) -> TaskRun:
        """A task run begins now, or (not `begun`) is about to be closed without having run.

        Raises:
            RunCancelled: none is to begin any more.
        """
        if begun and self.run.cancelled is not None:
            raise RunCancelled(self.run.cancelled)
        entry = TaskRun(self.run, -1, task, self, time(), upstream, map_index)
        entry.index = next(self._indices) if index is None else index
        # Noted before it is put: where the stack has no room for the put, the run's end reports it.
        self.running[entry.index] = entry
        if begun:
            self._put(entry)
        if not entry.index & RELIEVE_MASK:
            self._session.relieve()
        return entry

    def reserve(self, count: int) -> None:
        """Keep the first indices for the nodes of a graph; called before there is any task run."""
        self._indices = itertools.count(count)

    def close(self, entry: TaskRun, state: TaskState) -> None:
        """A task run has ended."""
        if self.running.pop(entry.index, None) is None:
            return  # the run ended before it, and closed it
        forking.drain()
        if entry.partials:
            entry.flush_lines()
        entry.ended = time()
        entry.state = state
        self._put(entry)

    def _conclude(self, entry: TaskRun, state: State) -> Any:
        """Report what a task has come to, and return its result or raise its error."""
        result = state.result
        if state.is_failed():
            if isinstance(result, TaskFailed) and result.task == entry.task.name:
                return self._accept(entry, result.result)
            if self._fails(entry, result):
                raise result
            return None
        entry.reason = state.message or None
        if isinstance(result, TaskResult):
            return self._accept(entry, result)
        self.close(entry, state.wire)
        return result

    def _accept(self, entry: TaskRun, result: TaskResult) -> TaskResult:
        """Report a TaskResult; one that did not pass fails the task."""
        passed = attempts.has_passed(result)
        entry.result = result_snapshot(result, passed)
        if passed:
            self.close(entry, COMPLETED)
            return result
        self.close(entry, FAILED)
        if entry.task.crucial_pass:
            self._note_crucial(entry)
            raise TaskFailed(entry.task.name, result)
        token = current.set(entry)  # so that the line stands in the task's log
        log.warning("task %r did not pass (not crucial): %s", entry.task.name, result.note)
        current.reset(token)
        return result

    def _fails(self, entry: TaskRun, error: BaseException) -> bool:
        """Report what a task raised; whether it is to be raised on."""
        if isinstance(error, RunCancelled):
            entry.reason = str(error)
        else:
            entry.error = describe(error)
        state = state_after(error)
        # Logged while the task is still the scope, so that the line stands in its log.
        goes_on = isinstance(error, Exception) and not entry.task.crucial_pass
        if goes_on:
            token = current.set(entry)
            log.warning(
                "task %r failed (not crucial), the flow goes on: %s: %s",
                entry.task.name,
                type(error).__name__,
                error,
            )
            current.reset(token)
        elif state is FAILED:
            self._note_crucial(entry)
        self.close(entry, state)
        return not goes_on

    def _note_crucial(self, entry: TaskRun) -> None:
        if self.failure is None:
            self.failure = f"crucial task {entry.task.name!r} failed; the flow went on"
