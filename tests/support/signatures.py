"""Compare what a document says a callable takes with what it takes."""

from __future__ import annotations

import __future__

import ast
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter, Signature
from typing import Any

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
# A signature on lines of its own: indentation, call, what is returned.
_BARE = re.compile(r"(?m)^( *)(?:def )?(\w+\([^()]*\)(?: -> .+)?)$")


def assert_takes(
    actual: Callable[..., Any],
    documented: str,
    method: bool = False,
    names: Mapping[str, Any] | None = None,
) -> None:
    """Assert that a callable has the documented parameters, their defaults, and no other duties.

    Args:
        documented: a call such as ``f(a, b: int, c=1)``.
        method: the parameters must also stand in the documented order, after self.
        names: what the defaults are made of.
    """
    arguments = {
        name: parameter.default
        for name, parameter in _signature(documented, names or {}).parameters.items()
    }
    found = dict(inspect.signature(actual).parameters)
    if method:
        found.pop("self")
        assert list(found)[: len(arguments)] == list(arguments)
    for name, default in arguments.items():
        assert name in found, f"{documented}: {name} is missing"
        if default is not Parameter.empty:
            assert found[name].default == default, f"{documented}: {name}"
        assert name == "self" or found[name].kind is not Parameter.POSITIONAL_ONLY
    for name in found.keys() - arguments.keys():
        optional = found[name].default is not Parameter.empty
        variable = found[name].kind in _VARIABLE
        assert optional or variable, f"{documented}: {name} must be given too"


def assert_signature(actual: Callable[..., Any], documented: str, names: Mapping[str, Any]) -> None:
    """Assert that every call which the documented signature allows is allowed, with values of its types.

    Args:
        documented: a signature such as ``f(self, a: int = 1, *, b: Optional[str] = None) -> bool``.
        names: what annotations and defaults are made of, the document's and the code's.
    """
    assert_takes(actual, documented, names=names)
    wanted = _signature(documented, names)
    found = inspect.signature(actual)
    in_order = [name for name, one in wanted.parameters.items() if one.kind in _BY_POSITION]
    takes = [name for name, one in found.parameters.items() if one.kind in _BY_POSITION]
    assert takes[: len(in_order)] == in_order, f"{documented}: the order is {takes}"

    hints = typing.get_type_hints(inspect.unwrap(actual), localns=dict(names))
    for name, one in wanted.parameters.items():
        if one.annotation is not Parameter.empty:
            for kind in _kinds(eval(one.annotation, dict(names))):
                assert _among(kind, hints[name]), f"{documented}: {name} is a {hints[name]}"
    if wanted.return_annotation is not Signature.empty:
        returned = eval(wanted.return_annotation, dict(names))
        if isinstance(returned, str):  # in quotes, being the class that is described
            returned = names[returned]
        assert any(_among(kind, hints["return"]) for kind in _kinds(returned)), documented


def signatures(source: str) -> list[tuple[str, str]]:
    """The (dotted name, signature) of each function in a block of signatures, which have no bodies."""
    found: list[tuple[str, str]] = []

    def gather(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                gather(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                returned = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
                text = f"{node.name}({ast.unparse(node.args)}){returned}"
                found.append((prefix + node.name, text))

    gather(ast.parse(_BARE.sub(r"\1def \2: ...", source)).body, "")
    return found


def _signature(documented: str, names: Mapping[str, Any]) -> Signature:
    """A documented call as inspect shows it, annotations as text."""
    scope = dict(names)
    code = compile(
        f"def {documented}: ...",
        "<document>",
        "exec",
        flags=__future__.annotations.compiler_flag,
        dont_inherit=True,
    )
    exec(code, scope)
    return inspect.signature(scope[documented.partition("(")[0]])


def _among(kind: Any, annotation: Any) -> bool:
    """Whether a type is one of those of an annotation, or a narrower one."""
    return any(
        wide in (Any, typing.Self) or wide is kind or _narrower(kind, wide)
        for wide in _kinds(annotation)
    )


def _narrower(kind: Any, wide: Any) -> bool:
    try:
        return issubclass(kind, wide) or (kind, wide) == (int, float)
    except TypeError:  # one of them is no class: Any, a type variable
        return False


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types in a union, without what stands in brackets behind them."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for part in typing.get_args(annotation):
            yield from _kinds(part)
    else:
        yield type(None) if annotation is None else typing.get_origin(annotation) or annotation
