"""The parameters of flows: schemas are checked when they are registered, values when a run is asked for.

Schemas come from clients, so the vocabulary is bounded to what annotations need and nothing is fetched, compiled
or run for long: no regular expressions, references only to the schema's own ``$defs``, and each check of a value
counts. Keywords that JSON Schema does not know say nothing, as it says itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import create
from referencing import Registry
from referencing.exceptions import Unresolvable

from perfect.server.engine.formats import FORMATS
from perfect.server.engine.problems import cut, told
from perfect.server.engine.refusals import Invalid, shown
from perfect.server.settings import Limits

MOST_CHECKS = 600_000  # keywords applied to one request's values: seconds at most
MOST_PROBLEMS = 20  # told of one request
_DEEPEST = (
    24  # levels of schemas; JSON Schema takes two levels of JSON for each, and $defs two more
)

# What is applied to values. The rest of draft 2020-12 is refused, so that nobody relies on what is not checked.
_KEYWORDS = (
    *("$ref", "type", "enum", "const", "format", "allOf", "anyOf", "oneOf", "not", "if"),
    *("properties", "required", "additionalProperties", "propertyNames"),
    *("minProperties", "maxProperties", "items", "prefixItems", "minItems", "maxItems"),
    *("minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "multipleOf",
)
_REFUSED = {
    "pattern": "regular expressions of clients are not run",
    "patternProperties": "regular expressions of clients are not run",
    "$id": "a schema is not known elsewhere",
    "$anchor": "only '#/$defs/name' is followed",
    "$dynamicRef": "only $ref to '#/$defs/name' is followed",
    "$dynamicAnchor": "only '#/$defs/name' is followed",
    "$vocabulary": "the vocabulary is JSON Schema 2020-12",
    **dict.fromkeys(
        ("dependentSchemas", "dependentRequired", "contains", "minContains", "maxContains"),
        "is not checked by this backend",
    ),
    **dict.fromkeys(
        ("unevaluatedProperties", "unevaluatedItems"), "is not checked by this backend"
    ),
}
_DRAFT = ("https://json-schema.org/draft/2020-12/schema",)
_REFERENCE = re.compile(r"#/\$defs/([A-Za-z0-9_.-]{1,200})")
# Where a schema has schemas: in one place, in a list, by names.
_ONE = ("additionalProperties", "propertyNames", "items", "not", "if", "then", "else")
_SEVERAL = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "$defs")

# The client's signs that it has left something out (perfect.jsonable, perfect.redaction).
_LEFT_OUT = re.compile(r'… \[cut, [0-9]+ characters\]"|"… [0-9]+ more"|"…":"[0-9]+ more"')
MASK = "********"


# --- schemas ------------------------------------------------------------------------------------


def check_schema(schema: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The schema of a flow's parameters.

    Raises:
        Invalid: naming what in it is wrong, too much, or not taken here.
    """
    try:
        text = orjson.dumps(schema)
    except orjson.JSONEncodeError as error:  # numbers of more than 64 bits
        raise Invalid(f"parameters: {error}") from None
    if len(text) > limits.schema:
        raise Invalid(f"parameters: has {len(text)} bytes, more than {limits.schema}")
    problem = _problem_of(text, limits.parameter_names)
    if problem is not None:
        raise Invalid(f"parameters{problem}")
    return schema


@lru_cache(maxsize=1024)
def _problem_of(text: bytes, most_names: int) -> str | None:
    """What is wrong with a schema; known for those seen before, as each run brings its flow's along."""
    schema = orjson.loads(text)
    try:
        _walk("", schema, schema.get("$defs"), 0)
        Draft202012Validator.check_schema(schema)
    except _Wrong as wrong:
        return str(wrong)
    except SchemaError as error:
        where = "".join(f".{part}" for part in error.absolute_path)
        return f"{where}: {cut(error.message)}"
    if schema.get("type") != "object":
        return ".type: is not 'object'"
    names = len(schema.get("properties", ()))
    if names > most_names:
        return f".properties: there are {names}, more than {most_names}"
    return None


class _Wrong(Exception):
    """A sentence that begins with the place in the schema."""


def _walk(path: str, schema: Any, definitions: Any, level: int) -> None:
    """Refuse what is not taken here; whether the rest is a schema is the library's to say."""
    if level > _DEEPEST:
        raise _Wrong(f"{path}: is nested deeper than {_DEEPEST} schemas")
    if not isinstance(schema, dict):
        return
    for keyword, part in schema.items():
        here = f"{path}.{keyword}"
        if keyword in _REFUSED:
            raise _Wrong(f"{here}: {_REFUSED[keyword]}")
        if keyword == "$schema" and part not in _DRAFT:
            raise _Wrong(f"{here}={shown(part)}: is not {_DRAFT[0]}")
        if keyword == "$ref":
            found = _REFERENCE.fullmatch(part) if isinstance(part, str) else None
            if found is None or not isinstance(definitions, dict) or found[1] not in definitions:
                raise _Wrong(f"{here}={shown(part)}: is not '#/$defs/' and a name that is there")
        if keyword == "$defs" and level:
            raise _Wrong(f"{here}: stands at the top of a schema only")
        if keyword in _ONE:
            _walk(here, part, definitions, level + 1)
        elif keyword in _SEVERAL and isinstance(part, list):
            for number, one in enumerate(part):
                _walk(f"{here}[{number}]", one, definitions, level + 1)
        elif keyword in _NAMED and isinstance(part, dict):
            for name, one in part.items():
                _walk(f"{here}.{name}", one, definitions, level + 1)


