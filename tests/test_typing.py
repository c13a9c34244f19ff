"""What type checkers see: the cases of typing_cases.py hold under ``mypy --strict``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def mypy(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), *arguments],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=110,
    )


def test_the_cases_hold_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    """One run of mypy for both: it is the slowest test of the client."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from typing import assert_type\n"
        "from tests.typing_cases import bare\n"
        "assert_type(bare(1), str)\n"
    )
    done = mypy(tmp_path / "cache", "tests/typing_cases.py", str(wrong))
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1 and "wrong.py:3" in errors[0], done.stdout + done.stderr


@pytest.mark.parametrize("file", ["py.typed"])
def test_the_package_says_that_it_is_typed(file: str) -> None:
    import perfect

    assert (Path(perfect.__file__).parent / file).exists()
