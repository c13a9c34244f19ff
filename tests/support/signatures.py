"""Compare what a document says a callable takes with what it takes."""

from __future__ import annotations

import ast
import collections.abc
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any


def assert_takes(actual: Callable[..., Any], documented: str, method: bool = False) -> None:
    """Assert that a callable has the documented parameters, their defaults, and no other duties.

    Args:
        documented: a call such as ``f(a, b: int, c=1)``.
        method: the parameters must also stand in the documented order, after self.
    """
    arguments = _arguments(documented)
    found = dict(inspect.signature(actual).parameters)
    if method:
        found.pop("self")
        assert list(found)[: len(arguments)] == list(arguments)
    for name, default in arguments.items():
        assert name in found, f"{documented}: {name} is missing"
        assert found[name].kind is not inspect.Parameter.POSITIONAL_ONLY
        if default is not inspect.Parameter.empty:
            assert found[name].default == default, f"{documented}: {name}"
    for name in found.keys() - arguments.keys():
        optional = found[name].default is not inspect.Parameter.empty
        variable = found[name].kind in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        )
        assert optional or variable, f"{documented}: {name} must be given too"


def _arguments(documented: str) -> dict[str, Any]:
    """Names and defaults of a documented call."""
    function = ast.parse(f"def {documented}: ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    names = [argument.arg for argument in function.args.args]
    defaults = [ast.literal_eval(node) for node in function.args.defaults]
    required = [inspect.Parameter.empty] * (len(names) - len(defaults))
    return dict(zip(names, [*required, *defaults], strict=True))
