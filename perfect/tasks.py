"""What a task is: `Task`, and `task`, which makes one of a function."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from functools import partial, update_wrapper
from operator import is_not
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from perfect.bound import BoundTask
from perfect.context import PLAIN, find_scope
from perfect.definitions import (
    ASYNC_GENERATOR,
    COROUTINE,
    GENERATOR,
    TaskDefinition,
    check_ms,
    check_name,
    check_text,
    code_kind,
    first_line,
    get_registry,
)
from perfect.errors import ConfigurationError

if TYPE_CHECKING:
    from concurrent.futures import Future
    from datetime import timedelta
    from typing import TypedDict, Unpack

    from perfect.caching import TaskCache
    from perfect.outcomes import State
    from perfect.store import StateManager

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

if TYPE_CHECKING:

    class TaskOptions(TypedDict, total=False):
        """What `task` and `Task` take beside the function; see there."""

        name: str | None
        description: str | None
        estimated_time: int
        weight: int | None
        crucial_pass: bool
        retries: int
        max_retries: int | None
        delay: float | timedelta
        retry_delay: float | timedelta | None
        backoff: float
        jitter: float | None
        retry_on: type[BaseException] | Iterable[type[BaseException]] | Callable[[Any], Any] | None
        when: Callable[..., Any] | None
        timeout: float | timedelta | None
        cache: bool | TaskCache | StateManager | None
        trigger: Callable[[list[State]], Any] | None
        state_handlers: Iterable[Callable[[Any, State, State], State | None]]
        on_failure: Callable[[Any, State], object] | None

else:  # to make a TypedDict takes as long as to import the rest of this module
    TaskOptions = dict

# The defaults of `options`, in its order: a task that was given none of them does not load it.
BACKOFF = 2.0
DEFAULT_JITTER = 0.1
_NO_OPTIONS = (0, None, 1.0, None, BACKOFF, None, None, None, None, None, None, (), None)


class Task(Generic[P, R]):
    """A function whose calls are seen: called inside a flow, each call is a task run of it.

    Give it a function, or subclass it and write ``run``. Called while a graph flow is built
    (``with perfect.core.Flow(…)``), it becomes a node of the graph instead.

    Args:
        func: the function; may be ``async def``.
        name: default: the function's name.
        description: default: the first line of its docstring.
        estimated_time: how long it is expected to take, in ms, for progress.
        weight: its share of the flow's progress, relative to the other tasks' (default: the estimate).
        crucial_pass: whether its failure fails the flow.
        retries: how often it is tried again after a failure; `max_retries` is another name for it.
        delay: s (or timedelta) before the first retry; each further one waits `backoff` times as long.
        retry_delay: s (or timedelta) before every retry: the same each time, unless `backoff` is given.
        backoff: what the delay is multiplied with after each retry, 1 or more.
        jitter: by what part the waits vary at random, 0–1; default 0.1, with `retry_delay` 0.
        retry_on: exception types, or a predicate of the exception; others are not tried again.
        when: a predicate of the first argument (in a graph: of the first upstream result); if it is
            false, or there is nothing to test, the task is SKIPPED and its result None.
        timeout: s (or timedelta) that an attempt may take; then it fails with `TaskTimeout`.
        cache: reuse of results: a `TaskCache`, a `StateManager` to keep them in, or True for one file in
            ``PERFECT_HOME``.
        trigger: in a graph, which states of the tasks before it let it run (`perfect.core.triggers`);
            default: all successful.
        state_handlers: called as ``handler(task, old, new)`` at every change of its state; may return
            another new state.
        on_failure: called as ``on_failure(task, state)`` when it has failed for good.

    Raises:
        ConfigurationError: an argument is of the wrong type or out of range; it says which.
    """

    __name__: str

    # What `options` sets, where it was given.
    retries: int = 0
    delay: float = 1.0
    backoff: float = BACKOFF
    jitter: float = DEFAULT_JITTER
    retry_on: Callable[[BaseException], Any] | None = None
    when: Callable[..., Any] | None = None
    timeout: float | None = None
    cache: TaskCache | None = None
    trigger: Callable[[list[State]], Any] | None = None
    state_handlers: tuple[Callable[[Any, State, State], State | None], ...] = ()

    def __init__(
        self,
        func: Callable[P, R] | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        estimated_time: int = 1000,
        weight: int | None = None,
        crucial_pass: bool = True,
        retries: int = 0,
        max_retries: int | None = None,
        delay: float | timedelta = 1.0,
        retry_delay: float | timedelta | None = None,
        backoff: float = BACKOFF,
        jitter: float | None = None,
        retry_on: (
            type[BaseException] | Iterable[type[BaseException]] | Callable[[Any], Any] | None
        ) = None,
        when: Callable[..., Any] | None = None,
        timeout: float | timedelta | None = None,
        cache: bool | TaskCache | StateManager | None = None,
        trigger: Callable[[list[State]], Any] | None = None,
        state_handlers: Iterable[Callable[[Any, State, State], State | None]] = (),
        on_failure: Callable[[Any, State], object] | None = None,
    ) -> None:
        if func is not None and not callable(func):
            raise ConfigurationError("func", func, "is not a function")
        if isinstance(func, Task):
            raise ConfigurationError("func", func, "is a task already")
        body: Any = func if func is not None else getattr(type(self), "run")
        while isinstance(body, partial):
            body = body.func
        kind = code_kind(body)
        if kind == ASYNC_GENERATOR:
            raise ConfigurationError(
                "func", func or body, "is an async generator; let the task return a list"
            )
        if func is not None:
            # Not its attributes: one named `run` or `name` would take the place of ours.
            update_wrapper(self, func, updated=())
        self.func = func
        default_name = type(self).__name__ if func is None else getattr(body, "__name__", None)
        self.name = check_name(
            "name", default_name or type(body).__name__ if name is None else name
        )
        doc = body.__doc__ if func is not None else type(self).__doc__
        self.description = check_text("description", first_line(doc), description)
        self.estimated_time = check_ms("estimated_time", estimated_time)
        self.weight = None if weight is None else check_ms("weight", weight)
        if not isinstance(crucial_pass, bool):
            raise ConfigurationError("crucial_pass", crucial_pass, "is neither True nor False")
        self.crucial_pass = crucial_pass
        # What a call runs, resolved once: a call costs microseconds.
        self.body: Callable[..., Any] = self.run if func is None else func
        self.is_async = kind == COROUTINE
        self.is_generator = kind == GENERATOR
        # Whether a call is more than one call of the function; `options` says so.
        self.is_guarded = False
        self.is_plain = kind == 0
        given = (
            *(retries, max_retries, delay, retry_delay, backoff, jitter, retry_on, when, timeout),
            *(cache, trigger, state_handlers, on_failure),
        )
        if any(map(is_not, given, _NO_OPTIONS)):
            from perfect import options

            options.apply(self, given)

    def run(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task alone: its function once, nothing reported."""
        if self.func is None:
            raise ConfigurationError(
                "func", None, f"{type(self).__name__} has neither a function nor a run() method"
            )
        return self.func(*args, **kwargs)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        scope = find_scope()
        result: R = (PLAIN if scope is None else scope.caller).call(self, args, kwargs)
        return result

    # Not P.args: each argument may also be a future, which no signature can say.
    @overload
    def submit(
        self: Task[P, Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any
    ) -> Future[T]: ...

    @overload
    def submit(self, /, *args: Any, **kwargs: Any) -> Future[R]: ...

    def submit(self, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the task in a thread of the flow's pool and go on; ``.result()`` waits for its value.

        Futures among the arguments stand for their results. An async task is awaited there, a generator's
        values become a list. Outside a flow the task is called at once, as it is by a thread of the pool.
        The flow waits at its end for what it submitted.
        """
        scope = find_scope()
        made: Future[Any] = (PLAIN if scope is None else scope.caller).submit(self, args, kwargs)
        return made

    @overload
    def map(self: Task[P, Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any) -> list[T]: ...

    @overload
    def map(self, /, *args: Any, **kwargs: Any) -> list[R]: ...

    def map(self, /, *args: Any, **kwargs: Any) -> list[Any]:
        """Call the task for each element of its arguments, side by side, and return the results in order.

        Each element is a task run of its own, made as by `submit`. An argument that is the same for every
        element is handed over as ``unmapped(value)``. A generator is gone through as its elements are
        needed. Async tasks get event loops of their own; in an async flow, `asyncio.gather` keeps them in
        the flow's.

        Raises:
            ConfigurationError: an argument can't be gone through, or they differ in length.
            whatever the first failing element raises, after the elements under way have ended.
        """
        scope = find_scope()
        made: list[Any] = (PLAIN if scope is None else scope.caller).map(self, args, kwargs)
        return made

    def copy(self, **changes: Unpack[TaskOptions]) -> Task[P, R]:
        """The same task once more, with some of its options changed: another node in a graph.

        Raises:
            ConfigurationError: an option can't be used; it says which and why.
        """
        from perfect import options

        made: Any = options.copied(self, changes)
        assert isinstance(made, Task)
        return made

    def call_alone(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call outside any run: with its retries and the rest of its options, but nothing reported."""
        if self.is_guarded:
            from perfect import driving

            return driving.call(self, args, kwargs)
        return self.run(*args, **kwargs)

    def submit_alone(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from perfect import pool

        return pool.done_at_once(self, args, kwargs)

    def map_alone(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from perfect import driving, mapping

        rows = mapping.rows(self, args, kwargs)
        return [driving.to_its_end(self, self.call_alone(*row)) for row in rows]

    # --- in graphs: what belongs to the flow is asked of the flow ------------------------------

    def bind(
        self, /, *args: Any, flow: Any = None, upstream_tasks: Iterable[Any] = (), **kwargs: Any
    ) -> Task[P, R]:
        """Say what its arguments are in a flow: values, or tasks whose results they are."""
        _flow(flow).bind(self, args, kwargs, upstream_tasks)
        return self

    def set_upstream(self, task: Any, flow: Any = None) -> None:
        """Let it wait for another task in a flow; nothing is handed over."""
        _flow(flow).add_edge(task, self)

    def set_downstream(self, task: Any, flow: Any = None) -> None:
        """Let another task wait for it in a flow; nothing is handed over."""
        _flow(flow).add_edge(self, task)

    def __rshift__(self, other: T) -> T:
        """``a >> b``, ``a >> [b, c]``: b and c come after a."""
        from perfect import wiring

        wiring.connect(self, other)
        return other

    def __rrshift__(self, other: Any) -> Task[P, R]:
        """``[a, b] >> c``: c comes after a and b."""
        from perfect import wiring

        wiring.connect(other, self)
        return self

    def __lshift__(self, other: T) -> T:
        """``b << a``, ``c << [a, b]``."""
        from perfect import wiring

        wiring.connect(other, self)
        return other

    def __rlshift__(self, other: Any) -> Task[P, R]:
        """``[b, c] << a``."""
        from perfect import wiring

        wiring.connect(self, other)
        return self

    @staticmethod
    def clear_registry() -> None:
        """Forget which tasks were made by `perfect.flowkit.task`, and every ``>>`` between them."""
        from perfect import wiring

        wiring.clear()

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Let a task stand in a class body as a method."""
        return self if instance is None else BoundTask(self, instance)

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle as functions do, by name: a task can be handed to a process pool."""
        if self.func is None:
            return super().__reduce__()
        origin = self.__dict__.get("origin")
        if origin is not None:  # a copy: its name leads to what it was copied from
            return _copy_again, origin
        return str(getattr(self, "__qualname__", self.name))

    def __getstate__(self) -> dict[str, Any]:
        """What travels of a task of a subclass: not what graphs have noted on it."""
        return {name: value for name, value in vars(self).items() if name not in NOTES}

    @property
    def definition(self) -> TaskDefinition:
        """The task as flows list it."""
        return TaskDefinition(
            self.name,
            self.body,
            self.description,
            self.weight,
            self.estimated_time,
            self.crucial_pass,
        )


# What others note on a task: its neighbours, what its parameters are, what it was copied from.
NOTES = frozenset(("wires", "accepts", "origin"))


def _copy_again(task: Task[..., Any], changes: TaskOptions) -> Task[..., Any]:
    return task.copy(**changes)


def _flow(given: Any) -> Any:
    """The graph flow that is meant: the given one, or the one that is being built."""
    if given is not None:
        return given
    scope = find_scope()
    built = None if scope is None else scope.flow
    if built is None:
        raise ConfigurationError("flow", None, "say which flow, or stand in `with Flow(…)`")
    return built


@overload
def task(func: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(
    func: str | None = None, /, **options: Unpack[TaskOptions]
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(
    func: Callable[P, R] | str | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    estimated_time: int = 1000,
    weight: int | None = None,
    crucial_pass: bool = True,
    retries: int = 0,
    max_retries: int | None = None,
    delay: float | timedelta = 1.0,
    retry_delay: float | timedelta | None = None,
    backoff: float = BACKOFF,
    jitter: float | None = None,
    retry_on: (
        type[BaseException] | Iterable[type[BaseException]] | Callable[[Any], Any] | None
    ) = None,
    when: Callable[..., Any] | None = None,
    timeout: float | timedelta | None = None,
    cache: bool | TaskCache | StateManager | None = None,
    trigger: Callable[[list[State]], Any] | None = None,
    state_handlers: Iterable[Callable[[Any, State, State], State | None]] = (),
    on_failure: Callable[[Any, State], object] | None = None,
) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a task: ``@task``, ``@task(retries=3)`` or ``@task("Extract")``.

    The arguments are those of `Task`. A task that is not crucial and fails logs a warning, and its
    call returns None, or the `TaskResult` that did not pass.

    Raises:
        ConfigurationError: an argument can't be used; it says which and why.
    """
    if isinstance(func, str):
        func, name = None, func

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        made = Task(
            function,
            name=name,
            description=description,
            estimated_time=estimated_time,
            weight=weight,
            crucial_pass=crucial_pass,
            retries=retries,
            max_retries=max_retries,
            delay=delay,
            retry_delay=retry_delay,
            backoff=backoff,
            jitter=jitter,
            retry_on=retry_on,
            when=when,
            timeout=timeout,
            cache=cache,
            trigger=trigger,
            state_handlers=state_handlers,
            on_failure=on_failure,
        )
        get_registry().register_task(made.definition)
        return made

    return decorate if func is None else decorate(func)
