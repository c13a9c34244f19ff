"""Text as it may travel: valid UTF-8, and not longer than is taken."""

from __future__ import annotations

LONGEST_LINE = 64 << 10  # bytes, of a log line


def clean(text: str) -> str:
    """Text without lone surrogates, which UTF-8 can't carry."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def printable(text: str) -> str:
    """Text from elsewhere without what could move a terminal's cursor."""
    return "".join(c if c.isprintable() else "·" for c in text)


def cut_line(text: str) -> str:
    """A log line as it may travel: valid UTF-8 and at most 64 KiB, with a marker where it was cut."""
    if len(text) * 4 <= LONGEST_LINE:
        return clean(text)
    data = text.encode("utf-8", "replace")
    if len(data) <= LONGEST_LINE:
        return data.decode()
    kept = data[: LONGEST_LINE - 64]
    return f"{kept.decode('utf-8', 'ignore')}… [cut, {len(data) - len(kept)} bytes]"
