"""What the decorators' functions do once a flow is called: executors, sessions, serving.

`sdk` loads this at the first call, because what it stands on (logging, queues, signals) costs more to import than
everything a module of decorated functions needs.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from perfect import session as sessions
from perfect.context import current
from perfect.executor import FlowExecutor, create_execution_handler
from perfect.session import Session, configure, get_session
from perfect.signals import RunCancelled, Terminated, terminable
from perfect.definitions import get_registry
from perfect.flows import FlowDefinition

__all__ = ["configure", "execute", "get_session", "listen", "register"]

REGISTRATION_TIME = 5.0  # s that the backend may take to answer


def execute(
    definition: FlowDefinition,
    configuration: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    serve: bool = True,
) -> Any:
    """Run a flow because it was called; for an async flow, return the coroutine that does.

    Args:
        serve: whether the backend may ask for further runs of it afterwards.
    """
    # Looked up anew: tasks may have been defined, or redefined, since the decoration.
    definition.find_tasks()
    # Not `find_scope`: a flow in a thread that another run's code started is a flow of its own.
    scope = current.get()
    parent = None
    if scope is not None and scope.run is not None:
        parent = scope.run.id
        if scope.run.cancelled is not None:
            raise RunCancelled(scope.run.cancelled)
    session = get_session()
    executor = FlowExecutor(session, definition, configuration=configuration, parent=parent)
    if definition.is_async:
        return _execute_async(executor, definition, session, args, kwargs)
    try:
        return executor.execute(*args, **kwargs)
    finally:
        if parent is None and serve:
            _serve(session, [definition], concurrency=1)


async def _execute_async(
    executor: FlowExecutor,
    definition: FlowDefinition,
    session: Session,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    try:
        return await executor.execute_async(*args, **kwargs)
    finally:
        _serve(session, [definition], concurrency=1)


def _serve(session: Session, definitions: list[FlowDefinition], *, concurrency: int) -> None:
    session.serve(
        [definition.to_dict() for definition in definitions],
        create_execution_handler(get_registry(), session),
        concurrency,
    )


def register(definition: FlowDefinition) -> bool:
    """Make a flow known to the backend, and serve its runs; whether the backend has answered."""
    session = get_session()
    definition.find_tasks()
    _serve(session, [definition], concurrency=1)
    return session.connect(REGISTRATION_TIME)


def listen(concurrency: int) -> None:
    """Serve every flow of the registry until a signal; see `perfect.sdk.listen`."""
    session = get_session()
    stop = threading.Event()
    with _stopped_by_signals(stop.set):
        for definition in get_registry().flows.values():
            definition.find_tasks()
        _serve(session, list(get_registry().flows.values()), concurrency=concurrency)
        stop.wait()
    try:
        with terminable():
            session.drain(None)
    except (KeyboardInterrupt, Terminated) as second:  # nothing more is waited for
        session.interrupted = True
        sessions.reset()
        code = second.code if isinstance(second, Terminated) else 128 + signal.SIGINT
        raise SystemExit(code) from None
    sessions.reset()


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at SIGINT or SIGTERM; the next signal does what it did before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {
        number: handler
        for number, usual in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
        )
        if (handler := signal.getsignal(number)) is usual
    }

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def on_signal(number: int, frame: Any) -> None:
        restore()
        stop()

    for number in former:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        restore()
