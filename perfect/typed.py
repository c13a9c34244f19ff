"""Parameters as they are typed on a command line: ``NAME=TEXT``, read as JSON where that is what is wanted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from perfect.errors import ConfigurationError

# What JSON's values are in Python, as JSON Schema calls them.
_KINDS = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}


def read_parameters(texts: Iterable[str], schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """JSON values by name.

    Args:
        texts: each ``NAME=TEXT``.
        schema: what the flow takes; None: it has not said so.

    Raises:
        ConfigurationError: a text is not ``NAME=TEXT``, or one name is given twice.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigurationError("-p", text, "is not NAME=JSON")
        if name in values:
            raise ConfigurationError("-p", text, f"{name!r} is given twice")
        values[name] = _value(value, _kinds_of(name, schema or {}))
    return values


def _value(text: str, kinds: set[str]) -> Any:
    """The JSON that the text is, or the text: also where JSON of its kind is not wanted and text is."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text
    kind = _KINDS[type(value)]
    wanted = {kind, "number"} if kind == "integer" else {kind}
    return text if "string" in kinds and not wanted & kinds else value


def _kinds_of(name: str, schema: Mapping[str, Any]) -> set[str]:
    """The kinds of JSON that a parameter takes; empty where its schema does not say so."""
    part = (schema.get("properties") or {}).get(name, schema.get("additionalProperties"))
    if not isinstance(part, dict):
        return set()
    found: set[str] = set()
    for one in part.get("anyOf", (part,)):
        if "enum" in one:
            found |= {_KINDS[type(value)] for value in one["enum"]}
        elif "type" in one:
            found |= {one["type"]} if isinstance(one["type"], str) else set(one["type"])
        else:
            return set()
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
