"""Two backend processes on one PostgreSQL, one of which is killed now and then: nothing is lost, nothing happens twice."""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from perfect.server.store import upkeep
from tests.e2e.test_cancel import LISTENER, await_begun, await_end, cancel, trigger
from tests.e2e.test_dispatch_soak import WORKER
from tests.server.peers import Peer, ended, started
from tests.server.receiver import Receiver
from tests.server.streams import Reader
from tests.support.backend import BackendProcess
from tests.support.balancer import Balancer
from tests.support.postgres import PostgresServer
from tests.support.processes import Script, poll_until

pytestmark = [pytest.mark.e2e, pytest.mark.postgres]

Figures = Callable[..., None]
Write = Callable[..., Script]


class Pair:
    """Two backends, and the database beneath them."""

    def __init__(self, server: PostgresServer, backends: list[BackendProcess], url: str) -> None:
        self.backends = backends
        self.url = url
        self._server = server
        self._database = url.split("/")[3].split("?")[0]

    def rows(self, statement: str) -> list[tuple[str, ...]]:
        """What a query of the database yields."""
        found = self._server.sql(statement, self._database)
        return [tuple(line.split("|")) for line in found.splitlines()]

    def __iter__(self) -> Iterator[BackendProcess]:
        return iter(self.backends)


