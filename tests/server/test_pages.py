"""What the pages make of text."""

from __future__ import annotations

import pytest

from perfect.server.pages import environment, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m and \x1b[38;5;12mblue\x1b[m", "red and blue"),
        ("\x1b]8;;http://127.0.0.1/\x07link\x1b]8;;\x07", "link"),
        ("\x1b[2K\x1b[1Amoved", "moved"),
        ("\x1b[1m<b>", "<b>"),
    ],
)
def test_escape_sequences_of_terminals_are_not_shown(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_what_is_left_is_still_escaped() -> None:
    template = environment.from_string("{{ line | plain }}")
    assert template.render(line="\x1b[1m<script>") == "&lt;script&gt;"
