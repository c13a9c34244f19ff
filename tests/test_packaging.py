"""The wheel: what is in it, what it asks for, and that the README's commands work from it."""

from __future__ import annotations

import email.parser
import os
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The wheel of a clean copy of the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=110,
    )
    yield next(folder.glob("*.whl"))


@pytest.mark.e2e
def test_the_wheel_has_everything_and_needs_nothing(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata_name = next(name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = email.parser.Parser().parsestr(archive.read(metadata_name).decode())
        entry_points = archive.read(metadata_name.replace("METADATA", "entry_points.txt")).decode()
    assert "perfect/py.typed" in names
    assert "perfect/_examples/workflows/example_flows.py" in names
    assert any(name.startswith("perfect/server/") for name in names)
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]
    assert any(name.endswith("LICENSE") for name in names)
    assert metadata["Name"] == "perfect-client" and metadata["Requires-Python"] == ">=3.11"
    required = metadata.get_all("Requires-Dist") or []
    assert all("extra ==" in entry for entry in required), required
    assert {"server", "dask", "dev"} <= set(metadata.get_all("Provides-Extra") or [])
    assert "perfect = perfect.cli:main" in entry_points
    assert "perfect = perfect.testing" in entry_points


@pytest.mark.e2e
def test_the_wheel_alone_runs_a_flow(wheel: Path, tmp_path: Path) -> None:
    """A virtual environment with nothing in it but the client."""
    venv.create(tmp_path / "venv")
    site = next((tmp_path / "venv" / "lib").glob("python*")) / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    python = tmp_path / "venv" / "bin" / "python"
    script = (
        "from perfect import configure, flow, task\n"
        "configure(mock=True)\n"
        "one = task(lambda: 1, )\n"
        "print(flow(name='alone')(lambda: one())())\n"
    )
    done = subprocess.run(
        [python, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
    refused = subprocess.run(
        [python, "-m", "perfect", "server"], capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 1
    assert "pip install 'perfect-client[server]'" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_the_demo_runs_from_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    """What the README's first command does, in an empty environment and without keeping serving."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", f"{wheel}[server]"]
    subprocess.run(install, check=True, capture_output=True, timeout=280)
    environment = {**os.environ, "PERFECT_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "perfect", "demo", "--once", "--port", "0", "--no-browser"],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"✓ COMPLETED .* http://localhost:\d+/runs/[0-9a-f-]{36}", done.stdout)
    assert len(rows) == 4, done.stdout
    assert (tmp_path / "home" / "perfect.db").exists()


def test_the_readmes_commands_are_those_of_the_gate() -> None:
    readme = (ROOT / "README.md").read_text()
    assert re.search(r"^python3 -m venv .*'\.\[server\]' && .*perfect demo$", readme, re.M)
    assert re.search(r"^python3 -m venv .*'\.\[dev\]' && .* -m pytest$", readme, re.M)
    assert "README.md" in (ROOT / ".ci" / "run").read_text()
