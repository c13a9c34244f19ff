"""What annotations mean as JSON: the schema of their values, and how a value is made of JSON.

The JSON of a value is what `perfect.jsonable.snapshot` makes of it; here is the way back.
"""

from __future__ import annotations

import collections.abc
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from perfect.fields import Field, hints_of, load_fields, schema_of
from perfect.scalars import ANYTHING, Kind, Unfit, choice, scalar

_EMPTY = inspect.Parameter.empty
_LISTS = (
    *(list, collections.abc.Sequence, collections.abc.MutableSequence),
    *(collections.abc.Iterable, collections.abc.Collection),
)
_SETS = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
DEEPEST = 16  # annotations in annotations; what is deeper takes anything


class Definitions:
    """The classes that a schema speaks of, each described once, so that they may hold themselves.

    Attributes:
        schemas: by name, for ``$defs``.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, Any] = {}
        self._kinds: dict[type, Kind] = {}

    def kind_of(self, annotation: Any, depth: int = 0) -> Kind:
        """The kind of an annotation; one that JSON has no form for takes whatever is given."""
        try:
            return ANYTHING if depth > DEEPEST else self._kind_of(annotation, depth)
        except (
            Exception
        ):  # an annotation may be any object: the flow that has it is to run all the same
            return ANYTHING

    def _kind_of(self, annotation: Any, depth: int) -> Kind:
        simple = scalar(type(None) if annotation is None else annotation)
        if simple is not None:
            return simple
        if type(annotation).__name__ == "InitVar":
            return self.kind_of(annotation.type, depth + 1)
        supertype = getattr(annotation, "__supertype__", None)  # NewType
        if supertype is not None:
            return self.kind_of(supertype, depth + 1)
        origin = typing.get_origin(annotation)
        if origin is None:
            if isinstance(annotation, type):
                described = self._described(annotation)
                if described is not None:
                    return described
            return self._generic(annotation, (), depth, bare=True)
        return self._generic(origin, typing.get_args(annotation), depth)

    def _generic(
        self, origin: Any, arguments: tuple[Any, ...], depth: int, bare: bool = False
    ) -> Kind:
        def inner(annotation: Any) -> Kind:
            return self.kind_of(annotation, depth + 1)

        if origin is typing.Annotated:
            kind = inner(arguments[0])
            said = next((one for one in arguments[1:] if isinstance(one, str)), None)
            return kind if said is None else described(kind, said)
        if origin in (typing.Union, types.UnionType):
            return _union([inner(one) for one in arguments])
        if origin is typing.Literal:
            return choice(list(arguments))
        if origin in (typing.Required, typing.NotRequired):
            return inner(arguments[0])
        # Iterators and the like are what has no JSON form: only what is listed is made of lists.
        element = inner(arguments[0]) if len(arguments) == 1 else ANYTHING
        if origin in _LISTS:
            return _list(element, list, "a list")
        if origin in _SETS:
            made = frozenset if origin is frozenset else set
            kind = _list(element, made, "a list")
            return kind._replace(schema={**kind.schema, "uniqueItems": True})
        if origin is tuple:
            if len(arguments) == 2 and arguments[1] is Ellipsis:
                return _list(inner(arguments[0]), tuple, "a list")
            if bare:
                return _list(ANYTHING, tuple, "a list")
            return _tuple([inner(one) for one in arguments])
        if origin in _MAPPINGS:
            keys, values = arguments if len(arguments) == 2 else (str, Any)
            return _mapping(inner(keys), inner(values))
        return ANYTHING

    def _described(self, kind: type) -> Kind | None:
        """The kind of a dataclass, a TypedDict or a NamedTuple."""
        known = self._kinds.get(kind)
        if known is not None:
            return known
        is_tuple = issubclass(kind, tuple) and hasattr(kind, "_fields")
        is_dict = typing.is_typeddict(kind)
        if not (is_tuple or is_dict or hasattr(kind, "__dataclass_fields__")):
            return None
        plain = re.sub(r"[^A-Za-z0-9_]", "_", kind.__name__)
        name, number = plain, 1
        while name in self.schemas:
            number += 1
            name = f"{plain}{number}"
        self.schemas[name] = {}
        loaders: list[Callable[[Any], Any]] = []
        what = f"an object of {kind.__name__}"
        made = Kind({"$ref": f"#/$defs/{name}"}, lambda value: loaders[0](value), what)
        self._kinds[kind] = made
        fields = _fields_of_dict(kind, self) if is_dict else _fields_of_class(kind, self)
        schema = schema_of(fields, title=kind.__name__)
        load = _object(kind, fields, what)
        if is_tuple:  # told as a list; named parts are taken too
            parts = list(fields.values())
            load_row = _row(kind, parts)
            loaders.append(lambda given: (load_row if isinstance(given, list) else load)(given))
            least = sum(field.required for field in parts)
            row = {**_tuple([field.kind for field in parts]).schema, "minItems": least}
            self.schemas[name] = {"anyOf": [schema, row]}
        else:
            loaders.append(load)
            self.schemas[name] = schema
        return made


def described(kind: Kind, text: str) -> Kind:
    """The kind, with a description for people."""
    return kind._replace(schema={**kind.schema, "description": text})


# --- classes with parts by name ---------------------------------------------------------------------


def _namespace(kind: type) -> dict[str, Any]:
    return {**vars(sys.modules.get(kind.__module__, typing)), kind.__name__: kind}


def _fields_of_dict(kind: Any, definitions: Definitions) -> dict[str, Field]:
    hints = hints_of(kind, _namespace(kind))
    fields = {}
    for name, hint in hints.items():
        # `__required_keys__` knows nothing of markers in annotations that are text.
        marked = {typing.Required: True, typing.NotRequired: False}.get(typing.get_origin(hint))
        required = name in kind.__required_keys__ if marked is None else marked
        fields[name] = Field(definitions.kind_of(hint, 1), required)
    return fields


def _fields_of_class(kind: Any, definitions: Definitions) -> dict[str, Field]:
    hints = hints_of(kind, _namespace(kind))
    parts = getattr(kind, "__dataclass_fields__", {})
    fields = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        default = parameter.default
        made_by = getattr(parts.get(name), "default_factory", None)
        if made_by in (list, dict, set):
            default = made_by()
        fields[name] = Field(
            definitions.kind_of(hints.get(name, Any), 1), parameter.default is _EMPTY, default
        )
    for name, one in parts.items():
        if name not in fields and not one.init and one._field_type.name == "_FIELD":
            fields[name] = Field(
                ANYTHING, False, told=False
            )  # told of a run, and made by the class
    return fields


# --- values of several parts ----------------------------------------------------------------------


def _object(kind: Any, fields: Mapping[str, Field], what: str) -> Callable[[Any], Any]:
    def load(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Unfit(value, f"is not {what}")
        return _made(kind, value, (), load_fields(value, fields))

    return load


def _row(kind: Any, fields: list[Field]) -> Callable[[Any], Any]:
    def load(value: list[Any]) -> Any:
        least = sum(field.required for field in fields)
        if not least <= len(value) <= len(fields):
            raise Unfit(value, f"has {len(value)} parts, not {least} to {len(fields)}")
        loaders = [field.kind.load for field in fields]
        return _made(kind, value, _each(value, loaders), {})

    return load


def _made(kind: Any, value: Any, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
    try:
        return kind(*args, **kwargs)
    except Exception as error:  # a __post_init__ of the user's that refuses it
        raise Unfit(value, f"is no {kind.__name__}: {type(error).__name__}: {error}") from error


def _each(value: list[Any], loaders: Iterable[Callable[[Any], Any]]) -> list[Any]:
    loaded: list[Any] = []
    try:
        for part, load in zip(value, loaders):
            loaded.append(load(part))
    except Unfit as unfit:
        raise Unfit(unfit.value, unfit.reason, f"[{len(loaded)}]{unfit.path}") from None
    return loaded


def _list(element: Kind, make: Callable[[list[Any]], Any], what: str) -> Kind:
    def load(value: Any) -> Any:
        if not isinstance(value, list):
            raise Unfit(value, f"is not {what}")
        try:
            return make(_each(value, [element.load] * len(value)))
        except TypeError:
            raise Unfit(value, "has parts that a set can't hold") from None

    schema: dict[str, Any] = {"type": "array"}
    if element.schema:
        schema["items"] = element.schema
    return Kind(schema, load, what)


def _tuple(elements: list[Kind]) -> Kind:
    what = f"a list of {len(elements)}"

    def load(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(elements):
            raise Unfit(value, f"is not {what}")
        return tuple(_each(value, [element.load for element in elements]))

    schema: dict[str, Any] = {
        "type": "array",
        "minItems": len(elements),
        "maxItems": len(elements),
    }
    if elements:
        schema["prefixItems"] = [element.schema for element in elements]
    return Kind(schema, load, what)


def _mapping(keys: Kind, values: Kind) -> Kind:
    def load(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Unfit(value, "is not an object")
        loaded = {}
        for name, part in value.items():
            try:
                loaded[_key(name, keys)] = values.load(part)
            except Unfit as unfit:
                raise Unfit(unfit.value, unfit.reason, f"[{name!r}]{unfit.path}") from None
            except TypeError:
                raise Unfit(name, "can't be a key") from None
        return loaded

    schema: dict[str, Any] = {"type": "object"}
    if values.schema:
        schema["additionalProperties"] = values.schema
    return Kind(schema, load, "an object")


def _key(text: str, kind: Kind) -> Any:
    """A key, which JSON has as text: the value that its text says."""
    try:
        return kind.load(text)
    except Unfit:
        for read in (int, float, {"True": True, "False": False, "None": None}.__getitem__):
            try:
                return kind.load(read(text))
            except (ValueError, KeyError, Unfit):
                continue
        raise


def _union(members: list[Kind]) -> Kind:
    if any(not member.schema for member in members):
        return ANYTHING
    # What takes any text comes after what takes some; else as it is written.
    tried = sorted(members, key=lambda member: member.late)
    what = " or ".join(member.what for member in members)
    solid = [member for member in members if member.schema != {"type": "null"}]

    def load(value: Any) -> Any:
        for member in tried:
            try:
                return member.load(value)
            except Unfit:
                continue
        if len(solid) == 1:  # Optional: what is wrong with it says more
            solid[0].load(value)
        raise Unfit(value, f"is not {what}")

    late = max(member.late for member in members)
    return Kind({"anyOf": [member.schema for member in members]}, load, what, late)
