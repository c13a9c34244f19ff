"""The store measured: ``python -m tests.benchmarks.store [--runs N] [--postgres]``.

The time to healthy, lists of runs as pages ask for them, pages of statistics and of single runs, and events per
second committed over HTTP, alone and while retention removes runs. Of the runs, the newest have tasks and logs.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy

from perfect.server import Server, ServerSettings
from perfect.server.store import open_database
from perfect.server.store.tables import flow, log, run, run_tag, statistic, task
from tests.support.postgres import PostgresServer

FLOWS = 50
STATES = ("COMPLETED",) * 17 + ("FAILED", "FAILED", "CANCELLED")
NEWEST = 1_760_000_000_000
# so many of the newest runs have so many tasks, and as many lines
WHOLE = 5_000
TASKS = 10
LISTS = (
    "",
    "state=RUNNING,RETRYING,PENDING&limit=50",
    "state=FAILED",
    "state=RUNNING,RETRYING,PENDING",
    "flow=flow-7",
    "flow=flow-7&state=FAILED",
    "client=team-3",
    "client=team-3&state=CANCELLED,FAILED",
    "client=nobody",
    "flow=flow-7&client=team-3",
    "tag=env:prod",
    "tag=env",
    "tag=rare:yes",
    "tag=env:prod&state=RUNNING",
    "tag=env:prod&flow=flow-7",
    "q=flow",
    "q=flow-1",
    "q=flow-1&state=FAILED",
    "q=nothing",
    "q=1a2b3c",
    "from=2025-09-30T00:00:00Z&to=2025-10-01T00:00:00Z",
    "flow=flow-7&to=2024-10-01T00:00:00Z",
    "cursor=1730000000000-500000",
)
PAGES = (
    # what the pages of the dashboard ask for
    "/",
    "/api/version",
    "/api/engine/flows",
    "/api/clients",
    "/api/schedules?limit=1000",
    "/api/runs/{newest}?tasks=0&lines=0",
    "/api/runs/{newest}/tasks?after=-1&limit=20000",
    "/api/runs/{newest}/logs?after=0&limit=100",
    "/api/runs/{newest}/logs/pages?size=100&after=0&counted=0",
    "/api/statistics/flows",
    "/api/statistics/flows/flow-7",
    "/api/statistics/task-history/flow-7/task%203?limit=200",
    # what else there is
    "/api/statistics",
    "/api/statistics/flow-history/flow-7",
    "/api/statistics/task-history/flow-7/unknown",
    "/api/reports/flow/flow-7",
    "/api/engine/runs?limit=20",
    "/api/runs/{newest}",
    "/reports/{newest}.html",
    "/metrics",
)


def fill(where: str, number: int) -> None:
    """Put so many runs into a database, a minute apart, by far not through the front door."""
    chance = random.Random(7)
    database = open_database(where)
    tags = {"env": "prod"}
    with database.connect_writer() as connection, connection.begin():
        connection.execute(
            flow.insert(),
            [
                {"id": f"f{i}", "client": f"team-{i % 5}", "name": f"flow-{i}", "description": ""}
                | {"tags": json.dumps(tags), "tasks": "[]", "created": 1, "updated": 1}
                for i in range(FLOWS)
            ],
        )
        names = ("", *(f"task {index}" for index in range(TASKS)))
        connection.execute(
            statistic.insert(),
            [
                {"flow_id": f"f{i}", "task": name, "samples": number, "mean": 500.0, "m2": 9.0}
                | {"runs": number, "updated": 1}
                for i in range(FLOWS)
                for name in names
            ],
        )
        for first in range(0, number, 10_000):
            rows, tagged = [], []
            for key in range(first + 1, min(first + 10_000, number) + 1):
                at = NEWEST - (number - key) * 60_000
                of = chance.randrange(FLOWS)
                rows.append(
                    {"key": key, "id": str(uuid.UUID(int=chance.getrandbits(128)))}
                    | {"flow_id": f"f{of}", "flow_name": f"flow-{of}", "client": f"team-{of % 5}"}
                    | {"session": "s", "state": chance.choice(STATES), "trigger": "call"}
                    | {"configuration": "development", "tags": json.dumps(tags), "at": at}
                    | {"created": at, "started": at, "ended": at + 5_000, "modified": at}
                    | {"progress": 100.0, "inferred": 0, "settled": 1}
                    | dict.fromkeys(("tasks", "lines"), TASKS if key > number - WHOLE else 0)
                )
                tagged.append({"name": "env", "value": "prod", "at": at, "run": key})
                if key % 5_000 == 0:
                    tagged.append({"name": "rare", "value": "yes", "at": at, "run": key})
            connection.execute(run.insert(), rows)
            connection.execute(run_tag.insert(), tagged)
        for key in range(max(1, number - WHOLE + 1), number + 1):
            both = [(index, {"run": key}) for index in range(TASKS)]
            connection.execute(
                task.insert(),
                [
                    of
                    | {"idx": index, "name": f"task {index}", "state": "COMPLETED", "attempt": 1}
                    | {"started": NEWEST, "ended": NEWEST + 500, "duration": 500, "estimate": 500}
                    | {"crucial": 1, "inferred": 0, "slow": 0}
                    for index, of in both
                ],
            )
            connection.execute(
                log.insert(),
                [
                    of
                    | {"seq": index + 1, "task": index, "stream": "stdout", "at": NEWEST}
                    | {"text": f"line {index} of a log"}
                    for index, of in both
                ],
            )
    if database.dialect.name == "postgresql":
        with database.connect_writer() as connection, connection.begin():
            connection.exec_driver_sql(
                "select setval(pg_get_serial_sequence('run', 'key'), (select max(key) from run))"
            )
            connection.exec_driver_sql("analyze")
    database.close()


@contextmanager
def serving(where: str, **settings: Any) -> Iterator[int]:
    """A backend on that database; yields its port."""
    server = Server(ServerSettings(db=where, port=0, **settings))
    server.start()
    try:
        yield int(server.url.rsplit(":", 1)[1])
    finally:
        server.stop()


def ingest_rate(port: int, events: int = 100_000, batch: int = 4_000) -> float:
    """Events per second that are committed, from one client that sends one batch after another."""
    one = str(uuid.uuid4())
    bodies, seq, index = [], 0, 0
    base = {"run": one, "t": NEWEST}
    while seq < events:
        found = []
        for _ in range(batch // 2):
            task = base | {
                "type": "task",
                "index": index,
                "name": f"task {index % 20}",
                "attempt": 1,
            }
            found.append({"seq": seq + 1, **task, "state": "RUNNING", "started": NEWEST})
            found.append({"seq": seq + 2, **task, "state": "COMPLETED", "ended": NEWEST + 5})
            seq, index = seq + 2, index + 1
        bodies.append(json.dumps({"events": found}).encode())
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"X-Perfect-Client": "bench", "X-Perfect-Session": str(uuid.uuid4())}
    with closing(connection):
        begin = time.perf_counter()
        for body in bodies:
            connection.request("POST", "/api/ingest", body, headers)
            answer = json.loads(connection.getresponse().read())
            assert answer["rejected"] == [], answer
        return seq / (time.perf_counter() - begin)


def page_times(
    port: int, paths: Iterable[str], times: int = 40
) -> Iterator[tuple[str, float, float, float]]:
    """p50 and p95 of each path, and the CPU time of one request on both sides; in ms."""
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:

        def get(path: str) -> bytes:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, body
            return body

        newest = json.loads(get("/api/runs?limit=1"))["runs"][0]["id"]
        for path in paths:
            taken, used = [], time.process_time()
            for _ in range(times):
                begin = time.perf_counter()
                get(path.format(newest=newest))
                taken.append((time.perf_counter() - begin) * 1000)
            used = (time.process_time() - used) / times * 1000
            taken.sort()
            yield path, statistics.median(taken), taken[int(len(taken) * 0.95) - 1], used


def all_times(port: int, times: int = 40) -> Iterator[str]:
    """The figures of every list and page, as lines to print."""
    paths = [*(f"/api/runs?{query}" for query in LISTS), *PAGES]
    for path, median, late, used in page_times(port, paths, times):
        yield f"  {path:62} p50 {median:6.1f} ms  p95 {late:6.1f} ms  CPU {used:6.1f} ms"


def measure(where: str, runs: int, say: Callable[[str], None] = print) -> None:
    """Fill a new database and say the figures."""
    fill(where, runs)
    begin = time.perf_counter()
    with serving(where) as port:
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            connection.request("GET", "/api/health")
            assert connection.getresponse().read()
        say(f"start to healthy with {runs:,} runs: {(time.perf_counter() - begin) * 1000:.0f} ms")
        for line in all_times(port):
            say(line)
        for _ in range(3):
            say(f"ingest: {ingest_rate(port):,.0f} events/s")
    # the oldest runs are too many; a pass begins every 50 ms
    with serving(where, retain_runs=max(1, runs // FLOWS - 500), retain_every=0.05) as port:
        before = _count(where)
        rate = ingest_rate(port, 400_000)
        say(f"ingest while {before - _count(where):,} runs are removed: {rate:,.0f} events/s")


def _count(where: str) -> int:
    """How many runs there are, whoever has the database open."""
    url = where if "://" in where else f"sqlite:///{where}"
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        number = connection.execute(sqlalchemy.select(sqlalchemy.func.count(run.c.key))).scalar()
    engine.dispose()
    return int(number or 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=50_000)
    parser.add_argument("--postgres", action="store_true", help="on a private PostgreSQL")
    options = parser.parse_args()
    if options.postgres:
        with PostgresServer(durable=True) as server:
            measure(server.database(), options.runs)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(str(Path(folder) / "perfect.db"), options.runs)


if __name__ == "__main__":
    main()
