"""An ``async def`` flow: its tasks wait for other programs side by side, under ``asyncio.gather``.

Run it: ``python examples/async_flow.py``. The tasks overlap in time, and each is a task run with its
own lines; nothing but ``async`` and ``await`` differs from a flow of plain functions.
"""

from __future__ import annotations

import asyncio
import sys

from perfect.sdk import flow, task

QUESTIONS = {
    "Python": "import platform; print(platform.python_version())",
    "SQLite": "import sqlite3; print(sqlite3.sqlite_version)",
    "zlib": "import zlib; print(zlib.ZLIB_RUNTIME_VERSION)",
}


@task(estimated_time=200)
async def ask(name: str, code: str) -> str:
    """Run a Python program and return what it prints"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the program for {name} ended with exit code {process.returncode}")
    version = output.decode().strip()
    print(f"{name} {version}")
    return version


@task(estimated_time=10)
def summarise(versions: dict[str, str]) -> str:
    """Put the answers into one line"""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


@flow(name="Version Survey", tags={"example": "async"})
async def version_survey() -> str:
    """Ask three programs at once, then put the answers together"""
    answers = await asyncio.gather(*(ask(name, code) for name, code in QUESTIONS.items()))
    return summarise(dict(zip(QUESTIONS, answers, strict=True)))  # plain tasks work here as well


if __name__ == "__main__":
    print(asyncio.run(version_survey()))