@pytest.fixture
def pair(postgres: PostgresServer, tmp_path: Path) -> Iterator[Callable[..., Pair]]:
    """Start two backends with settings of one's own."""
    url = postgres.database()
    with ExitStack() as stack:

        def start(**settings: Any) -> Pair:
            backends = [
                stack.enter_context(BackendProcess(tmp_path / name, database=url, **settings))
                for name in ("first", "second")
            ]
            return Pair(postgres, backends, url)

        yield start
    assert upkeep.check(url).problems == []


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(4, id="small"),
        pytest.param(60, id="full", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_each_slot_is_run_once_whichever_is_killed(
    pair: Callable[..., Pair], figures: Figures, kills: int
) -> None:
    both = pair()
    chance = random.Random(kills)
    schedule = {"every_seconds": 1, "catchup": "all"}
    status, _ = both.backends[0].request(
        "POST", "/api/flows", {"name": "ticks", "schedule": schedule}
    )
    assert status == 200
    began = time.time()
    for number in range(kills):
        victim = both.backends[number % 2]
        # where the job of a slot runs, and where it is committed
        slot = int(time.time()) + 1
        time.sleep(max(0.0, slot + chance.uniform(-0.03, 0.03) - time.time()))
        victim.kill()
        if number % 4 == 3:  # nobody is there for a while
            both.backends[0].kill()
            both.backends[0].start()
        victim.start()
    last = int(time.time()) + 1
    poll_until(
        lambda: int(both.rows("SELECT max(slot) FROM schedule_slot")[0][0]) >= last * 1000,
        what="one more slot",
    )
    rows = both.rows("SELECT slot / 1000, run, reason FROM schedule_slot ORDER BY slot")
    slots = [int(slot) for slot, _, _ in rows]
    assert slots == list(range(slots[0], slots[-1] + 1))  # none left out
    assert began < slots[0] <= began + 2
    assert {reason for _, _, reason in rows} == {""}
    runs = both.rows("SELECT key FROM run WHERE trigger = 'schedule'")
    requests = both.rows("SELECT run FROM request")
    # none twice, and none without its request; those of the last moment aside
    of_slots = Counter(run for _, run, _ in rows)
    assert max(of_slots.values()) == 1
    assert of_slots.keys() <= {key for key, in runs} and len(runs) == len(set(runs))
    assert of_slots.keys() <= {run for run, in requests}
    figures(kills=kills, slots=len(slots))


@pytest.mark.parametrize(
    ("workers", "requests", "kills"),
    [
        pytest.param(4, 40, 2, id="small"),
        pytest.param(
            *(12, 1_200, 40), id="full", marks=[pytest.mark.soak, pytest.mark.timeout(900)]
        ),
    ],
)
def test_each_request_ends_once_whichever_backend_or_worker_is_killed(
    pair: Callable[..., Pair],
    tmp_path: Path,
    write_script: Write,
    figures: Figures,
    workers: int,
    requests: int,
    kills: int,
) -> None:
    both = pair(silence=6.0, lease=3.0)
    journal = tmp_path / "journal"
    journal.touch()
    rng = random.Random(requests)
    answered: list[str] = []
    with ExitStack() as stack:
        scripts = [
            write_script(
                f"worker{number}",
                WORKER,
                backend_url=backend.url,
                home=tmp_path / "home",
                client_id="workers",
            )
            for number, backend in enumerate(both)
        ]

        def start(number: int) -> Popen[str]:
            return stack.enter_context(scripts[number % 2].started(journal))

        alive = [start(number) for number in range(workers)]
        answered.append(trigger(both.backends[0], "short"))
        (flow,) = [one["id"] for one in both.backends[1].get("/api/engine/flows")]
        asked, killed, every = 1, 0, requests // (kills + 1)
        while asked < requests:
            if asked % every == 0 and killed < kills:
                done = journal.read_bytes().count(b"ended")
                poll_until(lambda: journal.read_bytes().count(b"ended") > done, 60)
                victim = both.backends[killed % 2]
                victim.kill()
                alive.pop(rng.randrange(len(alive))).kill()
                killed += 1
                # the other one takes what comes meanwhile
                other = both.backends[killed % 2]
                answer = other.request("POST", f"/api/engine/trigger/{flow}", {})[1]
                answered.append(answer["runId"])
                asked += 1
                victim.start()
                alive.append(start(killed))
            backend = both.backends[asked % 2]
            answer = backend.request("POST", f"/api/engine/trigger/{flow}", {})[1]
            answered.append(answer["runId"])
            asked += 1
        poll_until(
            lambda: both.rows("SELECT count(*) FROM run WHERE settled = 0") == [("0",)],
            600,
            every=0.1,
            what="every run ends",
        )
    rows = both.rows("SELECT id, state, reason FROM run")
    noted = Counter(journal.read_text().splitlines())
    ends = Counter(state for _, state, _ in rows)
    figures(workers=workers, requests=requests, killed=killed, **ends)
    assert sorted(run for run, _, _ in rows) == sorted(answered)
    assert len(set(answered)) == requests
    assert set(noted.values()) == {1}, "a run happened twice"
    for run, state, reason in rows:
        if state == "COMPLETED":
            assert (noted[f"begun {run}"], noted[f"ended {run}"]) == (1, 1), run
        else:
            assert state == "FAILED", (run, state)
            assert reason.startswith(("no sign of life", "it was offered")), (run, reason)
    failed = {run: reason for run, state, reason in rows if state == "FAILED"}
    # What two places of a killed worker were at. It may also have had no time to tell the end of one.
    assert (
        len(failed.keys() - {run for run in failed if noted[f"ended {run}"]}) <= 2 * kills
    ), failed


TALKS = """
    @task
    def talk(number):
        print(f"{number} begins")
        time.sleep(0.05)
        print(f"{number} ends")

    @flow
    def talks():
        for number in range(int(sys.argv[1])):
            talk(number)

    talks()
"""


@pytest.mark.parametrize(
    ("clients", "tasks", "kills"),
    [
        pytest.param(3, 100, 2, id="small"),
        pytest.param(8, 2_000, 16, id="full", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_a_session_is_heard_whole_whichever_it_speaks_to(
    pair: Callable[..., Pair],
    tmp_path: Path,
    write_script: Write,
    figures: Figures,
    clients: int,
    tasks: int,
    kills: int,
) -> None:
    both = pair()
    with (
        Balancer([backend.port for backend in both]) as balancer,
        ExitStack() as stack,
    ):
        script = write_script("talks", TALKS, backend_url=balancer.url, home=tmp_path / "home")
        running = [stack.enter_context(script.started(tasks)) for _ in range(clients)]
        for number in range(kills):
            before = int(both.rows("SELECT count(*) FROM task")[0][0])
            poll_until(
                lambda: int(both.rows("SELECT count(*) FROM task")[0][0])
                >= min(before + 20, clients * tasks),
                what="something is told",
            )
            victim = both.backends[number % 2]
            victim.kill()
            victim.start()
        for one in running:
            _, err = one.communicate(timeout=300)
            assert one.returncode == 0, err
    assert all(balancer.passed[backend.port] > 2 for backend in both)
    assert both.rows("SELECT DISTINCT state FROM run") == [("COMPLETED",)]
    for run in both.backends[0].runs():
        shown = both.backends[1].get(f"/api/runs/{run['id']}")
        lines = both.backends[1].lines(run["id"])
        assert lines == [f"{n} {what}" for n in range(tasks) for what in ("begins", "ends")]
        assert [t["state"] for t in shown["tasks"]] == ["COMPLETED"] * tasks
    assert len(both.backends[0].runs()) == clients
    assert both.rows("SELECT count(*) FROM audit WHERE action = 'inferred'") == [("0",)]
    figures(clients=clients, tasks=tasks, kills=kills, by_port=dict(balancer.passed))


QUIET = """
    @task
    def think():
        time.sleep(8)

    @flow
    def quiet():
        think()

    quiet()
"""


def test_who_speaks_to_one_is_not_failed_by_the_other(
    pair: Callable[..., Pair], write_script: Write
) -> None:
    # beats come every 3 s, and the other backend hears of them up to 1.6 s later
    both = pair(silence=4.0, sweep=0.05)
    first, second = both
    # one that is silent shows that the other backend does look
    dead = str(uuid.uuid4())
    Peer(first.port, "c").ingest(started(dead, "dead"))
    done = write_script("quiet", QUIET, backend_url=first.url).run()
    assert done.returncode == 0, done.stderr
    states = {run["flowName"]: run["state"] for run in second.runs()}
    assert states == {"quiet": "COMPLETED", "dead": "FAILED"}
    assert both.rows("SELECT run_id FROM audit WHERE action = 'inferred'") == [(dead,)]


def test_one_asks_for_what_a_client_of_the_other_does(
    pair: Callable[..., Pair], write_script: Write
) -> None:
    first, second = pair()
    script = write_script("flows", LISTENER, backend_url=first.url)
    with script.started():
        run = trigger(second, "plain")
        await_begun(second, run)
        assert cancel(second, run)["cancelling"] is True
        shown = await_end(first, run)
        assert (shown["state"], shown["reason"]) == ("CANCELLED", "cancelled from the dashboard")
        assert "after" not in second.lines(run)
        status, answer = second.request("POST", f"/api/runs/{run}/retry")
        assert status == 200, answer
        again = answer["runId"]
        await_begun(first, again)
        # neither place is free, and the poll is still told
        more = trigger(second, "graph in processes")
        await_begun(second, more)
        for one in (again, more):
            cancel(second, one)
            assert await_end(second, one)["state"] == "CANCELLED"
        (group,) = second.get("/api/clients")["clients"]
        assert group["sessions"][0]["flowCount"] == len(first.get("/api/engine/flows"))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


def test_a_webhook_is_told_by_one_and_old_runs_are_removed_by_one(
    pair: Callable[..., Pair], receiver: Receiver
) -> None:
    hook = {"url": receiver.url, "name": "chat", "allow_private": True}
    both = pair(webhooks=[hook], sweep=0.02, retain_runs=10, retain_every=0.3)
    runs = [str(uuid.uuid4()) for _ in range(60)]
    peers = [Peer(backend.port, "c") for backend in both]
    for number, run in enumerate(runs):
        at = 1_700_000_000_000 + number
        peers[number % 2].ingest(started(run, "f", t=at), ended(run, 0, "FAILED", t=at))
        if number == 30:  # what it has not sent, the other sends
            assert both.backends[0].stop() == 0
            both.backends[0].start()
            peers[0] = Peer(both.backends[0].port, "c")
    poll_until(lambda: len(receiver.got) >= len(runs), what="every run is told of")
    poll_until(lambda: both.rows("SELECT count(*) FROM run") == [("10",)], what="old runs go")
    poll_until(
        lambda: both.rows("SELECT DISTINCT state FROM notification") == [("sent",)], what="sent"
    )
    assert Counter(body["run"] for _, body in receiver.got) == Counter(runs)
    assert {run for run, in both.rows("SELECT id FROM run")} == set(runs[-10:])
    for backend in both:
        assert backend.get("/api/health")["status"] == "ok"
        assert "failed" not in backend.said() and "Traceback" not in backend.said()


LONG = """
    @task
    def step(number):
        print(number)
        time.sleep(0.05)

    @flow
    def long():
        for number in range(60):
            step(number)

    long()
"""


def test_postgres_goes_away_and_comes_back(tmp_path: Path, write_script: Write) -> None:
    with PostgresServer() as server, ExitStack() as stack:
        url = server.database()
        backends = [
            stack.enter_context(
                BackendProcess(tmp_path / name, database=url, sweep=0.05, retain_runs=100)
            )
            for name in ("first", "second")
        ]
        first, second = backends
        script = write_script("long", LONG, backend_url=first.url, home=tmp_path / "home")
        with script.started() as client:
            poll_until(first.runs)
            watching = Reader(second.port)
            stack.callback(watching.close)
            watching.until("ready")
            server.stop()
            # both take notice, and say so; long enough for every loop to try again
            for backend in backends:
                poll_until(lambda: "look at silent clients put off" in backend.said())  # noqa: B023
                status, answer = backend.request("GET", "/api/engine/runs")
                assert (status, answer["success"]) == (503, False)
                assert backend.request("GET", "/api/health")[0] == 503
            time.sleep(2.5)
            server.start()
            _, err = client.communicate(timeout=60)
            assert client.returncode == 0, err
        for backend in backends:
            poll_until(lambda: "words between backends again" in backend.said())  # noqa: B023
        watching.until("reset")
        (run,) = second.runs()
        assert run["state"] == "COMPLETED"
        assert second.lines(run["id"]) == [str(number) for number in range(60)]
        for backend in backends:
            said = backend.said()
            for once in (
                "look at silent clients put off",
                "look at silent clients resumed",
                "perfect-ear: no word between backends for now",
                "perfect-ear: words between backends again",
            ):
                assert said.count(once) == 1, said
            assert len(said.splitlines()) < 30, said
            assert "Traceback" not in backend.said()
