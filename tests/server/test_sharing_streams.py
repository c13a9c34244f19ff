"""Two backends on one PostgreSQL: who watches at one is told of what is written at the other."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from perfect.server.engine import news, telling
from perfect.server.store import watchers
from perfect.server.store.changes import Changes, Watch
from perfect.server.store.signals import LONGEST
from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started, wait_until
from tests.server.streams import Reader
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.postgres
Two = Callable[..., tuple[Running, Running]]


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.database()


@pytest.fixture
def two(url: str) -> Iterator[Two]:
    """Two backends on one database."""
    from perfect.server import ServerSettings

    running: list[Running] = []

    def start(**settings: Any) -> tuple[Running, Running]:
        given: dict[str, Any] = {"db": url, "port": 0, "poll": 5.0, "sweep": 0.05} | settings
        running.extend(Running(ServerSettings(**given)) for _ in range(2))
        return running[0], running[1]

    yield start
    for backend in running:
        backend.server.stop()


@pytest.fixture
def watch() -> Iterator[Callable[..., Reader]]:
    opened: list[Reader] = []

    def start(backend: Running, run: str | None = None) -> Reader:
        opened.append(Reader(backend.port, run))
        opened[-1].until("ready")
        return opened[-1]

    yield start
    for reader in opened:
        reader.close()


def _task(run: str, index: int, state: str) -> dict[str, Any]:
    return {"type": "task", "run": run, "index": index, "state": state}


def _line(run: str, text: str) -> dict[str, Any]:
    return {"type": "log", "run": run, "text": text}


def test_the_list_hears_of_what_another_wrote(
    two: Two, watch: Callable[..., Reader], run_id: str
) -> None:
    first, second = two()
    stream = watch(second)
    peer = first.peer("c")
    peer.ingest(started(run_id, "f", "a"), _task(run_id, 0, "RUNNING"))
    seen = stream.until("run", id=run_id, state="RUNNING")
    peer.ingest(_task(run_id, 0, "COMPLETED"), ended(run_id, 1))
    seen += stream.until("run", id=run_id, state="COMPLETED")
    assert seen[-1].data == peer.get("/api/runs").ok()["runs"][0]
    assert "flow" in {event.kind for event in seen} and "reset" not in {e.kind for e in seen}
    peer.send("DELETE", f"/api/runs/{run_id}").ok()
    stream.until("run", id=run_id, deleted=True)


def test_nothing_falls_between_the_first_look_and_the_stream(
    two: Two, watch: Callable[..., Reader]
) -> None:
    """Whatever was written when the stream said it is ready is read, whatever comes after is told."""
    first, second = two()
    for _ in range(15):
        run, peer = str(uuid.uuid4()), first.peer("c")
        peer.ingest(started(run, "f"))
        writing = threading.Event()

        def write(run: str = run, peer: Peer = peer, writing: threading.Event = writing) -> None:
            for number in range(20):
                peer.ingest(_line(run, str(number)))
                writing.set()

        thread = threading.Thread(target=write)
        thread.start()
        writing.wait(20)
        stream = watch(second, run)
        read = [line["text"] for line in second.peer().get(f"/api/runs/{run}/logs").ok()["logs"]]
        told: list[str] = []
        while not {"19"} & {*read, *told}:
            event = stream.next()
            assert event is not None and event.kind != "reset"
            if event.kind == "log":
                assert event.data["skipped"] == 0
                told += [line["text"] for line in event.data["lines"]]
        thread.join(20)
        stream.close()
        assert list(dict.fromkeys(read + told)) == [str(number) for number in range(20)]


def test_the_page_of_a_run_hears_of_tasks_and_lines_wherever_they_are_sent(
    two: Two, watch: Callable[..., Reader], run_id: str
) -> None:
    first, second = two()
    session = str(uuid.uuid4())
    peers = [backend.peer("c", session) for backend in (first, second)]
    peers[0].ingest(started(run_id, "f"))
    streams = [watch(backend, run_id) for backend in (first, second)]
    for number in range(10):
        peer = peers[number % 2]
        peer.seq = 10 + 2 * number
        peer.ingest(_task(run_id, number, "RUNNING"), _line(run_id, f"{number}"))
    for peer in peers:
        peer.seq = 100
    peers[1].ingest(ended(run_id, 10))
    for stream in streams:
        seen = stream.until("run", state="COMPLETED")
        assert {event.kind for event in seen} == {"task", "log", "run"}
        lines = [line["text"] for e in seen if e.kind == "log" for line in e.data["lines"]]
        assert lines == [f"{number}" for number in range(10)]
        told = {t["index"] for e in seen if e.kind == "task" for t in e.data["tasks"]}
        assert told == set(range(10))


def test_more_than_one_word_holds_is_told_in_several(
    two: Two, watch: Callable[..., Reader], run_id: str
) -> None:
    first, second = two()
    peer, number = first.peer("c"), 3_000
    peer.ingest(started(run_id, "f"))
    stream = watch(second, run_id)
    peer.ingest(*(_task(run_id, index, "RUNNING") for index in range(number)))
    told: set[int] = set()
    while len(told) < number:
        event = stream.next()
        assert event is not None and event.kind != "reset"
        if event.kind == "task":
            told |= {task["index"] for task in event.data["tasks"]}
    assert told == set(range(number))


def test_words_are_short_enough_and_lose_nothing() -> None:
    changed = Changes(Watch(), runs={2**31 - number for number in range(1_200)})
    changed.tasks = {2**31 - 1: {10**9 + number for number in range(5_000)}, 7: {1}}
    changed.gone = {str(uuid.uuid4()) for _ in range(250)}
    changed.others = {("schedule", str(uuid.uuid4())) for _ in range(250)}
    words = telling.words(changed)
    assert 1 < len(words) and max(len(word) for word in words) <= LONGEST
    heard = Changes(Watch())
    for word in words:
        kind, *facts = orjson.loads(word)
        assert kind == "changed"
        heard.add(telling.understood(heard.watch, *facts))
    assert heard.tasks == changed.tasks
    assert heard.runs == changed.runs | changed.tasks.keys()
    assert (heard.gone, heard.others) == (changed.gone, changed.others)
    changed.tasks[1] = set(range(1_000_000))
    assert telling.words(changed) == ['["crowded"]']
    changed.others = {("x", "y" * LONGEST)}
    assert telling.words(changed) == ['["crowded"]']


def test_who_could_not_listen_is_told_to_look_anew(
    two: Two, watch: Callable[..., Reader], url: str, postgres: PostgresServer
) -> None:
    _, second = two()
    stream = watch(second)
    database = url.split("/")[3].split("?")[0]
    cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
    assert int(postgres.sql(f"{cut} AND datname = '{database}'")) == 2
    stream.until("reset")


def test_nothing_is_told_when_nobody_watches(
    two: Two, watch: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch, run_id: str
) -> None:
    monkeypatch.setattr(watchers, "LASTING", 1.0)
    monkeypatch.setattr(news.Hub, "forget", lambda self, now: None)
    first, second = two()
    writer = first.server.backend._writer
    peer = first.peer("c")
    peer.ingest(started(run_id, "f"))
    assert not writer.watch.elsewhere.on
    watch(second)
    peer.ingest(_line(run_id, "told"))
    assert writer.watch.elsewhere.on
    # that backend is killed: it says nothing any more
    second.server.backend.news._announce = _nothing
    wait_until(lambda: not writer.watch.elsewhere.on)
    peer.ingest(_line(run_id, "not told"))
    assert not writer.watch.elsewhere.on


async def _nothing(_runs: frozenset[int] | None) -> None:
    pass


def test_clients_are_shown_wherever_they_are_connected(two: Two) -> None:
    first, second = two(silence=2.0, poll=30.0)
    worker = first.peer("works")
    flow = worker.register("f", "a")
    polling = threading.Thread(target=worker.poll, args=(3,), daemon=True)
    polling.start()

    def shown(backend: Running) -> list[dict[str, Any]]:
        groups = backend.peer().get("/api/clients").ok()["clients"]
        return [s for group in groups if group["clientId"] == "works" for s in group["sessions"]]

    wait_until(lambda: shown(second) and shown(second)[0]["polling"])
    (here,), (there,) = shown(first), shown(second)
    assert here | {"lastSeen": there["lastSeen"]} == there
    assert (there["freeSlots"], there["flows"]) == (3, ["f"])

    def connected() -> list[bool]:
        listed = second.peer().get("/api/engine/flows").ok()
        return [one["connected"] for one in listed if one["id"] == flow["id"]]

    wait_until(lambda: connected() == [True])
    first.server.backend.let_go()
    polling.join(20)
    wait_until(lambda: shown(second) == [] == shown(first))
