"""Keeps secrets out of what is reported: their values, and what looks like one.

Applied by the sender before anything leaves memory for disk or network. The terminal still shows what was printed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

MASK = "********"
CUT = "… [cut"  # begins the marker where text was cut, perhaps in the middle of a secret
SHORTEST = 4  # characters; a shorter secret would mask half of every text, so only `Secret` itself hides it

_NAMES = "password|passwd|pwd|secret|token|api[-_]?key|access[-_]?key|private[-_]?key"

# What is masked without being told: the value after the name of a secret, credentials in headers,
# passwords in URLs, and keys of well-known shapes. Group 1, where there is one, is kept. Every
# repetition that can begin anywhere is bounded: a line of a megabyte must not take minutes.
DEFAULT_PATTERNS = (
    rf"(?i)((?:{_NAMES})\\?[\"']?\s*[=:]\s*\\?[\"']?)"
    r"(?:(?<=[^\\]\")(?:[^\"\\]|\\.)+|(?<=[^\\]')(?:[^'\\]|\\.)+|[^\s\"',;&)}\]]+)",
    r"(?i)(\bauthorization\\?[\"']?\s*[=:]\s*\\?[\"']?(?:[a-z]{1,20}\s+)?)[^\s\"',;]+",
    r"(?i)(\bbearer\s+)[a-z0-9._~+/=-]{8,}",
    r"(?i)(\b[a-z][a-z0-9+.-]{0,30}://[^\s/:@]{0,200}:)[^\s/@]+(?=@)",
    r"\bAKIA[0-9A-Z]{16}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{36,}\b",
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|$)",
)
# One of these stands, in lower case, in every text that a default pattern matches: most lines are
# settled by a look.
_HINTS = ("passw", "pwd", "secret", "token", "key", "authoriz", "bearer", "://", "akia", "gh")
_SECRET_NAME = re.compile(rf"(?i)(?:^|[-_.])(?:{_NAMES})$")

# What in a JSON Schema has schemas by names; and what are values: those under the name of a secret are masked whole.
_OF_NAMES = ("properties", "$defs")
_OF_VALUES = ("default", "examples", "const", "enum")

_values: set[str] = set()
_values_lock = threading.Lock()


def hides(name: str) -> bool:
    """Whether what goes by this name is masked, whatever it is: ``db_password``, ``api-key``."""
    return _SECRET_NAME.search(name) is not None


class Secret:
    """A value that is never shown: ``Secret(os.environ["DB_PASSWORD"])``.

    `str` and `repr` give a mask; `get` gives the value. From its making on, the value is also masked in
    every log line, parameter, result and traceback that is reported.

    Args:
        value: the text to keep secret.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"a Secret holds text, not {type(value).__name__}")
        self._value = value
        with _values_lock:
            _values.update(_forms(value))

    def get(self) -> str:
        """The value itself."""
        return self._value

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret('{MASK}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def _forms(value: str) -> set[str]:
    """A secret as it may stand in a text: itself, one of its lines, and as `repr` and JSON write it."""
    forms = {value, repr(value)[1:-1], encode_basestring(value)[1:-1]}
    forms.add(encode_basestring_ascii(value)[1:-1])
    lines = value.splitlines()
    if len(lines) > 1:  # a printed key is several lines; a line of a bracket is none of its secrets
        forms.update(line for line in map(str.strip, lines) if len(line) >= 2 * SHORTEST)
    return {form for form in forms if len(form) >= SHORTEST}


class Redactor:
    """Masks secrets in text and in JSON data.

    Args:
        patterns: regular expressions, in place of `DEFAULT_PATTERNS`.
    """

    def __init__(self, patterns: Iterable[str] | None = None) -> None:
        self._default = patterns is None
        chosen = DEFAULT_PATTERNS if patterns is None else tuple(patterns)
        self._patterns = [re.compile(pattern) for pattern in chosen]
        self._known: frozenset[str] = frozenset()
        self._known_pattern: re.Pattern[str] | None = None

    def redact_text(self, text: str) -> str:
        """The text with every secret in it masked."""
        if len(_values) != len(self._known):
            self._learn()
        if self._known_pattern is not None:
            text = self._known_pattern.sub(MASK, text)
            if CUT in text:
                text = self._mask_cut(text)
        if self._default:
            lowered = text.lower()
            for hint in _HINTS:
                if hint in lowered:
                    break
            else:
                return text
        for pattern in self._patterns:
            text = pattern.sub(_masked, text)
        return text

    def redact(self, value: Any) -> Any:
        """JSON data with every secret in it masked: in texts, and whole under the name of a secret."""
        if type(value) is str:
            return self.redact_text(value) if len(value) >= SHORTEST else value
        if type(value) is dict:
            return {
                self.redact_text(key): (
                    MASK
                    if entry is not None and entry != "" and _SECRET_NAME.search(key)
                    else self.redact(entry)
                )
                for key, entry in value.items()
            }
        if type(value) is list:
            return [self.redact(entry) for entry in value]
        return value

    def redact_schema(self, schema: Any) -> Any:
        """A JSON Schema with every secret in it masked, and still a schema: names are names there."""
        if type(schema) is list:
            return [self.redact_schema(part) for part in schema]
        if type(schema) is not dict:
            return self.redact_text(schema) if type(schema) is str else schema
        redacted: dict[str, Any] = {}
        for key, part in schema.items():
            if key in _OF_NAMES and type(part) is dict:
                redacted[key] = {name: self.redact_schema(one) for name, one in part.items()}
            else:
                redacted[key] = (self.redact if key in _OF_VALUES else self.redact_schema)(part)
        return redacted

    def redact_flow(self, flow: dict[str, Any]) -> dict[str, Any]:
        """A flow's registration body with every secret in it masked."""
        schema = flow.get("parameters")
        if type(schema) is not dict:
            redacted: dict[str, Any] = self.redact(flow)
            return redacted
        return {
            **self.redact({**flow, "parameters": None}),
            "parameters": self.redact_schema(schema),
        }

    def _mask_cut(self, text: str) -> str:
        """Mask the beginning of a secret at a cut that went through it."""
        kept, marker, rest = text.partition(CUT)
        for value in self._known:
            for size in range(min(len(value) - 1, len(kept)), SHORTEST - 1, -1):
                if kept.endswith(value[:size]):
                    kept = kept[:-size] + MASK
                    break
        return kept + marker + rest

    def _learn(self) -> None:
        with _values_lock:
            self._known = frozenset(_values)
        # Longest first, so that a secret that holds another is masked whole.
        ordered = sorted(self._known, key=len, reverse=True)
        self._known_pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None


def _masked(match: re.Match[str]) -> str:
    return (match.group(1) if match.re.groups else "") + MASK
