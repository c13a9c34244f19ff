"""What it costs to be there: clients that wait for work, pages that watch, and nothing that happens."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import time
import uuid
from pathlib import Path

import pytest

from tests.support.backend import BackendProcess

MOST = 300 * 2**20  # bytes


class Crowd:
    """Clients that poll and pages that watch, each over a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.polls = 0
        self.read = 0
        self.comments = 0
        self._ready = 0
        self._all_ready = asyncio.Event()
        self._wanted = 0
        self._there: list[asyncio.Task[None]] = []

    async def gather(self, clients: int, streams: int, tasks: asyncio.TaskGroup) -> None:
        """Let them come; returns when every one of them waits."""
        self._wanted = clients + streams
        for number in range(clients):
            self._there.append(tasks.create_task(self._client(number)))
            if number % 50 == 49:
                await asyncio.sleep(0)  # not all in one moment
        for _ in range(streams):
            self._there.append(tasks.create_task(self._stream()))
        await self._all_ready.wait()

    def leave(self) -> None:
        """Let them go."""
        for task in self._there:
            task.cancel()

    def _is_ready(self) -> None:
        self._ready += 1
        if self._ready == self._wanted:
            self._all_ready.set()

    async def _client(self, number: int) -> None:
        session = str(uuid.uuid4())
        flow = json.dumps({"name": f"flow {number}", "tasks": [{"name": "one"}]})
        await self._ask("POST /api/flows", session, flow)
        self._is_ready()
        while True:
            assert await self._ask("GET /api/execution-requests?slots=1", session) == b"null"
            self.polls += 1

    async def _ask(self, what: str, session: str, body: str = "") -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(
                f"{what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Perfect-Client: c\r\n"
                f"X-Perfect-Session: {session}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            return answer
        finally:
            writer.close()

    async def _stream(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"event: ready")
            self._is_ready()
            while piece := await reader.read(2**20):
                self.read += len(piece)
                self.comments += piece.count(b": still here")
        finally:
            writer.close()


@pytest.mark.parametrize(
    ("clients", "streams", "seconds"),
    [
        (100, 20, 3.0),
        pytest.param(1_000, 200, 60.0, marks=[pytest.mark.soak, pytest.mark.timeout(300)]),
    ],
    ids=["small", "full"],
)
def test_those_who_wait_cost_little(
    tmp_path: Path, clients: int, streams: int, seconds: float
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        # small: as often per second as the thousand do
        poll = 30.0 * clients / 1_000
        with BackendProcess(tmp_path, poll=poll) as backend:
            asyncio.run(_watch(backend, clients, streams, seconds))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _watch(backend: BackendProcess, clients: int, streams: int, seconds: float) -> None:
    alone = _memory(backend)
    crowd = Crowd(backend.port)
    came = _cpu(backend)
    async with asyncio.TaskGroup() as tasks:
        crowding = asyncio.create_task(crowd.gather(clients, streams, tasks))
        await asyncio.wait_for(crowding, 60)
        arrival = _cpu(backend) - came
        # what their coming made is told to the streams first
        await asyncio.sleep(1)
        polls, read, began = crowd.polls, crowd.read, (_cpu(backend), time.monotonic())
        await asyncio.sleep(seconds)
        spent, passed = _cpu(backend) - began[0], time.monotonic() - began[1]
        answered, told = crowd.polls - polls, crowd.read - read
        memory = _memory(backend)
        status = await asyncio.to_thread(backend.get, "/api/clients")
        crowd.leave()
    print(
        f"{clients} long polls and {streams} streams: {100 * spent / passed:.2f} % of a core over {passed:.0f} s "
        f"({answered} polls answered, {crowd.comments} keep-alives, {told:,} bytes told), {memory / 2**20:.0f} MiB "
        f"({alone / 2**20:.0f} alone); their coming took {arrival:.2f} s of CPU"
    )
    assert len(status["clients"][0]["sessions"]) == clients
    assert answered and memory < MOST


@pytest.mark.parametrize(
    "seconds", [3.0, pytest.param(60.0, marks=pytest.mark.soak)], ids=["small", "full"]
)
def test_nobody_there_costs_next_to_nothing(tmp_path: Path, seconds: float) -> None:
    with BackendProcess(tmp_path) as backend:
        backend.get("/api/health")
        time.sleep(1)
        began = _cpu(backend), time.monotonic()
        time.sleep(seconds)
        spent, passed = _cpu(backend) - began[0], time.monotonic() - began[1]
        print(f"idle: {100 * spent / passed:.2f} % of a core, {_memory(backend) / 2**20:.0f} MiB")
        assert _memory(backend) < MOST


def _cpu(backend: BackendProcess) -> float:
    """s of CPU that the backend has used."""
    assert backend.process is not None
    fields = Path(f"/proc/{backend.process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(backend: BackendProcess) -> int:
    """Bytes of memory that the backend occupies."""
    assert backend.process is not None
    pages = Path(f"/proc/{backend.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
