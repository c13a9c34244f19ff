"""Two backends on one PostgreSQL: nothing is lost, nothing happens twice."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from perfect.server.store import upkeep
from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started, wait_until
from tests.support.backend import BackendProcess
from tests.support.postgres import PostgresServer
from tests.support.processes import python

pytestmark = pytest.mark.postgres


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.database()


@pytest.fixture
def two(url: str) -> Iterator[Callable[..., tuple[Running, Running]]]:
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
    assert upkeep.check(url).problems == []


def task(run: str, index: int, state: str = "COMPLETED") -> dict[str, Any]:
    t = 1_700_000_000_000
    event = {"type": "task", "run": run, "t": t, "index": index, "name": f"t{index}", "attempt": 1}
    event |= {"state": state, "started": t}
    return event | ({"ended": t + 5} if state == "COMPLETED" else {})


def test_a_session_may_speak_to_both_in_turn(two: Callable[..., tuple[Running, Running]]) -> None:
    first, second = two()
    session, run = str(uuid.uuid4()), str(uuid.uuid4())
    peers = [first.peer("c", session), second.peer("c", session)]
    seq = 0

    def tell(number: int, *events: dict[str, Any]) -> Any:
        nonlocal seq
        numbered = []
        for event in events:
            seq += 1
            numbered.append({"seq": seq, **event})
        return peers[number].post("/api/ingest", {"events": numbered}).ok()

    tell(0, started(run, "f"))
    for index in range(40):
        tell(
            index % 2, task(run, index, "RUNNING"), {"type": "log", "run": run, "text": f"{index}"}
        )
        answer = tell(1 - index % 2, task(run, index))
        assert answer["rejected"] == [] and answer["committed"] == seq
    again = peers[1].post(
        "/api/ingest", {"events": [{"seq": 3, "type": "log", "run": run, "text": "again"}]}
    )
    assert again.ok()["committed"] == seq
    tell(1, ended(run, 40))
    for peer in peers:
        shown = peer.run(run)
        assert shown["state"] == "COMPLETED" and shown["logs"] == [str(i) for i in range(40)]
        assert [t["state"] for t in shown["tasks"]] == ["COMPLETED"] * 40
    # what is over for one is over for the other
    assert len(tell(0, task(run, 3))["rejected"]) == 1


def test_the_same_events_sent_to_both_at_once_are_applied_once(
    two: Callable[..., tuple[Running, Running]],
) -> None:
    backends = two()
    session, run = str(uuid.uuid4()), str(uuid.uuid4())
    events = [{"seq": 1, **started(run, "f")}] + [
        {"seq": 2 + i, "type": "log", "run": run, "text": f"{i}"} for i in range(200)
    ]
    barrier = threading.Barrier(4)

    def send(backend: Running) -> None:
        peer = backend.peer("c", session)
        for first in range(0, len(events), 20):
            barrier.wait(20)
            answer = peer.post("/api/ingest", {"events": events[: first + 20]}).ok()
            assert answer["rejected"] == []

    threads = [threading.Thread(target=send, args=(b,)) for b in (*backends, *backends)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert backends[0].peer("c").run(run)["logs"] == [str(i) for i in range(200)]


def test_each_request_goes_to_one_of_the_pollers_of_both(
    two: Callable[..., tuple[Running, Running]],
) -> None:
    backends = two()
    asked, number = backends[0].peer("asks"), 60
    pollers = [backends[i % 2].peer("works") for i in range(6)]
    for poller in pollers:
        flow = poller.register("f", "a")
    got: list[str] = []
    done = threading.Event()

    def work(peer: Peer) -> None:
        while not done.is_set():
            request = peer.poll(slots=1)
            if request is None:
                continue
            run = request["run_id"]
            claim = peer.post(f"/api/execution-requests/{run}/claim", {"lease": request["lease"]})
            if claim.status == 200:
                got.append(run)
                assert peer.ingest(started(run, "f"), ended(run, 0))["rejected"] == []
            if len(got) >= number:
                done.set()

    threads = [threading.Thread(target=work, args=(poller,)) for poller in pollers]
    for thread in threads:
        thread.start()
    wanted = [
        backends[i % 2].peer("asks").post(f"/api/engine/trigger/{flow['id']}", {}).ok()["runId"]
        for i in range(number)
    ]
    wait_until(lambda: len(got) >= number)
    done.set()
    for backend in backends:
        backend.server.backend.let_go()
    for thread in threads:
        thread.join(20)
    assert Counter(got) == Counter(wanted)
    states = {run["state"] for run in asked.get("/api/engine/runs?limit=100").ok()}
    assert states == {"COMPLETED"}


def test_a_poll_at_one_hears_of_a_request_at_the_other_at_once(
    two: Callable[..., tuple[Running, Running]],
) -> None:
    first, second = two(sweep=30.0, poll=20.0)
    worker = first.peer("works")
    flow = worker.register("f", "a")
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(worker.poll(slots=1)))
    waiting.start()
    wait_until(lambda: len(first.server.backend.waiting) == 1)
    run = second.peer("asks").post(f"/api/engine/trigger/{flow['id']}", {}).ok()["runId"]
    waiting.join(10)
    assert [one["run_id"] for one in found] == [run]


def test_signs_of_life_count_wherever_they_are_given(
    two: Callable[..., tuple[Running, Running]],
) -> None:
    first, second = two(silence=1.0)
    session, alive, dead = str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid4())
    here, there = first.peer("c", session), second.peer("c", session)
    here.ingest(started(alive, "f"))
    silent = first.peer("c")
    silent.ingest(started(dead, "f"))
    # one is silent until it has failed, while the other beats, and only where its run is not
    wait_until(lambda: there.post("/api/heartbeat").ok() and there.run(dead)["state"] == "FAILED")
    assert there.run(alive)["state"] == here.run(alive)["state"] == "RUNNING"
    wait_until(lambda: here.run(alive)["state"] == "FAILED")


def test_what_a_killed_backend_watched_over_is_watched_by_the_other(
    url: str, tmp_path: Path, two: Callable[..., tuple[Running, Running]]
) -> None:
    first, _ = two(silence=1.0)
    run, saved = str(uuid.uuid4()), str(uuid.uuid4())
    session = str(uuid.uuid4())
    with BackendProcess(tmp_path / "killed", silence=1.0, database=url) as killed:
        gone, moves = Peer(killed.port, "c"), Peer(killed.port, "c", session)
        gone.ingest(started(run, "f"))
        moves.ingest(started(saved, "f"))
        killed.kill()
    peer = first.peer("c", session)
    wait_until(lambda: peer.post("/api/heartbeat").ok() and peer.run(run)["state"] == "FAILED")
    assert peer.run(run)["reason"].startswith("no sign of life")
    assert peer.run(saved)["state"] == "RUNNING"


def test_they_may_start_at_the_same_moment(postgres: PostgresServer) -> None:
    from perfect.server.store import open_database

    for _ in range(5):
        url, failed = postgres.database(), []
        barrier = threading.Barrier(4)

        def start(url: str = url, failed: list[Any] = failed, barrier: Any = barrier) -> None:
            barrier.wait(20)
            try:
                open_database(url).close()
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert failed == []


def test_it_goes_on_when_postgres_was_restarted() -> None:
    from perfect.server import ServerSettings

    with PostgresServer() as server:
        backend = Running(ServerSettings(db=server.database(), port=0, sweep=0.05))
        try:
            peer, run = backend.peer("c"), str(uuid.uuid4())
            peer.ingest(started(run, "f"))
            server.stop()
            assert peer.get("/api/engine/runs").status == 503
            lost = peer.post("/api/ingest", {"events": [{"seq": 2, **task(run, 0)}]})
            assert lost.status == 503 and "Retry-After" in {k.title() for k in lost.headers}
            server.start()
            wait_until(
                lambda: peer.post("/api/ingest", {"events": [{"seq": 2, **task(run, 0)}]}).status
                == 200
            )
            assert peer.run(run)["tasks"][0]["state"] == "COMPLETED"
        finally:
            backend.server.stop()


def test_a_private_server_does_not_outlive_who_made_it() -> None:
    program = (
        "import sys, time\n"
        "from tests.support.postgres import PostgresServer\n"
        "with PostgresServer() as server:\n"
        "    print(server.folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with python("-c", program) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        process.kill()
        wait_until(lambda: not folder.exists() and not Path(f"/proc/{pid}").exists())


def test_a_poll_at_one_hears_that_a_run_claimed_at_the_other_is_cancelled(
    two: Callable[..., tuple[Running, Running]], run_id: str
) -> None:
    first, second = two(sweep=30.0, poll=20.0)
    session = str(uuid.uuid4())
    here, there = first.peer("c", session), second.peer("c", session)
    here.post("/api/heartbeat").ok()
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(here.poll(slots=0)))
    waiting.start()
    wait_until(lambda: len(first.server.backend.waiting) == 1)
    there.ingest(started(run_id, "f"))
    assert second.peer("page").post(f"/api/runs/{run_id}/cancel").ok()["cancelling"] is True
    waiting.join(10)
    assert found == [{"cancel": run_id}]
    assert here.post("/api/heartbeat").ok()["cancel"] == [run_id]


def test_a_run_that_ended_at_one_is_over_for_the_other(
    two: Callable[..., tuple[Running, Running]], run_id: str
) -> None:
    first, second = two(silence=5.0)
    session = str(uuid.uuid4())
    here, there = first.peer("c", session), second.peer("c", session)
    here.ingest(started(run_id, "f"))
    wait_until(lambda: second.server.backend.liveness.has_runs(session))
    there.seq = here.seq
    there.ingest(ended(run_id, 0))
    # not because it fell silent
    liveness = first.server.backend.liveness
    wait_until(lambda: here.post("/api/heartbeat").ok() and not liveness.has_runs(session))


def test_who_hears_of_a_session_only_through_the_other_is_slower_to_judge_it(
    two: Callable[..., tuple[Running, Running]], run_id: str
) -> None:
    backends = two(silence=4.0)
    first, second = (backend.server.backend.liveness for backend in backends)
    session = str(uuid.uuid4())
    peer = backends[0].peer("c", session)
    peer.ingest(started(run_id, "f"))
    wait_until(lambda: second.has_runs(session))
    peer.post("/api/heartbeat").ok()
    # word of it takes up to two fifths of the silence limit
    wait_until(lambda: first.ages()[session][0] > 3.0)
    assert second.ages()[session][0] < first.ages()[session][0] - 1.0
    wait_until(lambda: peer.run(run_id)["state"] == "FAILED")


def test_one_that_stands_still_does_not_hold_the_other_up_for_ever(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfect.server.store import open_database, postgres

    monkeypatch.setattr(postgres, "_STUCK", 1)
    first, second = open_database(url), open_database(url)
    with first.connect_writer() as stuck, second.connect_writer() as other:
        stuck.begin()
        with other.begin():
            pass
        with pytest.raises(DBAPIError, match="idle-in-transaction timeout"):
            stuck.exec_driver_sql("SELECT 1")
    first.close()
    second.close()
