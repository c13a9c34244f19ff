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
    ],
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
