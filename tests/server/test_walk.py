"""Every route and stream of the application, whoever adds one: who is let in, and who is not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from fastapi.routing import iter_route_contexts

from perfect.server import ServerSettings, create_app
from tests.server.conftest import Running
from tests.server.streams import Reader

FULL, READ = "the-full-token", "the-read-token"
# what needs no token: the form, and the style it is shown in
PUBLIC = {("GET", "/login"), ("POST", "/login"), ("GET", "/style.css")}
# GETs that are not for those who may only read: one hands out work, one says who did what
NOT_FOR_READERS = {("GET", "/api/execution-requests"), ("GET", "/api/audit")}


# whose GET has no end, or hands out work
ENDLESS = {"/api/stream", "/api/execution-requests"}


class Address(NamedTuple):
    method: str
    path: str


def addresses() -> Iterator[Address]:
    app = create_app(ServerSettings(db=Path("walk.db")))
    try:
        for context in iter_route_contexts(app.routes):
            assert context.path is not None
            for method in sorted(context.methods or ()):
                # an id that nothing has; in the place of a number, a number
                path = re.sub(r"\{index\}", "0", context.path)
                yield Address(method, re.sub(r"\{[^}]+\}", "nothing", path))
    finally:
        app.state.backend.database.close()


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[Address]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("walk"))
        found = sorted(set(addresses()))
    paths = {address.path for address in found}
    assert len(found) > 30 and {"/api/stream", "/api/ingest", "/", "/openapi.json"} <= paths
    return found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("guarded")
    settings = ServerSettings(
        db=folder / "perfect.db", port=0, poll=0.1, token=FULL, read_token=READ
    )
    backend = Running(settings)
    yield backend
    backend.server.stop()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_without_a_token_nothing_is_answered(guarded: Running, routes: list[Address]) -> None:
    for method, path in routes:
        answer = guarded.peer().send(method, path)
        if (method, path) in PUBLIC:
            assert answer.status in (200, 401), (method, path)
        elif method == "HEAD":
            assert answer.status == 401
        else:
            answer.refused(401)


def test_a_page_shows_the_form_instead(guarded: Running, routes: list[Address]) -> None:
    shown = 0
    for method, path in routes:
        if method != "GET" or path.startswith("/api/") or (method, path) in PUBLIC:
            continue
        answer = guarded.peer().get(path, headers={"Accept": "text/html"})
        assert answer.status == 401 and f'name="next" value="{path}"' in answer.text, path
        shown += 1
    assert shown >= 3


def test_the_read_token_changes_nothing(guarded: Running, routes: list[Address]) -> None:
    for method, path in routes:
        address = (method, path)
        if path == "/api/stream" or path in ("/login", "/logout"):
            continue
        answer = guarded.peer().send(method, path, headers=bearer(READ))
        if method not in ("GET", "HEAD") or address in NOT_FOR_READERS:
            answer.refused(403)
        else:
            assert answer.status in (200, 404), (method, path, answer.body)


@pytest.mark.parametrize("token", [FULL, READ])
def test_a_forged_host_is_refused_in_spite_of_the_token(
    guarded: Running, routes: list[Address], token: str
) -> None:
    for method, path in routes:
        for forged in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            answer = guarded.peer().send(method, path, headers=bearer(token) | forged)
            assert answer.status == 403, (method, path, forged)


def test_another_site_may_lead_here_and_nothing_else(
    guarded: Running, routes: list[Address]
) -> None:
    for site in ("cross-site", "same-site"):
        for method, path in routes:
            headers = bearer(FULL) | {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
            assert guarded.peer().send(method, path, headers=headers).status == 403
            headers["Sec-Fetch-Mode"] = "navigate"
            leads = method in ("GET", "HEAD") and not path.startswith("/api/")
            answer = guarded.peer().send(method, path, headers=headers)
            assert (answer.status != 403) is leads, (method, path)


@pytest.mark.parametrize(
    "path",
    [
        "//api/engine/runs",
        "/api//engine/runs",
        "/api/engine/runs/",
        "/api/engine/runs;x",
        "/api/engine/runs%2e",
        "/./api/engine/runs",
        "/login/../api/engine/runs",
        "/login/%2e%2e/api/engine/runs",
        "/login%2f..%2fapi/engine/runs",
        "/login/",
        "/login;/api/engine/runs",
        "/style.css/../api/engine/runs",
        "/api/engine/runs/style.css",
        "/api/engine/runs.css",
        "/API/engine/runs",
        "/LOGIN",
        "/%61pi/engine/runs",
        "http://localhost/api/engine/runs",
        "/api/engine/runs?x=/login",
        "/api/engine/runs#/login",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "POST", "PURGE"])
def test_no_way_of_writing_an_address_gets_around_the_token(
    guarded: Running, method: str, path: str
) -> None:
    answer = guarded.peer().send(method, path)
    assert answer.status in ((400, 401) if method == "PURGE" else (401,)), answer.body


def test_head_is_answered_as_get_is_without_the_body(
    guarded: Running, routes: list[Address]
) -> None:
    forged = bearer(FULL) | {"Host": "evil.example"}
    for path in {path for method, path in routes if method == "GET"}:
        if path in ENDLESS:
            assert guarded.peer().send("HEAD", path, headers=bearer(FULL)).status == 405
            continue
        for headers in ({}, bearer(FULL), bearer(READ), forged):
            get, head = (guarded.peer().send(m, path, headers=headers) for m in ("GET", "HEAD"))
            assert (head.status, head.body) == (get.status, b""), (path, headers)
            assert head.headers.get("content-type") == get.headers.get("content-type")


def test_other_methods_are_405_and_say_which_there_are(
    guarded: Running, routes: list[Address]
) -> None:
    for path in {path for _, path in routes}:
        there_are = {method for method, other in routes if other == path}
        if "GET" in there_are and path not in ENDLESS:
            there_are.add("HEAD")
        for method in {"PUT", "TRACE", "OPTIONS", "HEAD", "PATCH"} - there_are:
            answer = guarded.peer().send(method, path, headers=bearer(FULL))
            assert set(answer.headers["allow"].split(", ")) == there_are, (method, path)
            assert answer.status == 405
            if method != "HEAD":
                answer.refused(405)


@pytest.mark.parametrize("token", [FULL, READ])
def test_the_stream_is_for_those_who_may_read(guarded: Running, token: str) -> None:
    stream = Reader(guarded.port, more=bearer(token))
    stream.until("ready")
    stream.close()


def test_unknown_addresses_are_404(guarded: Running) -> None:
    for path in ("/api/nothing", "/api", "/api/", "/nothing", "/reports/../api/health"):
        guarded.peer().get(path, headers=bearer(FULL)).refused(404)


def test_the_headers_stand_on_every_answer(guarded: Running, routes: list[Address]) -> None:
    for method, path in routes:
        for headers in ({}, bearer(FULL)):
            if path == "/api/stream" and headers:
                continue
            answer = guarded.peer().send(method, path, headers=headers)
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert "access-control-allow-origin" not in answer.headers


def test_what_tools_change_is_noted_with_who_did_it(
    launch: Callable[..., Running], routes: list[Address]
) -> None:
    """Each route of the dashboard and tools that changes something leaves an entry, in its own transaction."""
    backend = launch(token=FULL)
    peer = backend.peer("c")
    peer.headers |= bearer(FULL)
    document = peer.get("/openapi.json").ok()
    # what clients report is kept with the run, not in the audit table
    reports = {"/api/engine/register", "/api/engine/runs/{run_id}/logs"}
    changing = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method != "get" and path not in reports and set(operation["tags"]) & {"tools", "native"}
    } - {("POST", "/api/ingest"), ("POST", "/api/execution-requests/{run_id}/claim")}
    did: dict[tuple[str, str], Callable[[], str]] = {}

    def act(method: str, path: str, action: str, body: object = None, **ids: str) -> None:
        answer = peer.send(method, path.format(**ids), body)
        assert answer.status == 200, (path, answer.body)
        newest = peer.get("/api/audit?limit=20").ok()["entries"]
        entry = next((e for e in newest if e["action"] == action), None)
        assert entry, (action, newest)
        assert entry["by"] == {"token": "full", "address": "127.0.0.1", "session": None}
        did[method, path] = lambda: action

    schedule = "0 3 * * *"
    flow = peer.register("f", "one", schedule=schedule)
    act("POST", "/api/engine/trigger/{flow_id}", "triggered", flow_id=flow["id"])
    run = peer.get("/api/runs").ok()["runs"][0]["id"]
    act("POST", "/api/runs/{run_id}/cancel", "cancelled", run_id=run)
    act("POST", "/api/runs/{run_id}/retry", "retried", run_id=run)
    act("DELETE", "/api/runs/{run_id}", "deleted", run_id=run)
    act("DELETE", "/api/statistics", "statistics cleared")
    if ("PATCH", "/api/schedules/{schedule_id}") in changing:
        found = peer.get("/api/schedules").ok()
        listed = found["schedules"] if isinstance(found, dict) else found
        one = listed[0]["id"]
        path = "/api/schedules/{schedule_id}"
        act("PATCH", path, "paused", {"paused": True}, schedule_id=one)
        act("PATCH", path, "resumed", {"paused": False}, schedule_id=one)
    assert set(did) == changing
