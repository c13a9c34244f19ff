"""Values as bytes that are the same in every process, and differ when the values do.

Each value is its type's name and its parts, with their lengths: ``int[3:0x1]``. Two values of different
types never look alike, so 1, 1.0, True and "1" are four. Only values that are known whole are taken: an object
may hold what its ``repr`` does not show, and its address says nothing in another process.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable
from enum import Enum
from functools import cached_property, partial
from typing import Any

from perfect.plain import Unfit, kind_of

_ATOMS: dict[type, Callable[[Any], str]] = {
    type(None): str,
    type(...): str,
    type(NotImplemented): str,
    bool: str,
    int: hex,  # no limit of digits
    float: float.hex,
    complex: lambda value: f"{value.real.hex()} {value.imag.hex()}",
    str: str,
    bytes: bytes.hex,
    range: repr,
}
# Of libraries that are not loaded for this: whoever has such a value has loaded them.
_LIBRARY: dict[tuple[str, str], Callable[[Any], object]] = {
    ("datetime", "date"): lambda value: value.isoformat(),
    ("datetime", "time"): lambda value: (_naive(value), value.fold, _zone(value)),
    ("datetime", "datetime"): lambda value: (_naive(value), value.fold, _zone(value)),
    ("datetime", "timedelta"): lambda value: (value.days, value.seconds, value.microseconds),
    ("decimal", "Decimal"): str,
    ("fractions", "Fraction"): lambda value: (value.numerator, value.denominator),
    ("uuid", "UUID"): lambda value: value.int,
    **{
        ("pathlib", name): str
        for name in ("PurePosixPath", "PosixPath", "PureWindowsPath", "WindowsPath", "PurePath")
    },
}


# A class with fields may be one of these, too; then the fields are not all.
_CONTENTS = (int, float, complex, str, bytes, bytearray, list, dict, set, frozenset, BaseException)


def canonical(value: Any, above: tuple[int, ...] = ()) -> bytes:
    """The bytes of a value.

    Taken are None, bool, numbers, text, bytes, lists, tuples, dicts and sets (in any order), enum members,
    dataclasses, named tuples, slices, ranges, dates and times, Decimal, Fraction, UUID, paths, modules and
    classes (by name), functions (by name and code) and partials.

    Raises:
        Unfit: it is, or holds, something else, or itself.
    """
    kind = type(value)
    atom = _ATOMS.get(kind)
    if atom is not None:
        return tagged(kind.__name__, atom(value).encode("utf-8", "surrogatepass"))
    if id(value) in above:
        if kind is types.FunctionType:  # one that calls itself, by its closure
            return tagged("again", str(above.index(id(value))).encode())
        raise Unfit(value, "it contains itself")
    above = (*above, id(value))
    if kind is list or kind is tuple:
        return tagged(kind.__name__, *_parts(enumerate(value), above))
    if kind is dict:
        keys = (_part(f".keys()[{place}]", key, above) for place, key in enumerate(value))
        pairs = zip(keys, _parts(value.items(), above), strict=True)
        return tagged("dict", *(part for pair in sorted(pairs) for part in pair))
    if kind is set or kind is frozenset:
        return tagged(kind.__name__, *sorted(canonical(entry, above) for entry in value))
    if kind is slice:
        return tagged("slice", canonical((value.start, value.stop, value.step), above))
    if kind is types.FunctionType:
        return _function(value, above)
    if kind is types.CodeType:
        return code_of(value, above)
    if kind is types.ModuleType:
        return tagged("module", value.__name__.encode())
    if issubclass(kind, type) or kind is types.BuiltinFunctionType:
        return tagged("name", _importable(value))
    if kind is types.MethodType:
        return tagged("method", *_members(value, ("__self__", "__func__"), above))
    if kind is partial:
        return tagged("partial", *_members(value, ("func", "args", "keywords"), above))
    return _instance(value, kind, above)


def _instance(value: Any, kind: type, above: tuple[int, ...]) -> bytes:
    if issubclass(kind, Enum):
        # What combines flags may have no name.
        return tagged("enum", _importable(kind), canonical(value._name_ or value._value_, above))
    module = kind.__module__.partition(".")[0]  # Python 3.13 has pathlib._local
    facts = _LIBRARY.get((module, kind.__name__))
    if facts is not None and getattr(sys.modules.get(module), kind.__name__, None) is kind:
        return tagged(kind.__name__, canonical(facts(value), above))
    names = _field_names(kind)
    if names is None:
        raise Unfit(value, f"a {kind_of(value)} can't be told from another one by its value")
    names |= {
        name
        for name in getattr(value, "__dict__", ())
        if not isinstance(getattr(kind, name, None), cached_property)
    }
    found = sorted(name for name in names if hasattr(value, name))
    parts = zip((name.encode() for name in found), _members(value, found, above), strict=True)
    return tagged("object", _importable(kind), *(part for pair in parts for part in pair))


def _field_names(kind: type) -> set[str] | None:
    """The fields of a named tuple or a dataclass; None if they are not all that its objects hold."""
    if issubclass(kind, tuple):
        names = getattr(kind, "_fields", None)
        return set(names) if isinstance(names, tuple) else None
    if not hasattr(kind, "__dataclass_fields__") or issubclass(kind, _CONTENTS):
        return None
    return {field.name for field in sys.modules["dataclasses"].fields(kind)}


def tagged(tag: str, *parts: bytes) -> bytes:
    """Parts under a tag, such that no other tag and parts give the same."""
    return b"%b[%b]" % (tag.encode(), b"".join(b"%d:%b" % (len(part), part) for part in parts))


def _part(step: str, value: Any, above: tuple[int, ...]) -> bytes:
    try:
        return canonical(value, above)
    except Unfit as unfit:
        unfit.within(step)
        raise


def _parts(entries: Iterable[tuple[Any, Any]], above: tuple[int, ...]) -> list[bytes]:
    return [_part(f"[{step!r}]", value, above) for step, value in entries]


def _members(value: Any, names: Iterable[str], above: tuple[int, ...]) -> list[bytes]:
    return [_part(f".{name}", getattr(value, name), above) for name in names]


def _function(function: types.FunctionType, above: tuple[int, ...]) -> bytes:
    return tagged(
        "function",
        name_of(function).encode(),
        code_of(function.__code__, above),
        *_members(function, ("__defaults__", "__kwdefaults__"), above),
        closure_of(function, above),
    )


def code_of(code: types.CodeType, above: tuple[int, ...] = ()) -> bytes:
    """What a function does, without where it is written: it may move in its file."""
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return tagged(
        f"code {sys.implementation.cache_tag}",  # bytecode of another Python means something else
        code.co_code,
        code.co_exceptiontable,
        canonical((counts, names), above),
        canonical(code.co_consts, above),
    )


def closure_of(function: types.FunctionType, above: tuple[int, ...] = ()) -> bytes:
    """The values that a function has from the functions around it."""
    parts = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        parts += [name.encode(), _part(f".__closure__[{name!r}]", value, above)]
    return tagged("closure", *parts)


def name_of(thing: Any) -> str:
    """Module and qualified name of a function or class."""
    module = getattr(thing, "__module__", None)
    # Where multiprocessing spawns, the main module goes by another name.
    module = "__main__" if module == "__mp_main__" else module
    return f"{module}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def _importable(thing: Any) -> bytes:
    """The name of a class or built-in function, under which another process finds it."""
    found: Any = sys.modules.get(thing.__module__ or "")
    for step in thing.__qualname__.split("."):
        found = getattr(found, step, None)
    if found is not thing:
        raise Unfit(thing, f"{name_of(thing)} can't be imported by its name")
    return name_of(thing).encode()


def _naive(value: Any) -> str:
    return str(value.replace(tzinfo=None, fold=0).isoformat())


def _zone(value: Any) -> object:
    zone = value.tzinfo
    if zone is None:
        return None
    kind = type(zone)
    if kind.__module__ == "datetime":  # a fixed distance from UTC
        return (str(zone), zone.utcoffset(None))
    key = getattr(zone, "key", None)
    if kind.__module__.partition(".")[0] == "zoneinfo" and isinstance(key, str):
        return key
    raise Unfit(zone, f"a {kind_of(zone)} can't be told from another one by its value")
