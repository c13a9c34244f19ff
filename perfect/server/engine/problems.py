"""What is wrong with values, in words."""

from __future__ import annotations

from typing import Any

from jsonschema.exceptions import ValidationError

from perfect.server.engine.refusals import shown

_LONGEST = 300  # characters
_PARTS = ("required", "additionalProperties")


def told(error: ValidationError) -> list[dict[str, str]]:
    """An error of the library in our words: ``[{"field", "problem"}]``."""
    field = cut(
        "parameters"
        + "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path
        )
    )
    value: Any = error.instance
    wanted: Any = error.validator_value
    schema: Any = error.schema
    keyword = error.validator
    if keyword == "required":
        return [
            {"field": f"{field}.{name}", "problem": "is required and not given"}
            for name in wanted
            if error.message.startswith(f"{name!r} is")
        ]
    if keyword == "additionalProperties" and wanted is False:
        known = list(schema.get("properties", ()))
        takes = cut(", ".join(known) or "none")
        return [
            {"field": cut(f"{field}.{name}"), "problem": f"is not known; known: {takes}"}
            for name in list(value)[:1000]
            if name not in known
        ]
    if keyword in ("anyOf", "oneOf") and error.context:
        # What is wrong inside says more than that none of them fits.
        for inside in error.context:
            if len(inside.absolute_path) > len(error.absolute_path) or inside.validator in _PARTS:
                return told(inside)
        wants = " or ".join(_named(one) for one in wanted)
        return [{"field": field, "problem": cut(f"{shown(value)} is not {wants}")}]
    if keyword in ("type", "format", "enum", "const"):
        return [{"field": field, "problem": cut(f"{shown(value)} is not {_named(schema)}")}]
    if keyword in ("minLength", "maxLength", "minItems", "maxItems"):
        return [
            {"field": field, "problem": f"has {len(value)} parts, {keyword} is {shown(wanted)}"}
        ]
    if keyword == "uniqueItems":
        return [{"field": field, "problem": "has a part that stands there twice"}]
    if isinstance(wanted, (int, float)):
        return [{"field": field, "problem": f"{shown(value)}: {keyword} is {shown(wanted)}"}]
    return [{"field": field, "problem": f"{shown(value)} does not fit ({keyword})"}]


_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_FORMATTED = {
    "date": "a date (YYYY-MM-DD)",
    "date-time": "a date and time (ISO 8601)",
    "time": "a time (HH:MM:SS)",
    "duration": "a duration (seconds, or ISO 8601 as in PT1H30M)",
    "decimal": "a decimal number",
    "uuid": "a UUID",
}


def _named(schema: Any) -> str:
    """What a schema takes, in words."""
    if not isinstance(schema, dict):
        return "allowed"
    if "enum" in schema:
        return f"one of {', '.join(shown(one) for one in schema['enum'][:20])}"
    if "const" in schema:
        return shown(schema["const"])
    if schema.get("format") in _FORMATTED:
        return _FORMATTED[schema["format"]]
    kinds = schema.get("type", "object")
    return " or ".join(
        _TYPES.get(kind, "allowed") for kind in ([kinds] if isinstance(kinds, str) else kinds)
    )


def cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
