"""What the pages make of text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from perfect.server import pages
from perfect.server.pages import environment, plain, style


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


def test_pages_without_a_script_have_the_colours_of_the_dashboard_in_both_schemes() -> None:
    def schemes(css: str) -> list[dict[str, str]]:
        """The colours of both, dark first."""
        roots = re.findall(r":root\s*{(.*?)}", css, re.DOTALL)
        return [dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", root)) for root in roots]

    dashboard = Path(pages.__file__).parents[1] / "ui" / "src" / "styles.css"
    dark, light = schemes(style())
    for ours, theirs in zip((dark, light), schemes(dashboard.read_text()), strict=False):
        assert len(ours) >= 10
        assert ours == {name: theirs[name] for name in ours}
    assert "prefers-color-scheme: light" in style()
