"""The pages that need no script, and reports: everything a client sent is escaped."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, Undefined
from starlette.responses import HTMLResponse

_COLUMNS = 50
# CSI (colours, cursor), OSC (titles, links) and two-byte sequences
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CELL = 1_000

ICONS = {
    "PENDING": "○",
    "RUNNING": "▶",
    "RETRYING": "↻",
    "COMPLETED": "✔",
    "FAILED": "✖",
    "SKIPPED": "⤼",
    "CANCELLED": "⊘",
}


def lasting(milliseconds: int | float | None) -> str:
    """A duration as people read it."""
    if milliseconds is None:
        return "–"
    if milliseconds < 1_000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1_000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def moment(iso: str | None) -> str:
    """A time as people read it, in UTC."""
    return "–" if iso is None else f"{iso[:10]} {iso[11:19]}"


def columns(table: Any) -> list[str]:
    """The columns of a result's table, in order of appearance."""
    found: dict[str, None] = {}
    for row in rows(table):
        found.update(dict.fromkeys(row))
    return list(found)[:_COLUMNS]


def rows(table: Any) -> list[dict[str, Any]]:
    """The rows of a result's table; whatever is none is left out."""
    return [row for row in table if isinstance(row, dict)] if isinstance(table, list) else []


def cell(value: Any) -> str:
    """A value in a table."""
    if value is None or isinstance(value, Undefined):
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _CELL else f"{text[:_CELL]}…"


def as_json(value: Any) -> str:
    """A value as indented JSON, to be escaped like any text."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def plain(text: str) -> str:
    """A log line without the escape sequences that move a terminal's cursor or colour its text (ECMA-48)."""
    return _ESCAPES.sub("", text) if "\x1b" in text else text


environment = Environment(
    loader=PackageLoader("perfect.server.pages", "."),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.globals["icons"] = ICONS
environment.filters |= {
    "lasting": lasting,
    "moment": moment,
    "columns": columns,
    "rows": rows,
    "cell": cell,
    "plain": plain,
    "tojson_text": as_json,
}


def render(template: str, **values: Any) -> HTMLResponse:
    """A page."""
    return HTMLResponse(environment.get_template(template).render(values))


def style() -> str:
    """The style sheet of all pages and reports."""
    return files(__name__).joinpath("style.css").read_text("utf-8")
