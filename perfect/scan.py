"""Finds what a function's code names, by reading the code: no source text, no calls."""

from __future__ import annotations

import dis
import inspect
import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any


def values_of(function: Callable[..., Any]) -> list[Any]:
    """The values that a function's code names, in the order of use.

    Names are looked up where the code would look: its closure, its globals, and attributes of
    modules and classes found there (``steps.extract``). Functions defined inside it are searched too.
    """
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    closure: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars, getattr(function, "__closure__", None) or ()):
        try:
            closure[name] = cell.cell_contents
        except ValueError:  # a cell that is not filled yet
            continue
    found: list[Any] = []
    for root, is_global, attributes in _loads(code):
        value = (function.__globals__ if is_global else closure).get(root)
        for attribute in attributes:
            if not isinstance(value, (types.ModuleType, type)):
                break
            value = inspect.getattr_static(value, attribute, None)
            if isinstance(value, (staticmethod, classmethod)):
                value = value.__func__
        found.append(value)
    return found


@lru_cache(maxsize=1024)
def _loads(code: types.CodeType) -> tuple[tuple[str, bool, tuple[str, ...]], ...]:
    """What code loads, in order: (name, whether global or else of the closure, attributes of it)."""
    found: list[tuple[str, bool, tuple[str, ...]]] = []
    following = False  # whether an attribute of the last name would come next
    for instruction in dis.get_instructions(code):
        operation, argument = instruction.opname, instruction.argval
        if operation in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"):
            found.append((argument, operation in ("LOAD_GLOBAL", "LOAD_NAME"), ()))
            following = True
        elif operation in ("LOAD_ATTR", "LOAD_METHOD") and following:
            root, is_global, attributes = found[-1]
            found[-1] = (root, is_global, (*attributes, argument))
        elif operation not in ("CACHE", "EXTENDED_ARG"):
            following = False
            if isinstance(argument, types.CodeType):
                found += _loads(argument)
    return tuple(found)