# --- values -------------------------------------------------------------------------------------


class _TooMuch(Exception):
    """The checks of a request's values take too long."""


# How many checks are left in this thread.
_left: ContextVar[int] = ContextVar("checks left", default=MOST_CHECKS)


def _counted(check: Any) -> Any:
    def apply(validator: Any, part: Any, instance: Any, schema: Any) -> Iterator[Any]:
        left = _left.get() - 1
        if left < 0:
            raise _TooMuch
        _left.set(left)
        yield from check(validator, part, instance, schema) or ()

    return apply


def _unique(_validator: Any, wanted: Any, value: Any, _schema: Any) -> Iterator[ValidationError]:
    """As the library's, in linear time: equal parts have equal JSON."""
    if wanted is True and isinstance(value, list):
        if len({orjson.dumps(part, option=orjson.OPT_SORT_KEYS) for part in value}) < len(value):
            yield ValidationError("a part stands there twice")


_CHECKS = {name: Draft202012Validator.VALIDATORS[name] for name in _KEYWORDS}
# The library's validator with these keywords only; it has nothing to fetch from.
_Validator: Any = create(
    meta_schema={},
    validators={
        name: _counted(check) for name, check in {**_CHECKS, "uniqueItems": _unique}.items()
    },
    type_checker=Draft202012Validator.TYPE_CHECKER,
    format_checker=FORMATS,
    id_of=lambda schema: "",
)
_NOTHING: Registry[Any] = Registry()


# keywords that have nothing against an object without names, whatever they say
_INDIFFERENT = frozenset(
    ("$schema", "$comment", "$defs", "title", "description", "examples", "default", "properties")
) | {"additionalProperties", "propertyNames", "maxProperties"}


@lru_cache(maxsize=1024)
def takes_nothing(schema: str) -> bool:
    """Whether it is seen at a glance that a flow goes without values; its schema is JSON text."""
    return all(
        keyword in _INDIFFERENT
        or (keyword == "required" and part == [])
        or (keyword == "type" and part == "object")
        for keyword, part in orjson.loads(schema).items()
    )


def check_values(schema: str | None, given: Any, limits: Limits) -> str | None:
    """The values of a run's parameters as JSON text; blocks for as long as there is to check.

    Args:
        schema: the flow's, as JSON text; None: its client has not said what it takes.
        given: what was sent; None is no values.
        limits: how much it may be.

    Raises:
        Invalid: the detail has each field that is wrong and what is: ``[{"field", "problem"}]``.
    """
    if given is not None:
        text = _bounded(given, limits)
    if schema is not None:
        problems = _problems(orjson.loads(schema), {} if given is None else given)
        if problems:
            first = problems[0]
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise Invalid(f"{first['field']}: {first['problem']}{more}", problems)
    return None if given is None else text


def _bounded(given: Any, limits: Limits) -> str:
    if not isinstance(given, dict):
        raise _invalid("parameters", f"{shown(given)} is not an object")
    if len(given) > limits.parameter_names:
        raise _invalid("parameters", f"has {len(given)} names, more than {limits.parameter_names}")
    for name in given:
        if len(name) > limits.name:
            raise _invalid(
                "parameters", f"the name {shown(name)} has more than {limits.name} characters"
            )
    try:
        text = orjson.dumps(given)
    except orjson.JSONEncodeError as error:  # a surrogate, a number of more than 64 bits
        raise _invalid("parameters", str(error)) from None
    if len(text) > limits.parameters:
        raise _invalid("parameters", f"has {len(text)} bytes, more than {limits.parameters}")
    return text.decode()


def _invalid(field: str, problem: str) -> Invalid:
    return Invalid(f"{field}: {problem}", [{"field": field, "problem": problem}])


def _problems(schema: dict[str, Any], given: dict[str, Any]) -> list[dict[str, str]]:
    """What is wrong with values, the first `MOST_PROBLEMS` of it, in order of the fields."""
    found: list[dict[str, str]] = []
    _left.set(MOST_CHECKS)
    try:
        validator = _Validator(schema, registry=_NOTHING, format_checker=FORMATS)
        for error in validator.iter_errors(given):
            found += told(error)
            if len(found) >= MOST_PROBLEMS:
                break
    except _TooMuch:
        return [{"field": "parameters", "problem": "is too much to be checked"}]
    except RecursionError:
        return [{"field": "parameters", "problem": "can't be checked: the schema runs in a circle"}]
    except Unresolvable:  # of a schema that was kept by an earlier version
        return [{"field": "parameters", "problem": "can't be checked: the schema is not whole"}]
    return found[:MOST_PROBLEMS]


# --- values that were kept ------------------------------------------------------------------------


def kept(parameters: str, limits: Limits) -> str:
    """The values that a client reports, as JSON text; of too many, that there were so many."""
    if len(parameters.encode()) <= limits.parameters:
        return parameters
    return orjson.dumps({"…": f"{len(orjson.loads(parameters))} more"}).decode()


def hidden(parameters: str | None) -> bool:
    """Whether a part of the values (JSON text) is masked, because the client says that it is a secret."""
    return parameters is not None and MASK in parameters


def incomplete(parameters: str | None) -> str | None:
    """Why a run can't be asked for again with these values (JSON text); None if it can."""
    if parameters is None:
        return None
    if hidden(parameters):
        return "its parameters hold a secret, which is not kept"
    if _LEFT_OUT.search(parameters):
        return "its parameters were too long to be kept whole"
    return None
