"""Runs flows, because they were called or because the backend asked for it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any

from perfect import capture, forking, terminal, ticker
from perfect.calls import TaskCalls
from perfect.context import current, enter_run, leave_run
from perfect.definitions import WorkflowRegistry
from perfect.errors import NotFound
from perfect.failures import describe, state_after
from perfect.flows import FlowDefinition
from perfect.jsonable import snapshot
from perfect.records import COMPLETED, FAILED, LONGEST_TEXT, MOST_ENTRIES, FlowRun
from perfect.session import Session
from perfect.signals import RunCancelled, Terminated, terminable
from perfect.states import TaskState

if TYPE_CHECKING:
    from perfect.api import ExecutionRequest

log = logging.getLogger("perfect")


# After these, what the flow has submitted and is under way is waited for; not after Ctrl+C.
_AWAITED = (Exception, RunCancelled)


class FlowExecutor(TaskCalls):
    """One run of one flow.

    Args:
        session: where the run is reported.
        definition: the flow.
        run_id: given with an execution request; default: a new one.
        configuration: "development", "debug", "release" or free text.
        parent: id of the run this one was called in.
        trigger: "call", "request" or "schedule".
        retry_of: id of the run that this one repeats.

    Attributes:
        begun: whether the run has begun, and so is told to its end.
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
        retry_of: str | None = None,
    ) -> None:
        run = FlowRun(
            definition.to_dict(),
            session.put,
            run_id=run_id,
            configuration=configuration,
            parent=parent,
            trigger=trigger,
        )
        super().__init__(session, run)
        run.retry_of = retry_of
        run.caller = self
        run.abandon = self._abandon
        run.relieve = session.relieve
        self.begun = False
        self._function = definition.func

    def execute(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the flow in this thread and return its value; what it raises is raised."""
        with terminable():
            token = self._begin(args, kwargs)
            try:
                value = self._in_the_end(self._function, args, kwargs)
            except BaseException as error:
                self._end(error)
                raise
            else:
                self._end(None)
                return value
            finally:
                current.reset(token)

    def _in_the_end(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call the flow's function, and wait for what it submitted: not after Ctrl+C."""
        try:
            value = function(*args, **kwargs)
            if self._pool is not None:
                self._pool.close(cancel=False)
            if self.run.cancelled is not None:
                raise RunCancelled(self.run.cancelled)
            return value
        except BaseException as error:
            if self._pool is not None:
                self._pool.close(cancel=True, wait=isinstance(error, _AWAITED))
            raise

    async def execute_async(self, /, *args: Any, **kwargs: Any) -> Any:
        """The same for an ``async def`` flow."""
        with terminable():
            token = self._begin(args, kwargs)
            try:
                value = await self._in_the_end_async(self._function, args, kwargs)
            except BaseException as error:
                self._end(error)
                raise
            else:
                self._end(None)
                return value
            finally:
                current.reset(token)

    async def _in_the_end_async(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            value = await function(*args, **kwargs)
            if self._pool is not None:
                await self._pool.close_async(cancel=False)
            if self.run.cancelled is not None:
                raise RunCancelled(self.run.cancelled)
            return value
        except BaseException as error:
            if self._pool is not None:
                if isinstance(error, _AWAITED):
                    await self._pool.close_async(cancel=True)
                else:
                    self._pool.close(cancel=True, wait=False)
            raise

    def refuse(self, error: Exception | SystemExit, given: dict[str, Any]) -> None:
        """Begin and fail the run without calling the flow: what it was given can't be used."""
        with terminable():
            token = self._begin((), {})
            try:
                self.run.parameters = _shown(given)
                self.run.given = partial(dict, given)
                self._end(error)
            finally:
                current.reset(token)

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.begun = True
        self.run.parameters = _parameters(self._function, args, kwargs)
        self.run.given = partial(_arguments, self._function, args, kwargs)
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
        state = COMPLETED if error is None else state_after(error)
        if error is not None and run.cancelled is not None:
            state = TaskState.CANCELLED
        interrupted = state is TaskState.CANCELLED
        for entry in list(self.running.values()):
            # In a thread nobody joined, a generator nobody finished, or too deep in a recursion.
            entry.reason = "interrupted" if interrupted else "still running when the flow ended"
            self.close(entry, state if interrupted else FAILED)
            if entry.task.crucial_pass and self.failure is None:
                self.failure = f"crucial task {entry.task.name!r} was {entry.reason}"
        run.task_count = next(self._indices)
        if error is not None and run.cancelled is not None:
            run.reason = run.cancelled
            run.task_count = None  # what was never called is CANCELLED, and not removed
        if isinstance(error, RunCancelled):
            run.reason = run.reason or f"a run that it called was cancelled: {error}"
        elif error is not None:
            run.error = describe(error)
        elif self.failure is not None:
            run.reason = self.failure
            state = FAILED
        if isinstance(error, (KeyboardInterrupt, Terminated)):
            self._session.interrupted = True
        run.state = state
        self._session.end(run)

    def _abandon(self, reason: str) -> None:
        """The process ends before the run does: close it from outside."""
        for entry in list(self.running.values()):
            entry.reason = reason
            self.close(entry, TaskState.CANCELLED)
        run = self.run
        run.reason = reason
        run.task_count = next(self._indices)
        run.ended = time()
        run.state = TaskState.CANCELLED
        self._session.end(run)


def _arguments(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    defaults: bool = True,
) -> dict[str, Any]:
    """The arguments of a call by name; empty if they don't fit, which the call itself will say."""
    try:
        signature = inspect.signature(function)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {}
    if defaults:
        bound.apply_defaults()
    arguments = bound.arguments
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(name, {}))
    return arguments


def _parameters(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The arguments of a flow's call by name, for display: a bounded snapshot."""
    if not args and not kwargs:
        return {}
    bound = _arguments(function, args, kwargs, defaults=False)
    return _shown(bound)


def _shown(arguments: dict[str, Any]) -> dict[str, Any]:
    shown = snapshot(arguments, longest=LONGEST_TEXT, most=MOST_ENTRIES)
    return shown if isinstance(shown, dict) else {}


class ExecutionHandler:
    """Executes execution requests: looks the flow up and runs it to its end.

    The listener calls it in a thread of its own for each request. What the flow raises is in the run
    and goes no further; where it can't begin, the run is FAILED all the same.

    Args:
        registry: where flows are found by their names.
        session: where the runs are reported.
    """

    def __init__(self, registry: WorkflowRegistry, session: Session) -> None:
        self._registry = registry
        self._session = session

    def __call__(self, request: ExecutionRequest, /) -> Any:
        definition = self._definition(request)
        executor = self._executor(request, definition)
        try:
            args, kwargs = definition.arguments(request.parameters)
            if definition.is_async:
                import asyncio  # 25 ms, and only needed here

                with asyncio.Runner() as runner:
                    runner.get_loop()  # where there is none to be had, no coroutine is left over
                    return runner.run(executor.execute_async(*args, **kwargs))
            return executor.execute(*args, **kwargs)
        except RunCancelled as error:
            log.info("run %s of flow %r: %s", request.run_id, request.flow_name, error)
        except (Exception, SystemExit) as error:
            if not executor.begun:
                executor.refuse(error, request.parameters)
            _complain(request, error)
        return None

    def refuse(self, request: ExecutionRequest, error: Exception) -> None:
        """Fail the run that was asked for without calling the flow."""
        executor = self._executor(request, self._definition(request))
        executor.refuse(error, request.parameters)
        _complain(request, error)

    def _definition(self, request: ExecutionRequest) -> FlowDefinition:
        name = request.flow_name
        return self._registry.get_flow(name) or _missing_flow(name)

    def _executor(self, request: ExecutionRequest, definition: FlowDefinition) -> FlowExecutor:
        return FlowExecutor(
            self._session,
            definition,
            run_id=request.run_id,
            configuration=request.configuration,
            trigger=request.trigger,
            retry_of=request.retry_of,
        )


def _complain(request: ExecutionRequest, error: BaseException) -> None:
    log.error(
        "run %s of flow %r failed: %s: %s",
        request.run_id,
        request.flow_name,
        type(error).__name__,
        error,
    )


def create_execution_handler(registry: WorkflowRegistry, session: Session) -> ExecutionHandler:
    """Make what executes execution requests of these flows."""
    return ExecutionHandler(registry, session)


def _missing_flow(name: str) -> FlowDefinition:
    """A flow that fails, saying that this process does not have it."""

    def missing() -> None:
        raise NotFound("flow", name, "this client has no such flow")

    return FlowDefinition(name or "unnamed", missing)
