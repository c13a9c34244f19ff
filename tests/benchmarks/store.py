"""The store measured: ``python -m tests.benchmarks.store [--runs N] [--postgres]``.

Events per second committed over HTTP, lists of runs as pages ask for them, and the time to healthy.
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
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from perfect.server import Server, ServerSettings
from perfect.server.store import open_database
from perfect.server.store.tables import flow, run, run_tag
from tests.support.postgres import PostgresServer

FLOWS = 50
STATES = ("COMPLETED",) * 17 + ("FAILED", "FAILED", "CANCELLED")
NEWEST = 1_760_000_000_000
QUERIES = (
    "limit=50",
    "state=FAILED&limit=50",
    "flow=flow-7&limit=50",
    "flow=flow-7&state=FAILED&limit=50",
    "client=team-3&limit=50",
    "client=team-3&state=CANCELLED&limit=50",
    "tag=env:prod&limit=50",
    "tag=rare:yes&limit=50",
    "q=flow-1&limit=50",
    "state=RUNNING&limit=50",
    "from=2025-09-30T00:00:00Z&to=2025-10-01T00:00:00Z&limit=50",
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
                    | {"progress": 100.0, "inferred": 0, "settled": 1, "tasks": 0, "lines": 0}
                )
                tagged.append({"name": "env", "value": "prod", "at": at, "run": key})
                if key % 5_000 == 0:
                    tagged.append({"name": "rare", "value": "yes", "at": at, "run": key})
            connection.execute(run.insert(), rows)
            connection.execute(run_tag.insert(), tagged)
    if database.dialect.name == "postgresql":
        with database.connect_writer() as connection, connection.begin():
            connection.exec_driver_sql(
                "select setval(pg_get_serial_sequence('run', 'key'), (select max(key) from run))"
            )
            connection.exec_driver_sql("analyze")
    database.close()


@contextmanager
def serving(where: str) -> Iterator[int]:
    """A backend on that database; yields its port."""
    server = Server(ServerSettings(db=where, port=0))
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


def list_times(port: int, times: int = 40) -> dict[str, tuple[float, float]]:
    """p50 and p95 in ms of each list."""
    found = {}
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        for query in QUERIES:
            taken = []
            for _ in range(times):
                begin = time.perf_counter()
                connection.request("GET", f"/api/runs?{query}")
                response = connection.getresponse()
                body = response.read()
                taken.append((time.perf_counter() - begin) * 1000)
                assert response.status == 200, body
            taken.sort()
            found[query] = (statistics.median(taken), taken[int(len(taken) * 0.95) - 1])
    return found


def measure(where: str, runs: int, say: Callable[[str], None] = print) -> None:
    """Fill a new database and say the figures."""
    fill(where, runs)
    begin = time.perf_counter()
    with serving(where) as port:
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            connection.request("GET", "/api/health")
            assert connection.getresponse().read()
        say(f"start to healthy with {runs:,} runs: {(time.perf_counter() - begin) * 1000:.0f} ms")
        for query, (median, late) in list_times(port).items():
            say(f"  {query:62} p50 {median:6.1f} ms  p95 {late:6.1f} ms")
        rate = ingest_rate(port)
        say(f"ingest: {rate:,.0f} events/s")


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
