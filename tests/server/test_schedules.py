"""Schedules over HTTP: registered by clients, shown, paused, and run on time."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from perfect.server import ServerSettings
from tests.server.conftest import Running
from tests.server.peers import Peer, started, wait_until
from tests.server.streams import Reader
from tests.support.postgres import PostgresServer


def schedules(peer: Peer) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = peer.get("/api/schedules").ok()["schedules"]
    return listed


def of(peer: Peer, flow: dict[str, Any]) -> dict[str, Any]:
    (found,) = [one for one in schedules(peer) if one["flowId"] == flow["id"]]
    return found


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_schedule_is_shown_with_its_next_times(shared: Running) -> None:
    peer = shared.peer("client")
    given = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "catchup": "latest"}
    flow = peer.register("nightly", "t", schedule=given)
    assert flow["schedule"] == {**given, "overlap": "allow"}
    shown = of(peer, flow)
    assert shown["flowName"] == "nightly" and shown["clientId"] == "client"
    assert shown["expression"] == shown["cron"] == "30 2 * * *" and shown["everySeconds"] is None
    assert (shown["timezone"], shown["catchup"], shown["overlap"]) == (
        *("Europe/Berlin", "latest", "allow"),
    )
    assert shown["paused"] is False and shown["slots"] == []
    times = [moment(text) for text in shown["next"]]
    assert len(times) == 5 and times == sorted(times) and times[0] > datetime.now(UTC)
    assert flow["nextFire"] == shown["next"][0]
    (listed,) = [one for one in peer.get("/api/engine/flows").ok() if one["id"] == flow["id"]]
    assert listed["nextFire"] == flow["nextFire"]


def test_a_deployed_client_registers_a_cron_string_or_null(shared: Running) -> None:
    peer = shared.peer()
    flow = peer.register("plain", schedule="0 6 * * *")
    assert flow["schedule"] == "0 6 * * *"
    shown = of(peer, flow)
    assert (shown["timezone"], shown["catchup"], shown["overlap"]) == ("UTC", "skip", "allow")
    assert {moment(text).hour for text in shown["next"]} == {6}
    again = peer.register("plain", schedule=None)
    assert again["id"] == flow["id"] and again["schedule"] is None and again["nextFire"] is None
    assert not [one for one in schedules(peer) if one["flowId"] == flow["id"]]
    assert "nextFire" in peer.register("without")


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("0 0 31 4 *", "day of month"),
        ({"cron": "0 0 * * *", "timezone": "Europe/Atlantis"}, "timezone='Europe/Atlantis'"),
        ({"every_seconds": 0}, "interval"),
        ({"cron": "0 0 * * *", "catchup": "never"}, "catchup='never'"),
        ({"cron": "0 0 * * *", "overlap": "never"}, "overlap='never'"),
        ({}, "cron and every_seconds"),
        (7, "is not text"),
        (["0 0 * * *", "0 6 * * *"], "a flow has one schedule"),
        ({"cron": "0 0 * * *", "configuration": 7}, "schedule.configuration=7"),
        ({"cron": "0 0 * * *", "parameters": [1]}, "schedule.parameters=[1]"),
        ({"cron": "0 0 * * *", "parameters": {"x": "y" * (1 << 20)}}, "schedule.parameters: has"),
        ({"cron": "0 0 * * *", "parameters": {"key": "********"}}, "hold a secret"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_schedule_is_refused_by_its_name(shared: Running, schedule: Any, said: str) -> None:
    peer = shared.peer("client")
    refused = peer.post("/api/flows", {"name": "wrong", "schedule": schedule}).refused(400)
    assert refused["error"].startswith("schedule") and said in refused["error"]


def test_pausing_and_resuming(shared: Running) -> None:
    peer = shared.peer("client")
    flow = peer.register("paused", schedule="0 0 * * *")
    path = f"/api/schedules/{of(peer, flow)['id']}"
    shown = peer.send("PATCH", path, {"paused": True}).ok()["schedule"]
    assert shown == of(peer, flow)
    assert shown["paused"] is True and shown["next"] == []
    assert peer.register("paused", schedule="0 0 * * *")["nextFire"] is None
    assert of(peer, flow)["paused"] is True
    shown = peer.send("PATCH", path, {"paused": False}).ok()["schedule"]
    assert shown["paused"] is False and len(shown["next"]) == 5


def test_who_watches_hears_when_the_next_run_is_due(shared: Running) -> None:
    peer = shared.peer("client")
    with closing(Reader(shared.port)) as stream:
        stream.until("ready")
        flow = peer.register("watched", schedule="0 0 * * *")
        stream.until("flow", id=flow["id"], nextFire=flow["nextFire"])
        path = f"/api/schedules/{of(peer, flow)['id']}"
        peer.send("PATCH", path, {"paused": True}).ok()
        stream.until("flow", id=flow["id"], nextFire=None)
        peer.send("PATCH", path, {"paused": False}).ok()
        stream.until("flow", id=flow["id"], nextFire=flow["nextFire"])


SCHEMA = {
    "type": "object",
    "properties": {"region": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["region"],
    "additionalProperties": False,
}


def test_a_schedule_says_what_its_runs_are_given(shared: Running) -> None:
    peer = shared.peer("given")
    given = {
        "every_seconds": 1,
        "overlap": "skip",
        "configuration": "release",
        "parameters": {"region": "eu"},
    }
    flow = peer.register("with values", "t", schedule=given, parameters=SCHEMA)
    assert flow["schedule"] == {"timezone": "UTC", "catchup": "skip", **given}
    shown = of(peer, flow)
    assert (shown["configuration"], shown["parameters"]) == ("release", {"region": "eu"})
    request = wait_until(lambda: peer.poll(slots=1))
    assert (request["configuration"], request["parameters"], request["trigger"]) == (
        *("release", {"region": "eu"}, "schedule"),
    )
    run = peer.run(request["run_id"])
    assert (run["configuration"], run["parameters"]) == ("release", {"region": "eu"})
    plain = peer.register("with values", "t", schedule="0 0 1 1 *")
    assert (of(peer, plain)["configuration"], of(peer, plain)["parameters"]) == (
        *("development", None),
    )


@pytest.mark.parametrize(
    ("parameters", "field"),
    [({"region": 5}, "region"), ({"region": "eu", "m": 1}, "m"), ({}, "region"), (None, "region")],
)
def test_a_schedule_that_gives_what_the_flow_does_not_take_is_refused(
    shared: Running, parameters: Any, field: str
) -> None:
    peer = shared.peer("client")
    schedule: Any = "0 0 * * *" if parameters is None else {"cron": "0 0 * * *"}
    if parameters is not None:
        schedule["parameters"] = parameters
    body = {"name": "unfit", "schedule": schedule, "parameters": SCHEMA}
    refused = peer.post("/api/flows", body).refused(400)
    assert refused["error"].startswith(f"schedule.parameters.{field}: ")
    assert "unfit" not in [flow["name"] for flow in peer.get("/api/engine/flows").ok()]


def test_schedules_are_listed_page_by_page_and_by_what_is_asked_for(shared: Running) -> None:
    names = ["a", "a b", "ä", "b", "日本"]
    peers = [shared.peer(client) for client in ("pages", "pages too")]
    flows = [peer.register(name, schedule="0 0 * * *") for name in names for peer in peers]

    def walk(query: str) -> list[tuple[str, str]]:
        seen: list[tuple[str, str]] = []
        cursor = ""
        while True:
            page = peers[0].get(f"/api/schedules?{query}{cursor}").ok()
            seen += [(one["flowName"], one["clientId"]) for one in page["schedules"]]
            if page["next"] is None:
                return seen
            assert len(page["schedules"]) == 3
            cursor = f"&cursor={page['next']}"

    mine = [place for place in walk("limit=3") if place[1].startswith("pages")]
    assert mine == sorted((name, client) for name in names for client in ("pages", "pages too"))
    assert walk("limit=3&client=pages") == [(name, "pages") for name in sorted(names)]
    assert walk("limit=3&flow=b&client=pages") == [("b", "pages")]
    assert walk(f"limit=3&flow={flows[0]['id']}") == [("a", "pages")]
    paused = f"/api/schedules/{of(peers[0], flows[0])['id']}"
    peers[0].send("PATCH", paused, {"paused": True}).ok()
    assert walk("limit=3&client=pages&paused=true") == [("a", "pages")]
    assert ("a", "pages") not in walk("limit=3&paused=false")
    one = peers[0].get(paused).ok()["schedule"]
    assert one == of(peers[0], flows[0])


@pytest.mark.parametrize(
    "query", ["cursor=nix", "cursor=WzFd", "cursor=%C3%A4", "limit=0", "limit=1001", "paused=maybe"]
)
def test_what_schedules_cannot_be_asked_for_is_refused(shared: Running, query: str) -> None:
    peer = shared.peer("client")
    name = query.partition("=")[0]
    refused = peer.get(f"/api/schedules?{query}").refused(400)
    assert refused["error"].startswith(name)


def test_slots_are_listed_page_by_page_with_what_became_of_them(shared: Running) -> None:
    peer = shared.peer("slots")
    flow = peer.register("slots", "t", schedule={"every_seconds": 1, "overlap": "skip"})
    wait_until(lambda: len(of(peer, flow)["slots"]) >= 3)
    path = f"/api/schedules/{of(peer, flow)['id']}"
    peer.send("PATCH", path, {"paused": True}).ok()
    every = peer.get(f"{path}/slots").ok()
    assert every["next"] is None
    assert every["slots"][:10] == of(peer, flow)["slots"]
    first = peer.get(f"{path}/slots?limit=2").ok()
    second = peer.get(f"{path}/slots?limit=2&cursor={first['next']}").ok()
    assert first["slots"] + second["slots"] == every["slots"][:4]
    ran = peer.get(f"{path}/slots?fired=true").ok()["slots"]
    assert ran == [slot for slot in every["slots"] if slot["runId"]] and len(ran) == 1
    left_out = peer.get(f"{path}/slots?fired=false").ok()["slots"]
    assert left_out == [slot for slot in every["slots"] if slot["reason"]]
    assert all("still active" in slot["reason"] for slot in left_out)
    peer.register("slots", schedule=None)
    assert peer.get(f"{path}/slots").refused(404) and peer.get(path).refused(404)


def test_who_watches_hears_of_everything_that_becomes_of_a_schedule(shared: Running) -> None:
    peer = shared.peer("seen")
    with closing(Reader(shared.port)) as stream:
        stream.until("ready")
        flow = peer.register("seen", schedule="0 0 * * *")
        shown = of(peer, flow)
        stream.until("schedule", **shown)
        path = f"/api/schedules/{shown['id']}"
        peer.send("PATCH", path, {"paused": True}).ok()
        stream.until("schedule", id=shown["id"], paused=True, next=[])
        peer.send("PATCH", path, {"paused": False}).ok()
        stream.until("schedule", id=shown["id"], paused=False, next=shown["next"])
        peer.register("seen", schedule={"cron": "0 0 * * *", "parameters": {"n": 1}})
        stream.until("schedule", id=shown["id"], parameters={"n": 1}, cron="0 0 * * *")
        peer.register("seen", schedule="every 1 s")
        stream.until("schedule", id=shown["id"], everySeconds=1, parameters=None)
        while True:  # fired
            slots = stream.until("schedule", id=shown["id"])[-1].data["slots"]
            if slots and slots[0]["runId"]:
                break
        peer.register("seen", schedule=None)
        stream.until("schedule", id=shown["id"], deleted=True)


def test_what_nobody_takes_waits_and_then_expires(launch: Callable[..., Running]) -> None:
    backend = launch(request_expiry=1.5)
    peer = backend.peer("left")
    flow = peer.register("left alone", schedule={"every_seconds": 1, "overlap": "skip"})
    slot = wait_until(lambda: of(peer, flow)["slots"])[-1]
    run = peer.run(slot["runId"])
    assert run["state"] == "PENDING" and run["trigger"] == "schedule"
    ended = wait_until(lambda: (r := peer.run(slot["runId"]))["state"] == "FAILED" and r)
    assert "no client has taken it within 1.5 s" in ended["reason"]
    # and the schedule goes on
    wait_until(lambda: [s for s in of(peer, flow)["slots"] if s["runId"] not in (None, run["id"])])


@pytest.mark.parametrize("body", [{}, {"paused": "yes"}, {"paused": None}, {"paused": 1}])
def test_a_pause_is_true_or_false(shared: Running, body: Any) -> None:
    peer = shared.peer("client")
    flow = peer.register("asked", schedule="0 0 * * *")
    path = f"/api/schedules/{of(peer, flow)['id']}"
    assert "paused" in peer.send("PATCH", path, body).refused(400)["error"]


def test_an_unknown_schedule_is_not_found(shared: Running) -> None:
    answer = shared.peer("client").send("PATCH", "/api/schedules/nix", {"paused": True})
    assert "'nix'" in answer.refused(404)["error"]


def test_a_slot_goes_to_a_client_that_waits(shared: Running) -> None:
    peer = shared.peer("waiting")
    flow = peer.register("secondly", "t", schedule={"every_seconds": 1, "overlap": "skip"})
    given = wait_until(lambda: peer.poll(slots=1))
    assert given["flow_name"] == "secondly" and given["configuration"] == "development"
    run = peer.run(given["run_id"])
    assert run["trigger"] == "schedule" and run["flowId"] == flow["id"]
    slot = wait_until(lambda: of(peer, flow)["slots"])[-1]
    assert slot["runId"] == given["run_id"] and slot["reason"] is None
    late = moment(run["createdAt"]) - moment(slot["slot"])
    assert late.total_seconds() >= 0
    # it is not over: the next slot is left out, and says why
    skipped = wait_until(lambda: [s for s in of(peer, flow)["slots"] if s["runId"] is None])
    assert "still active" in skipped[0]["reason"]
    peer.register("secondly", "t", schedule=None)


def test_a_scheduled_run_stays_one_whatever_its_client_says_of_it(shared: Running) -> None:
    peer = shared.peer("older")
    peer.register("told", "t", schedule={"every_seconds": 1, "overlap": "skip"})
    given = wait_until(lambda: peer.poll(slots=1))
    claim = f"/api/execution-requests/{given['run_id']}/claim"
    peer.post(claim, {"lease": given["lease"]}).ok()
    event = {**started(given["run_id"], "told", "t"), "trigger": "request"}
    assert peer.ingest(event)["rejected"] == []
    run = peer.run(given["run_id"])
    assert (run["state"], run["trigger"]) == ("RUNNING", "schedule")
    # what came with the run has no schedule, and takes none away
    assert [one["flowName"] for one in schedules(peer) if one["clientId"] == "older"] == ["told"]
    peer.register("told", "t", schedule=None)


def test_a_slot_without_a_client_waits_visibly(shared: Running) -> None:
    peer = shared.peer("absent")
    flow = peer.register("lonely", schedule={"every_seconds": 1, "overlap": "skip"})
    slot = wait_until(lambda: of(peer, flow)["slots"])[-1]
    assert peer.run(slot["runId"])["state"] == "PENDING"
    peer.register("lonely", schedule=None)


@pytest.mark.parametrize("catchup", ["skip", "latest", "all"])
def test_what_was_missed_while_the_backend_was_away(
    launch: Callable[..., Running], catchup: str
) -> None:
    backend = launch(schedule_grace=0.001)
    peer = backend.peer("client")
    flow = peer.register("missed", schedule={"every_seconds": 1, "catchup": catchup})
    wait_until(lambda: of(peer, flow)["slots"])
    backend.server.stop()
    away = time.time()
    wait_until(lambda: time.time() > away + 3.2)  # slots go by
    backend = launch(schedule_grace=0.001)
    peer = backend.peer("client")
    missed = wait_until(
        lambda: [
            slot
            for slot in of(peer, flow)["slots"]
            if away + 0.2 < moment(slot["slot"]).timestamp() < away + 3.2
        ][::-1]
    )
    assert len(missed) >= 2
    ran = [slot["runId"] is not None for slot in missed]
    if catchup == "all":
        assert all(ran)
    else:
        reason = f"catchup={catchup}"
        assert not any(ran[:-1]) and all(reason in slot["reason"] for slot in missed[:-1])


@pytest.mark.postgres
def test_two_backends_on_one_postgresql_run_each_slot_once(
    postgres: PostgresServer,
) -> None:
    database = postgres.database()
    settings = ServerSettings(db=database, port=0, poll=0.3)
    first, second = Running(settings), Running(settings)
    try:
        _share(first, second)
    finally:
        first.server.stop()
        second.server.stop()


def _share(first: Running, second: Running) -> None:
    peer = first.peer("client")
    flow = peer.register("shared", schedule={"every_seconds": 1, "catchup": "all"})
    other = second.peer("client")
    found = wait_until(lambda: len(slots := of(other, flow)["slots"]) >= 4 and slots)
    times = [moment(slot["slot"]).timestamp() for slot in found]
    assert times == [times[0] - n for n in range(len(times))]
    assert all(slot["runId"] for slot in found)
    peer.send("PATCH", f"/api/schedules/{of(peer, flow)['id']}", {"paused": True}).ok()
    listed = other.get("/api/runs?limit=1000").ok()["runs"]
    entered = {slot["runId"] for slot in of(other, flow)["slots"] if slot["runId"]}
    assert {run["id"] for run in listed} >= entered
    assert len(listed) == len(entered) or len(entered) == 10
