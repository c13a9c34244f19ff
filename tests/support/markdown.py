"""Find the Python in a Markdown document."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*)\s*$")
_HEADING = re.compile(r"^#{1,6} +(?P<text>.*?)\s*$")
_SIGNATURE = re.compile(r"^`@?(?P<call>\w+\(.*\))`$")


@dataclass(frozen=True)
class Block:
    """A fenced Python block.

    Attributes:
        source: its lines without the fences and their indentation, ending in a newline.
        line: the line in the document on which the source begins, from 1.
        heading: the text of the nearest heading above it.
        number: its place among the Python blocks under that heading, from 1.
    """

    source: str
    line: int
    heading: str
    number: int


@dataclass(frozen=True)
class Signature:
    """A heading that is a call, such as ``#### `@task(name=None)```.

    Attributes:
        call: the call without its backticks and ``@``.
        line: its line in the document, from 1.
    """

    call: str
    line: int

    @property
    def name(self) -> str:
        """What is called."""
        return self.call.partition("(")[0]


def python_blocks(path: Path) -> list[Block]:
    """The document's fenced ``python`` blocks in order.

    Raises:
        ValueError: a fence is never closed.
    """
    blocks: list[Block] = []
    heading, under_heading = "", 0
    for fenced, language, line, text in _lines(path):
        if not fenced:
            title = _HEADING.match(text)
            if title:
                heading, under_heading = title["text"], 0
        elif language == "python":
            under_heading += 1
            blocks.append(Block(text, line, heading, under_heading))
    return blocks


def signature_headings(path: Path) -> list[Signature]:
    """The document's headings that document a call."""
    found = []
    for fenced, _, line, text in _lines(path):
        title = None if fenced else _HEADING.match(text)
        call = title and _SIGNATURE.match(title["text"])
        if call:
            found.append(Signature(call["call"], line))
    return found


def _lines(path: Path) -> list[tuple[bool, str, int, str]]:
    """(fenced, language, line number, text): one entry a line outside fences, one a fenced block."""
    entries: list[tuple[bool, str, int, str]] = []
    opening: re.Match[str] | None = None
    start, body = 0, ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if opening is None and fence is None:
            entries.append((False, "", number, line))
        elif opening is None:
            opening, start, body = fence, number + 1, ""
        elif fence and not fence["language"] and fence["indent"] == opening["indent"]:
            entries.append((True, opening["language"], start, body))
            opening = None
        else:
            body += line.removeprefix(opening["indent"]) + "\n"
    if opening is not None:
        raise ValueError(f"{path.name}:{start - 1}: the fence is never closed")
    return entries
