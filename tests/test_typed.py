"""Parameters as they are typed on a command line."""

from __future__ import annotations

from typing import Any

import pytest

from perfect import ConfigurationError
from perfect.typed import read_parameters

OPTIONAL = {"anyOf": [{"type": "string"}, {"type": "null"}]}


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("5", None, 5),
        ("five", None, "five"),
        ("", None, ""),
        ("a=b", None, "a=b"),
        ("NaN", None, "NaN"),
        ("[" * 100_000, None, "[" * 100_000),
        ('{"a": [1]}', None, {"a": [1]}),
        ("5", {}, 5),
        ("5", {"type": "integer"}, 5),
        ("007", {"type": "integer"}, "007"),
        ("5", {"type": "string"}, "5"),
        ("null", {"type": "string"}, "null"),
        ('"5"', {"type": "string"}, "5"),
        ("2024-01-01", {"type": "string", "format": "date"}, "2024-01-01"),
        ("90", {"type": ["string", "number"]}, 90),
        ("true", OPTIONAL, "true"),
        ("null", OPTIONAL, None),
        ("1", {"enum": ["1", "2"]}, "1"),
        ("1", {"enum": ["1", 1]}, 1),
        ("[1]", {"type": "string"}, "[1]"),
        ("1", {"$ref": "#/$defs/x"}, 1),
        ("1", {"anyOf": [{"$ref": "#/$defs/x"}, {"type": "string"}]}, 1),
    ],
)
def test_a_text_is_read_as_what_is_wanted(text: str, schema: Any, value: Any) -> None:
    whole = None if schema is None else {"properties": {"name": schema}}
    assert read_parameters([f"name={text}"], whole) == {"name": value}


def test_further_names_are_read_by_the_schema_of_those() -> None:
    assert read_parameters(["x=1"], {"additionalProperties": {"type": "string"}}) == {"x": "1"}
    assert read_parameters(["x=1"], {"additionalProperties": False}) == {"x": 1}


@pytest.mark.parametrize("text", ["name", "=5", ""])
def test_what_has_no_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not NAME=JSON"):
        read_parameters([text], None)


def test_a_name_stands_once() -> None:
    with pytest.raises(ConfigurationError, match="'a' is given twice"):
        read_parameters(["a=1", "a=2"], None)
