"""A disk that is full, read-only, missing or not ours never blocks or fails a flow."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perfect.spool import spools
from tests.support.backend import BackendProcess
from tests.support.processes import Script, await_line, tell

pytestmark = pytest.mark.e2e

Figures = Callable[..., None]
Write = Callable[..., Script]

OFFLINE = """
    configure(flush_timeout=1, memory_limit=64 * 1024)

    @task
    def step(number):
        print("line", number, "x" * 50)
        return number

    @flow(name="offline")
    def offline():
        return sum(step(number) for number in range(steps))

    steps = int(sys.argv[1])
    began = time.monotonic()
    assert offline() == steps * (steps - 1) // 2
    print("took", time.monotonic() - began)
    sys.stdout.flush()
    sys.stdin.readline()
"""


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount tiny file systems, where that is allowed."""
    folders: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"mounted-{len(folders)}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"no file system of one's own to be had here: {done.stderr.strip()}")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def run_offline(
    write_script: Write, absent: BackendProcess, home: Path, steps: int
) -> tuple[float, str]:
    """How long the flow took, and what the process said; it ends well whatever the disk does."""
    script = write_script("offline", OFFLINE, backend_url=absent.url, home=str(home))
    with script.started(steps) as process:
        took = float(await_line(process, "took").split()[1])
        tell(process, "")
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said
    assert "Traceback" not in said
    return took, said


@pytest.fixture
def usual(write_script: Write, absent: BackendProcess, tmp_path: Path) -> float:
    """s that the flow takes where the disk is in order."""
    return run_offline(write_script, absent, tmp_path / "usual", 300)[0]


@pytest.mark.parametrize(
    "kind", ["a file in its place", "a folder that can't be made", "read-only", "full"]
)
def test_a_home_that_can_not_be_written(
    write_script: Write,
    absent: BackendProcess,
    tmp_path: Path,
    mounted: Callable[[str], Path],
    usual: float,
    figures: Figures,
    kind: str,
) -> None:
    home = tmp_path / "the-home"
    if kind == "a file in its place":
        home.write_text("a file")
    elif kind == "a folder that can't be made":
        home = Path("/proc/no/such/folder")
    elif kind == "read-only":
        home = mounted("ro,size=1m")
    else:
        home = mounted("size=64k")
        (home / "filler").write_bytes(b"x" * 60_000)
    took, said = run_offline(write_script, absent, home, 300)
    assert took < usual + 1
    assert said.count("can't be kept on disk") == 1
    assert "events are lost" in said
    figures(kind=kind, tasks=300, seconds_usual=usual, seconds_here=took)


def test_a_disk_that_fills_up_while_a_run_goes_on(
    write_script: Write, absent: BackendProcess, mounted: Callable[[str], Path], figures: Figures
) -> None:
    """What was written before stays, what fits into memory is delivered when the backend comes, and the rest is counted."""
    home = mounted("size=400k")
    steps = 4000
    script = write_script("offline", OFFLINE, backend_url=absent.url, home=str(home))
    with script.started(steps) as process:
        await_line(process, "took")
        with absent:
            absent.wait_for_run(lambda run: run["state"] == "COMPLETED")
            tell(process, "")
            _, said = process.communicate(timeout=30)
            assert process.returncode == 0, said
            (run,) = absent.runs()
            run = absent.get(f"/api/runs/{run['id']}")
            lines = absent.lines(run["id"])
    assert "Traceback" not in said and "can't be kept on disk" in said
    markers = [line for line in lines if "lines given up" in line]
    shown = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    assert shown == sorted(set(shown)), "in order, and each once"
    missing = steps - len(shown)
    counted = sum(int(line.split("[")[1].split()[0]) for line in markers)
    assert missing == counted > 0
    figures(tasks=steps, lines=len(shown), lines_given_up=counted, markers=len(markers))


def test_a_home_without_room_keeps_the_end_of_the_run_and_counts_the_lines_given_up(
    write_script: Write, absent: BackendProcess, tmp_path: Path, figures: Figures
) -> None:
    """64 KiB of memory and no disk: progress goes first, then the oldest lines; facts stay."""
    home = tmp_path / "the-home"
    home.write_text("a file")
    steps = 3000
    script = write_script(
        "shedding",
        """
        configure(flush_timeout=20, memory_limit=64 * 1024)

        @flow(name="shedding")
        def shedding():
            for number in range(int(sys.argv[1])):
                print("line", number)
            time.sleep(0.5)  # the sender has looked at its bound
            print("the last line")

        shedding()
        print("took")
        sys.stdin.readline()
        """,
        backend_url=absent.url,
        home=str(home),
    )
    with script.started(steps) as process:
        await_line(process, "took")
        with absent:
            absent.wait_for_run(lambda run: run["state"] == "COMPLETED")
            tell(process, "")
            _, said = process.communicate(timeout=30)
            assert process.returncode == 0, said
            (run,) = absent.runs()
            lines = absent.lines(run["id"])
    markers = [line for line in lines if "lines given up" in line]
    shown = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    assert lines[-1] == "the last line"
    assert shown == list(range(steps - len(shown), steps)), "the oldest are given up first"
    (marker,) = markers
    assert lines[0] == marker and int(marker.split("[")[1].split()[0]) == steps - len(shown) > 0
    figures(lines=steps, shown=len(shown), given_up=steps - len(shown))


def test_a_home_that_comes_back_is_used(
    write_script: Write, absent: BackendProcess, tmp_path: Path, figures: Figures
) -> None:
    home = tmp_path / "the-home"
    home.write_text("a file")
    script = write_script(
        "coming_back",
        """
        configure(flush_timeout=1)

        @flow(name="coming back")
        def coming_back():
            print("before")
            time.sleep(0.5)
            print("in the way")
            sys.stdin.readline()
            print("after")

        coming_back()
        """,
        backend_url=absent.url,
        home=str(home),
    )
    with script.started() as process:
        await_line(process, "in the way")
        home.unlink()
        tell(process, "")
        began = time.monotonic()
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said
        took = time.monotonic() - began
    (left,) = spools(str(home))
    assert left.events == 5
    assert os.stat(home).st_mode & 0o777 == 0o700
    files = list((home / "spool").iterdir())
    assert files and all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    figures(events=left.events, seconds_to_end=took)
