"""A real backend on a free port."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra [server] is not installed")

from perfect.server import Server, ServerSettings  # noqa: E402
from tests.server.peers import Peer  # noqa: E402
from tests.support.postgres import PostgresServer  # noqa: E402


class Running:
    """A backend in a thread."""

    def __init__(self, settings: ServerSettings) -> None:
        self.server = Server(settings)
        self.server.start()
        self.url = self.server.url
        self.port = int(self.url.removeprefix("http://").split("/")[0].rsplit(":", 1)[1])

    def peer(self, client: str | None = None, session: str | None = None) -> Peer:
        return Peer(self.port, client, session)


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def store(request: pytest.FixtureRequest) -> str:
    """On which kind of database the tests run that start a backend with the fixtures below."""
    kind: str = request.param
    return kind


@pytest.fixture
def where(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A new database for one test: a path or a URL."""
    if store == "sqlite":
        return str(tmp_path / "perfect.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def launch(where: str) -> Iterator[Callable[..., Running]]:
    """Start backends with settings of one's own; they are stopped at the end."""
    running: list[Running] = []

    def start(**settings: Any) -> Running:
        given: dict[str, Any] = {
            "db": where,
            "port": 0,
            "poll": 0.3,
            "sweep": 0.05,
        } | settings
        backend = Running(ServerSettings(**given))
        running.append(backend)
        return backend

    yield start
    for backend in running:
        backend.server.stop()


@pytest.fixture(scope="module")
def shared(
    store: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Running]:
    """One backend with usual durations for all tests of a module that do not disturb each other."""
    if store == "sqlite":
        db = str(tmp_path_factory.mktemp("server") / "perfect.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        db = server.database()
    backend = Running(ServerSettings(db=db, port=0, poll=0.3))
    yield backend
    backend.server.stop()


@pytest.fixture
def run_id() -> str:
    """A new run's id."""
    return str(uuid.uuid4())
