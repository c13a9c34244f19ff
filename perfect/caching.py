"""Results of tasks, kept for the next call with the same code and arguments."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from perfect.canonical import canonical, closure_of, code_of, name_of, tagged
from perfect.errors import ConfigurationError, Uncacheable
from perfect.plain import Unfit
from perfect.store import StateManager, check_ttl

if TYPE_CHECKING:
    from datetime import timedelta

_MISSING: Any = object()


class TaskCache:
    """Reuses what tasks gave before, as ``@task(cache=TaskCache("results.json", ttl=3600))`` tells them.

    Many tasks may share one; their results have different keys. What a task reads from elsewhere
    (globals, functions that it calls, files) is not part of the key.

    Args:
        store: where results are kept: a StateManager, or the path of a file for one. None: in memory,
            for as long as this object lives; whoever changes a result then changes what is kept.
        ttl: s, or a timedelta, that a result may be reused; None: as the store says.
        key: called with the task's arguments; its value stands for code and arguments. It may be anything
            that an argument may be.

    Raises:
        ConfigurationError: an argument can't be used.
    """

    def __init__(
        self,
        store: StateManager | str | os.PathLike[str] | None = None,
        *,
        ttl: float | timedelta | None = None,
        key: Callable[..., object] | None = None,
    ) -> None:
        if key is not None and not callable(key):
            raise ConfigurationError("key", key, "is not a function")
        check_ttl("ttl", ttl)
        self.store = store if isinstance(store, StateManager) else StateManager(store)
        self._ttl = ttl
        self._key = key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.store!r})"

    def key_for(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *context: Any,
    ) -> str:
        """The key of a call, the same in every process that has the same code.

        It is made of the function's module, name, code and closure, of the arguments under their
        parameters' names with the defaults filled in, and of the context. If this cache has a `key`
        function, its value takes the place of all but module and name.

        Args:
            function: what is called.
            args: its positional arguments.
            kwargs: its keyword arguments.
            context: what else its result depends on. For a bound method it stands in for the object,
                of which only the class is looked at then.

        Returns:
            The function's name, a space and 64 hexadecimal digits (SHA-256).

        Raises:
            Uncacheable: a part has no form that another process would recognise; it says which.
        """
        while type(function) is partial:
            args = (*function.args, *args)
            kwargs = {**function.keywords, **kwargs}
            function = function.func
        name = name_of(function)
        value = None if self._key is None else self._key(*args, **kwargs)
        try:
            if self._key is None:
                parts = _call(function, args, kwargs, context)
            else:
                parts = [tagged("key", _named("key()", value))]
        except Unfit as unfit:
            raise Uncacheable(f"{unfit.place} of {name}: {unfit.reason}") from None
        except RecursionError:
            raise Uncacheable(f"an argument of {name} is nested too deep") from None
        digest = hashlib.sha256(tagged("call", *parts)).hexdigest()
        return f"{name} {digest}"

    def lookup(self, key: str) -> tuple[bool, Any]:
        """Whether there is a result under a key of `key_for`, and which.

        Raises:
            StorageError: the store's file can't be read.
        """
        value = self.store.get(key, _MISSING)
        return (False, None) if value is _MISSING else (True, value)

    def keep(self, key: str, value: Any) -> None:
        """Keep a result under a key of `key_for`.

        Raises:
            Uncacheable: the store can't hold it; it says which part.
            StorageError: the store's file can't be written.
        """
        try:
            self.store.set(key, value, self._ttl)
        except ConfigurationError as error:
            place = error.argument.removeprefix("value")
            raise Uncacheable(f"result{place}: {error.reason}") from None


def _call(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    context: tuple[Any, ...],
) -> list[bytes]:
    """The parts of a call."""
    parts: list[bytes] = []
    called = getattr(type(function), "__call__", None)
    if isinstance(called, FunctionType):  # an object of a class of Python's
        function = MethodType(called, function)
    if isinstance(function, MethodType):
        owner = function.__self__
        if context:
            parts.append(tagged("class", name_of(type(owner)).encode()))
            owner = None
        args = (owner, *args)
        function = function.__func__
    if isinstance(function, FunctionType):
        parts += (code_of(function.__code__), _named("", function, closure_of))
        named, rest = _bound(function, args, kwargs)
    else:
        parts.append(_named("function", function))
        named, rest = dict(kwargs), args
    # The defaults are not looked at but where they are used: an argument in their place says it all.
    for name, value in sorted(named.items()):
        parts.append(tagged("argument", name.encode(), _named(name, value)))
    for place, value in enumerate(rest):
        parts.append(tagged("further", _named(f"args[{place}]", value)))
    for place, value in enumerate(context):
        parts.append(tagged("context", _named(f"context[{place}]", value)))
    return parts


def _bound(
    function: FunctionType, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Arguments by their parameters' names, and the positional ones that are beyond them.

    As `inspect.signature` would bind them; importing `inspect` takes longer than all the rest of this. A
    call that does not fit is bound somehow: it fails when it is made.
    """
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    defaults = function.__defaults__ or ()
    named = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    named.update(function.__kwdefaults__ or {})
    named.update(zip(names, args))
    for name, value in kwargs.items():
        # Beside a positional-only parameter, **kwargs may hold its name once more.
        named[f"**{name}" if name in names[: code.co_posonlyargcount] else name] = value
    return named, args[len(names) :]


def _named(name: str, value: Any, form: Callable[[Any], bytes] = canonical) -> bytes:
    """The bytes of a part; what is wrong with it is told under its name."""
    try:
        return form(value)
    except Unfit as unfit:
        unfit.within(name)
        raise
