"""Webhooks: whom to tell when a run goes wrong, and what to say."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from perfect.errors import ConfigurationError

EVENTS = ("failed", "crashed", "overrun")
# what {placeholders} may stand for
FACTS = frozenset(
    "event run flow client state reason error configuration trigger started ended duration_ms tasks link".split()
)
_DEFAULT = {
    "text": "{flow}: {event}. {reason}",
    "event": "{event}",
    "run": "{run}",
    "flow": "{flow}",
    "state": "{state}",
    "reason": "{reason}",
    "error": "{error}",
    "configuration": "{configuration}",
    "started": "{started}",
    "ended": "{ended}",
    "durationMs": "{duration_ms}",
    "link": "{link}",
}
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_HEADER = re.compile(r"[A-Za-z0-9-]+")


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """One receiver.

    Attributes:
        url: where to POST; http or https.
        name: how it is called in lists, and found again after a restart; made from the URL when empty.
        events: "failed" (the client said so), "crashed" (it fell silent), "overrun" (takes unusually long).
        flows: pattern of the names of the flows it is about, like ``etl-*``.
        minutes: a run that takes longer overruns; None for the mean of the flow's runs plus 3.3 standard
            deviations (5 while there are fewer than 20 runs).
        template: JSON in whose texts ``{placeholders}`` are replaced by facts of the run.
        headers: sent along; for a secret.
        allow_private: it may be an address of this machine or network.
        ca: path of a PEM file with certificates that are trusted beside the system's, for receivers of one's own.
    """

    url: str = field(repr=False)
    name: str = ""
    events: tuple[str, ...] = EVENTS
    flows: str = "*"
    minutes: float | None = None
    template: Any = field(default_factory=lambda: _DEFAULT)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    allow_private: bool = False
    ca: str = ""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            _ = parts.port
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            # an address may hold a secret: it is not shown
            raise ConfigurationError("webhook", "…", "its url is not like https://host/path")
        if not self.name:
            digest = hashlib.sha256(self.url.encode()).hexdigest()[:8]
            object.__setattr__(self, "name", f"{parts.hostname}-{digest}")
        unknown = set(self.events) - set(EVENTS)
        if unknown or not self.events:
            self._refuse("events", self.events, f"are some of {', '.join(EVENTS)}")
        if self.minutes is not None and not (
            isinstance(self.minutes, int | float) and self.minutes > 0
        ):
            self._refuse("minutes", self.minutes, "is not a positive number")
        for name, value in self.headers.items():
            if not _HEADER.fullmatch(name) or not (value.isascii() and value.isprintable()):
                self._refuse("headers", name, "is not a header with one line of ASCII text")
        if self.ca:
            try:
                trust(self.ca)
            except OSError as error:
                self._refuse("ca", self.ca, f"is not a file of certificates: {error}")
        strange = sorted(set(_placeholders(self.template)) - FACTS)
        if strange:
            self._refuse(
                "template", f"{{{strange[0]}}}", f"is not one of {', '.join(sorted(FACTS))}"
            )

    def wants(self, event: str, flow: str) -> bool:
        """Whether it is to be told of that event of that flow."""
        return event in self.events and fnmatchcase(flow, self.flows)

    def body(self, facts: Mapping[str, Any]) -> str:
        """What to send: the template as JSON, with the facts in place of the placeholders."""
        return json.dumps(_filled(self.template, facts), ensure_ascii=False)

    def _refuse(self, field_name: str, value: Any, why: str) -> None:
        raise ConfigurationError(f"webhook {self.name}: {field_name}", value, why)


def trust(ca: str) -> ssl.SSLContext:
    """How the certificate of a receiver is checked.

    Args:
        ca: path of a PEM file with further certificates that are trusted, or "".

    Raises:
        OSError: it can't be read, or holds none.
    """
    context = ssl.create_default_context()
    if ca:
        context.load_verify_locations(ca)
    return context


def load(path: Path) -> tuple[str, tuple[Webhook, ...]]:
    """The address of the page and the webhooks of a file.

    Args:
        path: TOML with ``public_url`` and tables ``[[webhook]]``.

    Raises:
        ConfigurationError: it can't be read, or something in it is wrong.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError("config", str(path), error.strerror or str(error)) from error
    except ValueError as error:
        raise ConfigurationError("config", str(path), f"is not TOML: {error}") from error
    public_url = found.pop("public_url", "")
    tables = found.pop("webhook", [])
    if found:
        raise ConfigurationError(
            "config", sorted(found)[0], "is neither public_url nor [[webhook]]"
        )
    if not isinstance(public_url, str) or not isinstance(tables, list):
        raise ConfigurationError("config", str(path), "public_url is a text, [[webhook]] a list")
    return public_url, tuple(_of_table(table) for table in tables)


def _of_table(table: Any) -> Webhook:
    types = {
        "url": str,
        "name": str,
        "events": list,
        "flows": str,
        "minutes": (int, float),
        "template": (str, dict),
        "headers": dict,
        "allow_private": bool,
        "ca": str,
    }
    assert set(types) == {one.name for one in fields(Webhook)}
    if not isinstance(table, dict) or "url" not in table:
        raise ConfigurationError("webhook", "…", "needs a url")
    for name, value in table.items():
        if name not in types:
            raise ConfigurationError("webhook", name, f"is not one of {', '.join(types)}")
        if not isinstance(value, types[name]):  # type: ignore[arg-type]  # a type or several
            raise ConfigurationError(f"webhook {name}", "…", "is of the wrong type")
    given = dict(table)
    if "events" in given:
        given["events"] = tuple(str(event) for event in given["events"])
    if "headers" in given:
        given["headers"] = {name: str(value) for name, value in given["headers"].items()}
    if isinstance(template := given.get("template"), str):
        try:
            given["template"] = json.loads(template)
        except ValueError as error:
            raise ConfigurationError("webhook template", "…", f"is not JSON: {error}") from error
    return Webhook(**given)


def _placeholders(value: Any) -> list[str]:
    if isinstance(value, str):
        return _PLACEHOLDER.findall(value)
    if isinstance(value, dict):
        return [name for part in (*value, *value.values()) for name in _placeholders(part)]
    if isinstance(value, list):
        return [name for part in value for name in _placeholders(part)]
    return []


def _filled(value: Any, facts: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        whole = _PLACEHOLDER.fullmatch(value)
        if whole:  # nothing but a placeholder: a number stays a number
            return facts[whole[1]]
        return _PLACEHOLDER.sub(lambda found: _text(facts[found[1]]), value)
    if isinstance(value, dict):
        return {_text(_filled(name, facts)): _filled(part, facts) for name, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, facts) for part in value]
    return value


def _text(fact: Any) -> str:
    return "" if fact is None else str(fact)
