"""What a flow takes: its parameters as a JSON Schema, and the arguments that are made of a request's values.

Plain calls are not touched by any of it.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from perfect.errors import ConfigurationError
from perfect.fields import Field, hints_of, load_fields, schema_of
from perfect.kinds import DEEPEST, Definitions, described
from perfect.scalars import ANYTHING, Kind, Unfit

LARGEST = 256 << 10  # bytes of a schema; a larger one is not told, and anything is taken
LONGEST_DESCRIPTION = 1000  # characters

_ONE_BY_ONE = inspect.Parameter.POSITIONAL_ONLY
_SECTION = re.compile(r"^([ \t]*)(?:Args|Arguments|Parameters):[ \t]*$", re.MULTILINE)
_ENTRY = re.compile(r"^\*{0,2}([^\W\d]\w*)[ \t]*(?:\([^)]{0,200}\))?:[ \t]*(.*)$")
_ANY_OBJECT: dict[str, Any] = {"type": "object"}


class Parameters:
    """The parameters of a function.

    ``*args`` can't be given by name and stay empty. ``**kwargs`` take any further name.

    Attributes:
        schema: JSON Schema (2020-12) of the object that a request's values are.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._positional: list[str] = []
        self._fields: dict[str, Field] = {}
        self._further: Kind | None = None
        try:
            self.schema = self._read(function)
        except Exception:  # a builtin without a signature, or an object that is one of its own kind
            self._positional, self._fields, self._further = [], {}, ANYTHING
            self.schema = dict(_ANY_OBJECT)

    def _read(self, function: Callable[..., Any]) -> dict[str, Any]:
        definitions = Definitions()
        signature = inspect.signature(function)
        plain = _plain(function)
        hints = hints_of(plain, getattr(plain, "__globals__", {}))
        said = described_in(inspect.getdoc(plain) or "")
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                continue
            kind = definitions.kind_of(hints.get(name, Any))
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                self._further = kind
                continue
            if name in said and "description" not in kind.schema:
                kind = described(kind, said[name])
            if parameter.kind is _ONE_BY_ONE:
                self._positional.append(name)
            required = parameter.default is inspect.Parameter.empty
            self._fields[name] = Field(kind, required, parameter.default)
        schema = schema_of(self._fields)
        if self._further is not None:
            schema["additionalProperties"] = self._further.schema or True
        if definitions.schemas:
            schema["$defs"] = definitions.schemas
        return schema if _fits(schema) else dict(_ANY_OBJECT)

    def arguments(self, given: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the function is called with, made of the JSON values of a request.

        Returns:
            Positional and keyword arguments; what is not given is left to the function's defaults.

        Raises:
            ConfigurationError: one is unknown, missing or can't be converted; it names it.
        """
        known = {name: value for name, value in given.items() if name in self._fields}
        further = {name: value for name, value in given.items() if name not in self._fields}
        if further and self._further is None:
            name, value = next(iter(further.items()))
            takes = ", ".join(self._fields) or "none"
            raise ConfigurationError(
                named(name), value, f"the flow has no such parameter; it has: {takes}"
            )
        try:
            loaded = load_fields(known, self._fields)
            if self._further is not None:
                every = {name: Field(self._further, False) for name in further}
                loaded |= load_fields(further, every)
        except Unfit as unfit:
            name, rest = _first(unfit.path, given, self._fields)
            raise ConfigurationError(named(name) + rest, unfit.value, unfit.reason) from None
        # What comes one by one ends at the first that is not given: those after it have defaults too.
        args = []
        for name in self._positional:
            if name not in loaded:
                break
            args.append(loaded.pop(name))
        for name in self._positional[len(args) :]:
            if name in loaded:
                before = self._positional[len(args)]
                raise ConfigurationError(
                    named(name), given[name], f"can't be given without {before!r}"
                )
        return tuple(args), loaded


def named(name: str) -> str:
    """How a parameter is called in an error."""
    return f"parameters[{name!r}]"


def _first(path: str, *names: Mapping[str, Any]) -> tuple[str, str]:
    """A path's parameter, and the rest of it; a name may hold dots."""
    for known in names:
        for name in sorted(known, key=len, reverse=True):
            if path.startswith(f".{name}"):
                return name, path[len(name) + 1 :]
    return path[1:], ""


def _fits(schema: dict[str, Any]) -> bool:
    return len(json.dumps(schema, ensure_ascii=False).encode("utf-8", "replace")) <= LARGEST


def _plain(function: Any) -> Any:
    """The function whose annotations and docstring count."""
    for _ in range(DEEPEST):
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif not isinstance(function, (types.FunctionType, type)) and hasattr(
            type(function).__call__, "__annotations__"
        ):
            return type(function).__call__
        else:
            break
    return function


def described_in(doc: str) -> dict[str, str]:
    """What the ``Args:`` section of a docstring says of each argument (Google's style).

    Args:
        doc: as `inspect.getdoc` gives it.
    """
    found = _SECTION.search(doc)
    if found is None:
        return {}
    outer = len(found[1].expandtabs())
    inner: int | None = None
    texts: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in doc[found.end() :].lstrip("\n").splitlines():
        text = line.strip()
        if not text:
            continue
        indent = len(line.expandtabs()) - len(line.expandtabs().lstrip())
        if indent <= outer:
            break
        inner = indent if inner is None else inner
        entry = _ENTRY.match(text) if indent <= inner else None
        if entry is not None:
            current = texts[entry[1]] = [entry[2]]
        elif current is not None:
            current.append(text)
    return {
        name: " ".join(part for part in parts if part)[:LONGEST_DESCRIPTION]
        for name, parts in texts.items()
        if any(parts)
    }
