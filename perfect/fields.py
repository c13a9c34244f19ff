"""Parts that go by names, each with an annotation: parameters of functions, fields of classes."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from perfect.jsonable import snapshot
from perfect.redaction import hides
from perfect.scalars import Kind, Unfit

LONGEST_DEFAULT, MOST_ENTRIES = 1000, 100  # of a default that is shown: characters, entries
_EMPTY = inspect.Parameter.empty


class Field(NamedTuple):
    """A part that goes by a name.

    Attributes:
        default: what it is when it is not given; `inspect.Parameter.empty` if that is not known.
        told: whether it is given; False for one that is only read.
    """

    kind: Kind
    required: bool
    default: Any = _EMPTY
    told: bool = True


def schema_of(fields: Mapping[str, Field], title: str = "") -> dict[str, Any]:
    """The schema of an object with these parts and no others."""
    schema: dict[str, Any] = {"title": title} if title else {}
    schema |= {
        "type": "object",
        "properties": {name: _shown(name, field) for name, field in fields.items()},
        "required": [name for name, field in fields.items() if field.required],
        "additionalProperties": False,
    }
    return schema


def _shown(name: str, field: Field) -> dict[str, Any]:
    shown = dict(field.kind.schema)
    if hides(name):  # a form does not show what is typed, and the default stays here
        shown["writeOnly"] = True
        return shown
    if not field.told:
        shown["readOnly"] = True
    if field.default is not _EMPTY:
        default = snapshot(field.default, longest=LONGEST_DEFAULT, most=MOST_ENTRIES)
        try:
            # Only what a form may send back: not "<module json>", nor a text that was cut.
            if bool(field.kind.load(default) == field.default):
                shown["default"] = default
        except Exception:  # an __eq__ of the user's, and what the annotation does not take
            pass
    return shown


def load_fields(given: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    """The parts that are given, each as its annotation has it.

    Raises:
        Unfit: one is unknown, missing or wrong.
    """
    for name, value in given.items():
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise Unfit(value, f"is not known; known: {known}", f".{name}")
    loaded = {}
    for name, field in fields.items():
        if name in given and field.told:
            try:
                loaded[name] = field.kind.load(given[name])
            except Unfit as unfit:
                raise Unfit(unfit.value, unfit.reason, f".{name}{unfit.path}") from None
        elif field.required:
            raise Unfit(None, "is required and not given", f".{name}")
    return loaded


def hints_of(thing: Any, namespace: dict[str, Any]) -> dict[str, Any]:
    """The annotations of a function or class by name; `Any` where one can't be resolved.

    Args:
        namespace: where the names in them are looked up.
    """
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except Exception:  # whatever evaluating the user's annotations may raise
        pass
    raw: dict[str, Any] = {}
    for one in reversed(getattr(thing, "__mro__", (thing,))):
        raw |= getattr(one, "__annotations__", None) or {}
    hints: dict[str, Any] = {}
    for name, annotation in raw.items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= typing.get_type_hints(alone, namespace, include_extras=True)
        except Exception:
            hints[name] = Any
    return hints
