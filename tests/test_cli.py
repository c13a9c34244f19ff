"""The `perfect` command, as a process and against a real backend."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from perfect import __version__, cli, timetable
from perfect.cli import main
from perfect.show import coloured
from tests.support.backend import BackendProcess
from tests.support.processes import poll_until, python

FLOWS = """
from perfect import flow, task

@task
def count(n):
    for i in range(n):
        print("row", i)
    return n

@flow(name="Counting", tags={"team": "data"})
def counting(n=3, word="rows"):
    return f"{count(n)} {word}"

@flow
async def later():
    return "later"

@flow
def broken():
    raise ValueError("it broke")
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "counting_flows.py"
    path.write_text(FLOWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "counting_flows", raising=False)
    return str(path)


@pytest.fixture
def live(backend: BackendProcess, monkeypatch: pytest.MonkeyPatch) -> BackendProcess:
    monkeypatch.setenv("PERFECT_BACKEND_URL", backend.url)
    return backend


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"perfect {__version__}\n"
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().out


def test_run_passes_parameters(
    live: BackendProcess, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", f"{source}:counting", "-p", "n=2", "-p", "word=lines", "--config", "debug"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == "row 0\nrow 1\n2 lines\n"
    run = live.wait_for_run(
        lambda run: run["flowName"] == "Counting" and run["configuration"] == "debug"
    )
    assert run["parameters"] == {"n": 2, "word": "lines"}


def test_run_takes_flow_names_modules_and_async_flows(
    live: BackendProcess, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "counting_flows:Counting", "-p", "n=0"]) == 0
    assert main(["run", "counting_flows:later"]) == 0
    assert capsys.readouterr().out == "0 rows\nlater\n"


def test_a_failing_flow_shows_the_users_traceback(
    live: BackendProcess, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", f"{source}:broken"]) == 1
    error = capsys.readouterr().err
    assert error.endswith("perfect: flow 'broken' failed: ValueError: it broke\n")
    assert "counting_flows.py" in error and "executor.py" not in error and "cli.py" not in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "missing.py:flow"], "no file 'missing.py'"),
        (["run", "missing_module_x:flow"], "no module 'missing_module_x'"),
        (["run", "counting_flows.py"], "names no flow"),
        (["run", "counting_flows.py:nope"], "no flow 'nope' (counting_flows.py has: Counting, "),
        (["run", "counting_flows.py:counting", "-p", "n"], "-p='n': is not NAME=JSON"),
        (["trigger", "nope"], "no flow 'nope'"),
        (["logs", "nope"], "no run 'nope'"),
        (["cancel", "nope"], "no run 'nope'"),
        (["retry", "../nope"], "no run '../nope'"),
        (["cancel", ""], "RUN='': is empty"),
        (["backend", "server", "--url", "nowhere"], "backend_url='nowhere'"),
        (["server", "--host", "0.0.0.0", "--port", "0"], "host='0.0.0.0'"),
        (["server", "--base-path", "x", "--port", "0"], "base_path='x'"),
    ],
)
def test_errors_are_one_line(
    live: BackendProcess,
    source: str,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


def test_of_very_many_names_the_first_are_shown() -> None:
    assert cli._names([]) == "none"
    assert cli._names({"b", "a"}) == "a, b"
    many = [f"{number:03}" for number in range(5000)]
    assert cli._names(many) == f"{', '.join(many[:20])} and 4980 more"


@pytest.mark.parametrize("command", ["flows", "runs"])
def test_without_a_backend(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command]) == 1
    error = capsys.readouterr().err
    assert error.startswith("perfect: no backend at http://127.0.0.1:9")
    assert "perfect server" in error and error.count("\n") == 1


