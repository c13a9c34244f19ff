"""Pages of runs against what a look at every run gives."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perfect.server.store import Database, lists, open_database
from perfect.server.store.records import RunRecord
from perfect.server.store.tables import flow, run, run_tag
from tests.support.postgres import PostgresServer

FLOWS = 9
RUNS = 400
STATES = ("COMPLETED", "FAILED", "RUNNING", "CANCELLED")


@dataclass
class Filled:
    database: Database
    rows: list[dict[str, Any]]


@pytest.fixture(scope="module")
def filled(
    store: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Filled]:
    """Runs of few flows, several at the same time."""
    if store == "sqlite":
        where = str(tmp_path_factory.mktemp("lists") / "perfect.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        where = server.database()
    chance = random.Random(5)
    rows, tagged = [], []
    for key in range(1, RUNS + 1):
        at = 1_000 + chance.randrange(60)
        of = chance.choice((None, *range(FLOWS)))
        tags = {"env": chance.choice(("prod", "test"))} if key % 3 else {}
        tags |= {"rare": "yes"} if key % 50 == 0 else {}
        row = {"key": key, "id": f"{chance.choice(('abcd', 'abce', 'f'))}{key:05}-x"}
        row |= {"flow_id": None if of is None else f"f{of}", "flow_name": f"flow {of}"}
        row |= {"client": "nobody" if of is None else f"c{of % 2}", "tags": json.dumps(tags)}
        row |= {"state": chance.choice(STATES), "at": at}
        row |= {"ended": chance.choice((None, at + chance.randrange(9)))}
        row |= {"trigger": "call", "configuration": "", "created": 1, "modified": 1}
        row |= dict.fromkeys(("progress", "inferred", "settled", "tasks", "lines"), 0)
        rows.append(row)
        tagged += [{"name": n, "value": v, "at": row["at"], "run": key} for n, v in tags.items()]
    database = open_database(where)
    with database.connect_writer() as connection, connection.begin():
        connection.execute(
            flow.insert(),
            [
                {"id": f"f{of}", "client": f"c{of % 2}", "name": f"flow {of}", "description": ""}
                | {"tags": "{}", "tasks": "[]", "created": 1, "updated": 1}
                for of in range(FLOWS)
            ],
        )
        connection.execute(run.insert(), rows)
        connection.execute(run_tag.insert(), tagged)
    yield Filled(database, rows)
    database.close()


def _matches(row: dict[str, Any], wanted: lists.Filter) -> bool:
    tags = json.loads(row["tags"])
    return (
        (wanted.states is None or row["state"] in wanted.states)
        and (wanted.flows is None or row["flow_id"] in wanted.flows)
        and (wanted.client is None or row["client"] == wanted.client)
        and (wanted.tag is None or wanted.tag[1] in (tags.get(wanted.tag[0], ""), None))
        and (wanted.tag is None or wanted.tag[0] in tags)
        and (wanted.since is None or row["at"] >= wanted.since)
        and (wanted.until is None or row["at"] < wanted.until)
        and (wanted.ended_after is None or (row["ended"] or 0) > wanted.ended_after)
        and (
            wanted.text is None
            or row["flow_id"] in wanted.text_flows
            or (len(wanted.text) >= 4 and row["id"].startswith(wanted.text))
        )
    )


_ids = st.none() | st.sets(st.sampled_from([f"f{of}" for of in range(FLOWS)]))
_times = st.none() | st.integers(995, 1_065)
_filters = st.builds(
    lists.Filter,
    states=st.none() | st.sets(st.sampled_from(STATES), min_size=1),
    flows=_ids,
    client=st.sampled_from((None, "c0", "c1", "nobody")),
    tag=st.sampled_from((None, ("env", "prod"), ("env", None), ("rare", "yes"))),
    text=st.sampled_from((None, None, None, "abc", "abcd", "abce001")),
    text_flows=_ids.map(lambda ids: ids or ()),
    since=_times,
    until=_times,
    ended_after=_times,
)


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    wanted=_filters,
    limit=st.sampled_from((1, 7, 1_000)),
    near=st.sampled_from((1, 20, 500)),
    before=st.none() | st.tuples(st.integers(995, 1_065), st.integers(1, RUNS)),
)
def test_a_page_is_what_a_look_at_every_run_gives(
    filled: Filled,
    monkeypatch: pytest.MonkeyPatch,
    wanted: lists.Filter,
    limit: int,
    near: int,
    before: tuple[int, int] | None,
) -> None:
    # so many that begin with the text are looked at
    monkeypatch.setattr(lists, "_NEAR", near if wanted.text is None else 500)
    with filled.database.read() as connection:
        found = lists.page(connection, wanted, before, limit)
    places = [
        (row["at"], row["key"])
        for row in filled.rows
        if _matches(row, wanted) and (before is None or (row["at"], row["key"]) < before)
    ]
    assert [(record.at, record.key) for record in found] == sorted(places, reverse=True)[:limit]


@pytest.mark.parametrize(
    "wanted",
    [
        lists.Filter(),
        lists.Filter(states=["FAILED", "RUNNING"]),
        lists.Filter(tag=("env", "prod")),
        lists.Filter(tag=("env", None)),
        lists.Filter(flows=[f"f{of}" for of in range(FLOWS)], states=STATES),
    ],
    ids=str,
)
def test_pages_join_without_a_gap(filled: Filled, wanted: lists.Filter) -> None:
    def read(before: tuple[int, int] | None, limit: int) -> list[RunRecord]:
        with filled.database.read() as connection:
            return lists.page(connection, wanted, before, limit)

    paged: list[RunRecord] = []
    while part := read((paged[-1].at, paged[-1].key) if paged else None, 37):
        paged += part
    assert len(paged) > 100 and paged == read(None, RUNS)
