"""The wheel and the sdist: what is in them, what they ask for, and that the README's commands work from them."""

from __future__ import annotations

import email.parser
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of the tree, with the dashboard as it is built, if it is."""
    copy = tmp_path_factory.mktemp("tree") / "perfect"
    copy.mkdir()
    for name in ("perfect", "examples", "tests"):
        unwanted = shutil.ignore_patterns("node_modules", "__pycache__", ".*_cache")
        shutil.copytree(ROOT / name, copy / name, ignore=unwanted)
    for path in ROOT.iterdir():
        if path.suffix in (".md", ".toml") or path.name in ("LICENSE", ".gitignore"):
            shutil.copy(path, copy)
    return copy


def _build(kind: str, tree: Path, into: Path, **environment: str) -> Path:
    """A wheel or an sdist, built in an environment of its own as pip does it."""
    done = subprocess.run(
        [sys.executable, "-m", "build", f"--{kind}", "--outdir", str(into), str(tree)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return next(path for path in into.iterdir() if path.suffix in (".whl", ".gz"))


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the clean copy, whose dashboard is built afterwards."""
    return _build("wheel", tree, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tree: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the clean copy, after the wheel."""
    return _build("sdist", tree, tmp_path_factory.mktemp("sdist"))


def _dashboard(wheel: Path) -> set[str]:
    """What a wheel has of the dashboard."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if name.startswith("perfect/server/ui/")}


@pytest.fixture
def no_node(tmp_path: Path) -> str:
    """A PATH with a shell and no Node."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "sh").symlink_to("/bin/sh")
    return str(programs)


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_the_wheel_has_everything_and_needs_nothing(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata_name = next(name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = email.parser.Parser().parsestr(archive.read(metadata_name).decode())
        entry_points = archive.read(metadata_name.replace("METADATA", "entry_points.txt")).decode()
    assert "perfect/py.typed" in names
    assert "perfect/_examples/workflows/example_flows.py" in names
    assert any(name.startswith("perfect/server/") for name in names)
    assert {"perfect/server/ui/dist/index.html", "perfect/server/ui/dist/icon.svg"} <= set(names)
    assert all(name.startswith("perfect/server/ui/dist/") for name in _dashboard(wheel))
    scripts = [name for name in _dashboard(wheel) if name.endswith(".js")]
    assert scripts and all("/dist/assets/" in name for name in scripts)
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]
    assert any(name.endswith("LICENSE") for name in names)
    assert metadata["Name"] == "perfect-client" and metadata["Requires-Python"] == ">=3.11"
    required = metadata.get_all("Requires-Dist") or []
    assert all("extra ==" in entry for entry in required), required
    assert {"server", "dask", "dev"} <= set(metadata.get_all("Provides-Extra") or [])
    assert "perfect = perfect.cli:main" in entry_points
    assert "perfect = perfect.testing" in entry_points


@pytest.mark.e2e
@pytest.mark.timeout(300)
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
    install = [str(python), "-m", "pip", "install", "-q", f"{wheel}[server]"]
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


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_building_from_the_sdist_needs_no_node(
    wheel: Path, sdist: Path, no_node: str, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert {"perfect/server/ui/src/main.tsx", "perfect/server/ui/package-lock.json"} <= names
    assert _dashboard(wheel) <= names and not [name for name in names if "node_modules" in name]
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again = _build("wheel", unpacked, tmp_path / "again", PATH=no_node)
    assert _dashboard(again) == _dashboard(wheel)
    assert not (unpacked / "perfect/server/ui/node_modules").exists()


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_a_machine_without_node_gets_it_from_pypi(
    tree: Path, wheel: Path, no_node: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, ignore=shutil.ignore_patterns("dist", "node_modules"))
    left_out = _build("wheel", copy, tmp_path / "out", PATH=no_node, PERFECT_SKIP_UI="1")
    assert _dashboard(left_out) == set()
    built = _build("wheel", copy, tmp_path / "in", PATH=no_node)
    assert _dashboard(built) == _dashboard(wheel)


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_an_editable_install_builds_once(tree: Path, wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    page = tree / "perfect" / "server" / "ui" / "dist" / "index.html"

    def installed() -> int:
        command = [str(python), "-m", "pip", "install", "-q", "--no-deps", "-e", str(tree)]
        subprocess.run(command, check=True, capture_output=True, timeout=140)
        return page.stat().st_mtime_ns

    page.unlink()
    (page.parent / ".source").unlink()
    first = installed()
    assert installed() == first
    where = "import perfect; print(perfect.__path__[0])"
    shown = subprocess.run(
        [python, "-I", "-c", where], capture_output=True, text=True, cwd=tmp_path
    )
    assert shown.stdout.strip() == str(tree / "perfect")


def test_the_dashboard_is_built_when_its_sources_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = _build_hook()
    (tmp_path / "src").mkdir()
    source = tmp_path / "src" / "main.tsx"
    for path in (source, *(tmp_path / name for name in hook._SOURCES)):
        path.write_text("as it was")
    assert hook.needs_building(tmp_path)
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / ".source").write_text(hook.source_hash(tmp_path))
    assert not hook.needs_building(tmp_path)
    os.utime(source, (1, 1))
    assert not hook.needs_building(tmp_path)
    changes: list[Callable[[], object]] = [
        lambda: source.write_text("as it is"),
        lambda: source.rename(tmp_path / "src" / "other.tsx"),
        lambda: (tmp_path / "package-lock.json").write_text("{}"),
        lambda: (tmp_path / "src" / "new.tsx").touch(),
    ]
    for change in changes:
        change()
        assert hook.needs_building(tmp_path)
        (tmp_path / "dist" / ".source").write_text(hook.source_hash(tmp_path))
    source.write_text("again")
    monkeypatch.setenv("PERFECT_SKIP_UI", "1")
    assert not hook.needs_building(tmp_path)


@pytest.mark.parametrize(
    ("version", "is_enough"),
    [
        ("v20.19.0", True),
        ("v24.1.2", True),
        ("v20.18.3", False),
        ("v18.20.0", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_a_node_that_is_too_old_is_none(
    version: str, is_enough: bool, no_node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = _build_hook()
    monkeypatch.setenv("PATH", no_node)
    assert hook.own_npm() is None
    for name in ("node", "npm"):
        program = Path(no_node, name)
        program.write_text(f"#!/bin/sh\necho '{version}'\n")
        program.chmod(0o755)
    assert hook.own_npm() == ([str(Path(no_node, "npm"))] if is_enough else None)


def _build_hook() -> Any:
    """The module, which is no part of the package."""
    path = ROOT / "perfect" / "server" / "ui" / "build_hook.py"
    spec = importlib.util.spec_from_file_location("build_hook", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readmes_commands_are_those_of_the_gate() -> None:
    readme = (ROOT / "README.md").read_text()
    assert re.search(r"^python3 -m venv .*'\.\[server\]' && .*perfect demo$", readme, re.M)
    assert re.search(r"^python3 -m venv .*'\.\[dev\]' && .* -m pytest -n 2", readme, re.M)
    assert "README.md" in (ROOT / ".ci" / "run").read_text()