def test_flows_runs_and_logs(
    own_backend: BackendProcess,
    source: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERFECT_BACKEND_URL", own_backend.url)
    assert main(["flows"]) == 0 and main(["runs"]) == 0
    assert capsys.readouterr().out.startswith("No flows yet")
    assert main(["run", f"{source}:counting"]) == 0
    own_backend.wait_for_run(lambda run: run["state"] == "COMPLETED")
    capsys.readouterr()

    assert main(["flows"]) == 0
    assert re.search(r"Counting +1 +perfect_example +team=data", capsys.readouterr().out)
    assert main(["runs", "--state", "completed", "--flow", "Counting"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert "✓ COMPLETED" in line and "100 %" in line
    run_id = line.split()[0]
    for wanted in (run_id, run_id[:8]):
        assert main(["logs", wanted, "-f"]) == 0
        assert capsys.readouterr().out == "row 0\nrow 1\nrow 2\n"
    assert main(["runs", "--state", "failed"]) == 0
    assert capsys.readouterr().out == "No such runs.\n"


def test_logs_of_a_failed_run_end_with_its_error(
    own_backend: BackendProcess,
    source: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERFECT_BACKEND_URL", own_backend.url)
    assert main(["run", f"{source}:broken"]) == 1
    run = own_backend.wait_for_run(lambda run: run["state"] == "FAILED")
    capsys.readouterr()
    assert main(["logs", run["id"]]) == 0
    lines, error = capsys.readouterr()
    assert "Traceback" not in lines
    assert error.startswith("Traceback") and error.endswith("ValueError: it broke\n")


def test_a_terminal_is_shown_colours_and_nothing_else_it_obeys() -> None:
    assert coloured("\x1b[1;31mred\x1b[0m\tx") == "\x1b[1;31mred\x1b[0m\tx"
    assert coloured("\x1b]0;title\x07a\rb\x1b[2Jc\x1b[31") == "·]0;title·a·b·[2Jc·[31"


def test_schedules(
    own_backend: BackendProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERFECT_BACKEND_URL", own_backend.url)
    assert main(["schedules"]) == 0
    assert capsys.readouterr().out.startswith("No schedules")
    schedule = {"cron": "0 6 1 * *", "timezone": "Europe/Berlin", "overlap": "skip"}
    for name, given in (("monthly", schedule), ("plain", "every 3600 s")):
        own_backend.request("POST", "/api/flows", {"name": name, "schedule": given})
    assert main(["schedules"]) == 0
    monthly, plain = capsys.readouterr().out.splitlines()[1:]
    assert re.search(r"monthly +0 6 1 \* \* Europe/Berlin +20\d\d-\d\d-01 0[45]:00$", monthly)
    assert re.search(r"plain +every 3600 s +20\d\d-\d\d-\d\d \d\d:00$", plain)
    assert main(["flows"]) == 0
    assert "0 6 1 * * Europe/Berlin overlap=skip" in capsys.readouterr().out
    assert main(["schedules", "--pause", "monthly"]) == 0
    assert re.search(r"monthly .* paused", capsys.readouterr().out)
    assert [one["paused"] for one in own_backend.get("/api/schedules")["schedules"]] == [
        True,
        False,
    ]
    assert main(["schedules", "--resume", "monthly"]) == 0
    assert "paused" not in capsys.readouterr().out
    assert main(["schedules", "--pause", "nix"]) == 1
    assert capsys.readouterr().err == (
        "perfect: no schedule 'nix' (flows that have one: monthly, plain)\n"
    )
    own_backend.request(
        "POST", "/api/flows", {"name": "plain", "schedule": "0 0 * * *"}, {"X-Perfect-Client": "b"}
    )
    assert main(["schedules", "--pause", "plain"]) == 1
    assert "several clients have it" in capsys.readouterr().err
    assert main(["schedules"]) == 0
    assert re.search(r"plain +0 0 \* \* \* .* b$", capsys.readouterr().out, re.MULTILINE)


def test_what_became_of_a_schedule(
    own_backend: BackendProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERFECT_BACKEND_URL", own_backend.url)
    given = {"cron": "0 6 1 * *", "configuration": "release", "parameters": {"region": "ü"}}
    own_backend.request("POST", "/api/flows", {"name": "monthly", "schedule": given})
    assert main(["schedules", "monthly"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("monthly: 0 6 1 * *, UTC\n  next (UTC)     20")
    for line in ("configuration  release", 'parameters     {"region": "ü"}', "catchup=skip"):
        assert line in said
    assert said.endswith("No time of it has come yet.\n")
    given = {"every_seconds": 1, "overlap": "skip"}
    own_backend.request("POST", "/api/flows", {"name": "often", "schedule": given})
    poll_until(
        lambda: len(own_backend.get("/api/schedules?flow=often")["schedules"][0]["slots"]) > 3
    )
    assert main(["schedules", "--pause", "often"]) == 0
    capsys.readouterr()
    assert main(["schedules", "often", "--slots"]) == 0
    head, *slots = capsys.readouterr().out.splitlines()
    assert head == "TIME (UTC)           RUN"
    assert re.fullmatch(r"20[-0-9]{8} [:0-9]{8}  ○ PENDING    [-0-9a-f]{36}", slots[-1])
    left_out = "– left out   a run of this schedule was still active (overlap=skip)"
    assert all(line.endswith(left_out) for line in slots[:-1]) and len(slots) > 3
    assert main(["schedules", "often", "--left-out", "--limit", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [head, *slots[:2]]
    monkeypatch.setattr(timetable, "_PAGE", 2)  # page by page it is the same
    assert main(["schedules", "often", "--slots", "--limit", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == [head, *slots[:3]]
    assert main(["schedules"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main(["schedules", "nix"]) == 1
    assert "flows that have one: monthly, often" in capsys.readouterr().err
    assert main(["schedules", "--slots"]) == 2
    assert "name the flow" in capsys.readouterr().err
    for wrong in ("0", "-1", "x", "²"):
        with pytest.raises(SystemExit):
            main(["schedules", "often", "--limit", wrong])
        assert "no number from 1 on" in capsys.readouterr().err


def test_a_long_reason_goes_on_below_itself_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    slot = {"slot": "2026-01-01T06:00:00.000Z", "runId": None, "state": None}
    found = [
        {**slot, "reason": "a run was still active \x1b[2J " + "x " * 40},
        {**slot, "reason": None},
    ]
    timetable.print_slots(iter(found))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) == 5 and "\x1b" not in "".join(lines)
    assert lines[2].startswith(" " * 34 + "x") and lines[-1].endswith("its run was deleted")


def test_backend_selects_mock_and_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.delenv("PERFECT_BACKEND_URL")
    config = Path(os.environ["PERFECT_HOME"], "config.toml")
    assert main(["backend", "mock"]) == 0
    assert config.stat().st_mode & 0o777 == 0o600
    assert "mock = true" in config.read_text()
    assert main(["backend", "server", "--url", "http://localhost:4000"]) == 0
    assert 'backend_url = "http://localhost:4000"' in config.read_text()
    assert "mock = false" in config.read_text()


@pytest.mark.e2e
def test_listen_and_trigger(
    live: BackendProcess, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {**os.environ, "PERFECT_CLIENT_ID": "listener test"}
    with python("-m", "perfect", "listen", source, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        assert "Serving 3 flows" in process.stdout.readline()
        flow_id = next(
            found["id"]
            for found in iter_until(live, lambda f: f["clientId"] == "listener test")
            if found["name"] == "Counting"
        )
        assert main(["trigger", flow_id]) == 0
        run_id, url = capsys.readouterr().out.split()
        assert url == f"{live.url}/runs/{run_id}"
        live.wait_for_run(lambda run: run["id"] == run_id and run["state"] == "COMPLETED")
        assert live.lines(run_id) == ["row 0", "row 1", "row 2"]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def iter_until(live: BackendProcess, wanted):  # type: ignore[no-untyped-def]
    """The flows that match, asked for until there are three."""
    import time

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = [flow for flow in live.get("/api/engine/flows") if wanted(flow)]
        if len(found) == 3:
            return found
        time.sleep(0.02)  # another process registers them: there is no event to wait for
    raise AssertionError(live.get("/api/engine/flows"))
