"""The backend as a process: starting, stopping, being killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from perfect import cli
from perfect.errors import ConfigurationError
from perfect.server import Server, ServerSettings, serve
from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started, wait_until


class Process:
    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "perfect.server",
                "--port",
                "0",
                "--db",
                str(folder / "perfect.db"),
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PERFECT_HOME": str(folder)},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("perfect server on http://127.0.0.1:"), line
        self.port = int(line.rsplit(":", 1)[1].split("/")[0])

    def end(self, number: int) -> tuple[int, str]:
        """Send the signal; the exit code and what was written after the first line."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out + err


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    running: list[Process] = []

    def start(*arguments: str) -> Process:
        running.append(Process(tmp_path, *arguments))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate(timeout=20)


def test_what_was_answered_survives_a_kill(process: Callable[..., Process], run_id: str) -> None:
    first = process()
    peer = Peer(first.port, "c")
    line = {"type": "log", "run": run_id, "stream": "stdout", "text": "kept"}
    peer.ingest(started(run_id, "f"), line)
    first.end(signal.SIGKILL)
    peer.port = process().port
    assert peer.run(run_id)["logs"] == ["kept"]
    # the client does not know that this was committed and sends it again
    peer.seq = 0
    peer.ingest(started(run_id, "f"), line, ended(run_id, 0))
    run = peer.run(run_id)
    assert (run["state"], run["logs"]) == ("COMPLETED", ["kept"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_although_polls_are_open(
    process: Callable[..., Process], number: int
) -> None:
    server = process()
    polls = []
    for _ in range(3):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        connection.sendall(b"GET /api/execution-requests HTTP/1.1\r\nHost: localhost\r\n\r\n")
        polls.append(connection)
    Peer(server.port).get("/api/health").ok()
    code, said = server.end(number)
    assert (code, said) == (0, "")
    for connection in polls:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.close()


def test_a_base_path_is_said(process: Callable[..., Process]) -> None:
    server = process("--base-path", "/x")
    assert Peer(server.port).get("/x/api/health").ok()["status"] == "ok"


def test_a_busy_port_is_known_before_anything_starts(
    launch: Callable[..., Running], tmp_path: Path
) -> None:
    busy = launch().port
    with pytest.raises(ConfigurationError) as error:
        Server(ServerSettings(port=busy, db=tmp_path / "other.db"))
    assert error.value.argument == "port"
    assert not (tmp_path / "other.db").exists()


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments, said in (
        (["--db", str(tmp_path / "file" / "x.db")], "perfect server: db="),
        (["--host", "0.0.0.0"], "needs a token"),
        (["--base-path", "x"], "base_path"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "perfect.server", "--port", "0", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"PERFECT_HOME": str(tmp_path)},
        )
        assert done.returncode == 1 and done.stdout == ""
        assert said in done.stderr and done.stderr.count("\n") == 1


def test_both_ways_to_start_it_take_the_same_options(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for command in (partial(cli.main, ["server", "--help"]), partial(serve.main, ["--help"])):
        with pytest.raises(SystemExit):
            command()
        said.append(set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)))
    assert said[0] == said[1] and "--read-token" in said[0] and len(said[0]) > 10


@pytest.mark.parametrize("module", ["perfect.server", "perfect"])
def test_tokens_come_from_the_environment(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[ServerSettings] = []
    monkeypatch.setattr(serve, "run_server", given.append)
    monkeypatch.setenv("PERFECT_HOME", str(tmp_path))
    monkeypatch.setenv("PERFECT_API_KEY", "the-token")
    monkeypatch.setenv("PERFECT_READ_TOKEN", "the-read-token")
    start = serve.main if module == "perfect.server" else partial(_with_command, cli.main)
    arguments = "--host 0.0.0.0 --allow-host a --allow-host b --allow-origin https://x.example"
    assert start(f"{arguments} --limit body=1000 --retain 2d --retain-runs 3".split()) == 0
    assert start(["--token", "other"]) == 0
    first, second = given
    assert (first.token, first.read_token) == ("the-token", "the-read-token")
    assert (first.allowed_hosts, first.allow_origins) == (("a", "b"), ("https://x.example",))
    assert (first.limits.body, first.retain, first.retain_runs) == (1000, 172_800, 3)
    assert second.token == "other"


def _with_command(main: Callable[[list[str]], int], arguments: list[str]) -> int:
    return main(["server", *arguments])


def test_a_backend_in_a_thread_can_be_stopped_twice(launch: Callable[..., Running]) -> None:
    backend = launch()
    backend.server.stop()
    backend.server.stop()
    with pytest.raises(OSError):
        backend.peer().get("/api/health")
    assert wait_until(lambda: launch().peer().get("/api/health").ok())
