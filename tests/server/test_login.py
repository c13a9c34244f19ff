"""Logging in by the page, the session's cookie, and what the audit table says of it."""

from __future__ import annotations

from collections.abc import Callable
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import pytest
from sqlalchemy import select

from perfect.errors import ConfigurationError
from perfect.server import ServerSettings
from perfect.server.engine import access
from perfect.server.engine.throttle import Throttle
from perfect.server.store.records import Actor
from perfect.server.store.tables import login
from tests.server.conftest import Running
from tests.server.peers import Answer, Peer, wait_until
from tests.server.streams import Reader

FULL, READ = "the-full-token", "the-read-token"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BEARER = {"Authorization": f"Bearer {FULL}"}


@pytest.fixture
def guarded(launch: Callable[..., Running]) -> Running:
    return launch(token=FULL, read_token=READ)


def log_in(peer: Peer, token: str, **fields: str) -> Answer:
    body = urlencode({"token": token, **fields}).encode()
    return peer.post("/login", body, headers=FORM)


def cookie_of(answer: Answer) -> dict[str, str]:
    (morsel,) = SimpleCookie(answer.headers["set-cookie"]).values()
    return {"Cookie": f"{morsel.key}={morsel.value}"}


def test_the_token_is_exchanged_for_a_cookie(guarded: Running) -> None:
    peer = guarded.peer()
    answer = log_in(peer, FULL, next="/docs")
    assert (answer.status, answer.headers["location"]) == (303, "/docs")
    (morsel,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert morsel["httponly"] and morsel["samesite"] == "strict" and morsel["path"] == "/"
    assert not morsel["secure"] and morsel["max-age"] == str(30 * 24 * 3600)
    assert str(guarded.port) in morsel.key and FULL not in morsel.value
    assert peer.get("/docs", headers=cookie_of(answer)).status == 200
    peer.post("/api/flows", {"name": "f"}, headers=cookie_of(answer)).ok()


def test_behind_https_the_cookie_is_secure_and_below_the_base_path(
    launch: Callable[..., Running],
) -> None:
    peer = launch(token=FULL, base_path="/x").peer()
    headers = FORM | {"X-Forwarded-Proto": "https"}
    answer = peer.post("/x/login", urlencode({"token": FULL}).encode(), headers=headers)
    (morsel,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert morsel["secure"] and morsel["path"] == "/x"
    assert answer.headers["location"] == "/x/"


@pytest.mark.parametrize(
    "elsewhere",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "javascript:x",
        "/a\\b",
        "/\t/x",
        "",
    ],
)
def test_one_is_not_led_elsewhere(guarded: Running, elsewhere: str) -> None:
    assert log_in(guarded.peer(), FULL, next=elsewhere).headers["location"] == "/"
    page = guarded.peer().get(f"/login?{urlencode({'next': elsewhere})}", headers={"Accept": "*/*"})
    if elsewhere != "/\t/x":
        assert 'name="next" value="/"' in page.text


def test_a_session_ends_by_logging_out(guarded: Running) -> None:
    peer = guarded.peer()
    cookie = cookie_of(log_in(peer, FULL))
    peer.get("/api/engine/runs", headers=cookie).ok()
    left = peer.post("/logout", headers=cookie)
    assert left.status == 303 and "Max-Age=0" in left.headers["set-cookie"]
    peer.get("/api/engine/runs", headers=cookie).refused(401)
    noted = peer.get("/api/audit", headers=BEARER).ok()["entries"]
    assert [entry["action"] for entry in noted] == ["logged out", "logged in"]
    session = noted[0]["by"]["session"]
    assert session and noted[1]["by"] == {
        "token": "full",
        "address": "127.0.0.1",
        "session": session,
    }


def test_logging_out_ends_the_streams_of_that_session_only(guarded: Running) -> None:
    first, second = (cookie_of(log_in(guarded.peer(), FULL)) for _ in range(2))
    streams = [Reader(guarded.port, more=headers) for headers in (first, first, second, BEARER)]
    for stream in streams:
        stream.until("ready")
    guarded.peer().post("/logout", headers=first)
    assert streams[0].next() is None and streams[1].next() is None
    guarded.peer("c").post("/api/flows", {"name": "f"}, headers=BEARER).ok()
    for stream in streams[2:]:
        stream.until("flow")
    for stream in streams:
        stream.close()


@pytest.mark.parametrize("setting", ["login_age", "login_idle"])
def test_streams_end_with_their_session(launch: Callable[..., Running], setting: str) -> None:
    backend = launch(token=FULL, **{setting: 1.0})
    cookie = cookie_of(log_in(backend.peer(), FULL))
    stream = Reader(backend.port, more=cookie)
    kinds = []
    while event := stream.next():
        kinds.append(event.kind)
    assert kinds == ["ready"]
    stream.close()


def test_streams_end_when_the_session_is_ended_in_the_database(guarded: Running) -> None:
    """As another backend on the same database does."""
    cookie = cookie_of(log_in(guarded.peer(), FULL))
    stream = Reader(guarded.port, more=cookie)
    stream.until("ready")
    engine = guarded.server.backend
    marks = engine.doors.marks(cookie["Cookie"].partition("=")[2])
    engine.write_soon(access.leave, list(marks), Actor(access.FULL, ""))
    assert stream.next() is None
    stream.close()


def test_an_open_stream_is_a_use_of_its_session(
    launch: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfect.server.engine.access.TOUCH", 100)
    backend = launch(token=FULL, login_idle=1.0)
    cookie = cookie_of(log_in(backend.peer(), FULL))
    stream = Reader(backend.port, more=cookie)
    stream.until("ready")

    def used_after() -> int:
        with backend.server.backend.read() as connection:
            return int(connection.execute(select(login.c.used - login.c.created)).scalar_one())

    wait_until(lambda: used_after() > 1_500)
    backend.peer().get("/api/engine/runs", headers=cookie).ok()
    stream.close()


def test_a_reading_session_only_reads(guarded: Running) -> None:
    peer = guarded.peer()
    cookie = cookie_of(log_in(peer, READ))
    peer.get("/api/engine/runs", headers=cookie).ok()
    assert peer.get("/", headers=cookie).status == 200
    peer.post("/api/flows", {"name": "f"}, headers=cookie).refused(403)
    peer.get("/api/audit", headers=cookie).refused(403)
    peer.get("/api/execution-requests", headers=cookie).refused(403)
    assert peer.post("/logout", headers=cookie).status == 303


def test_another_site_can_use_the_cookie_for_nothing(guarded: Running) -> None:
    cookie = cookie_of(log_in(guarded.peer(), FULL))
    headers = cookie | {"Origin": "https://evil.example"}
    guarded.peer().post("/api/flows", {"name": "forged"}, headers=headers).refused(403)
    guarded.peer().get("/api/stream", headers=headers).refused(403)
    body = urlencode({"token": FULL}).encode()
    evil = FORM | {"Origin": "https://evil.example"}
    guarded.peer().post("/login", body, headers=evil).refused(403)


def test_a_wrong_cookie_opens_nothing(guarded: Running) -> None:
    cookie = cookie_of(log_in(guarded.peer(), FULL))["Cookie"]
    name, _, value = cookie.partition("=")
    for wrong in (
        f"{name}=",
        f"{name}=x",
        f"{name}={value[:-1]}",
        f"{name}={'x' * 5000}",
        f"y={value}",
    ):
        guarded.peer().get("/api/engine/runs", headers={"Cookie": wrong}).refused(401)


def test_sessions_end_with_age_and_without_use(launch: Callable[..., Running]) -> None:
    for setting in ("login_age", "login_idle"):
        backend = launch(token=FULL, **{setting: 1.0})
        cookie = cookie_of(log_in(backend.peer(), FULL))
        backend.peer().get("/api/engine/runs", headers=cookie).ok()
        wait_until(lambda: backend.peer().get("/api/engine/runs", headers=cookie).status == 401)
        backend.server.stop()


def test_a_session_survives_a_restart_but_not_another_token(launch: Callable[..., Running]) -> None:
    first = launch(token=FULL)
    cookie = cookie_of(log_in(first.peer(), FULL))["Cookie"].partition("=")[2]

    def status(backend: Running) -> int:
        headers = {"Cookie": f"perfect_session_{backend.port}={cookie}"}
        return backend.peer().get("/api/engine/runs", headers=headers).status

    first.server.stop()
    second = launch(token=FULL)
    assert status(second) == 200
    second.server.stop()
    assert status(launch(token="another-token")) == 401


def test_nothing_kept_is_a_secret(launch: Callable[..., Running], tmp_path: Path) -> None:
    guarded = launch(token=FULL, db=tmp_path / "kept.db")
    cookie = cookie_of(log_in(guarded.peer(), FULL))["Cookie"].partition("=")[2]
    guarded.server.stop()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("kept.db*"))
    assert b"logged in" in kept
    assert cookie.encode() not in kept and FULL.encode() not in kept
    assert FULL not in repr(guarded.server.backend.settings)


def test_wrong_logins_are_limited_and_noted(guarded: Running) -> None:
    peer = guarded.peer()
    for _ in range(10):
        log_in(peer, "wrong").refused(401)
    answer = log_in(peer, FULL)
    answer.refused(429)
    assert 0 < int(answer.headers["retry-after"]) <= 60
    page = peer.post(
        "/login", urlencode({"token": "<b>"}).encode(), headers=FORM | {"Accept": "text/html"}
    )
    assert page.status == 429 and "try again" in page.text
    # who has a token in a header is not held up by that
    noted = wait_until(lambda: peer.get("/api/audit", headers=BEARER).ok()["entries"])
    assert {entry["action"] for entry in noted} == {"refused"}
    assert noted[0]["by"]["token"] == "none" and noted[0]["detail"]["path"] == "/login"


def test_wrong_tokens_are_limited_and_noted(guarded: Running) -> None:
    peer = guarded.peer()
    wrong = {"Authorization": "Bearer wrong"}
    for _ in range(120):
        peer.get("/api/health", headers=wrong).refused(401)
    answer = peer.get("/api/health", headers=BEARER)
    answer.refused(429)
    assert int(answer.headers["retry-after"]) > 0
    cookie = cookie_of(log_in(peer, FULL))
    noted = wait_until(lambda: peer.get("/api/audit", headers=cookie).ok()["entries"])
    # a flood of refusals is not a flood of rows
    assert [entry["action"] for entry in noted].count("refused") == 10


class FakeClock:
    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> int:
        return round(self.at * 1000)

    def monotonic(self) -> float:
        return self.at


def test_the_throttle_forgets_in_time_and_keeps_few() -> None:
    clock = FakeClock()
    throttle = Throttle(clock, allowed=2, window=60, peers=3)
    assert throttle.wait("a") == 0
    throttle.failed("a")
    assert throttle.wait("a") == 0
    throttle.failed("a")
    assert throttle.wait("a") == 60 and throttle.wait("b") == 0
    clock.at = 59.5
    assert throttle.wait("a") == 1
    clock.at = 60.0
    assert throttle.wait("a") == 0
    for number in range(10):
        throttle.failed(f"10.0.0.{number}")
    assert len(throttle) == 3
    # one subscriber has a whole network of IPv6 addresses
    throttle.failed("2001:db8::1")
    throttle.failed("2001:db8::2")
    assert throttle.wait("2001:db8::3") and not throttle.wait("2001:db8:1::3")


def test_the_audit_table_is_paged(guarded: Running) -> None:
    peer = guarded.peer()
    for _ in range(5):
        log_in(peer, FULL)
    first = peer.get("/api/audit?limit=3", headers=BEARER).ok()
    second = peer.get(f"/api/audit?limit=3&cursor={first['next']}", headers=BEARER).ok()
    ids = [entry["id"] for page in (first, second) for entry in page["entries"]]
    assert len(ids) == 5 and ids == sorted(ids, reverse=True) and second["next"] is None
    peer.get("/api/audit?cursor=x", headers=BEARER).refused(400)


def test_without_a_token_there_is_nothing_to_log_into(shared: Running) -> None:
    peer = shared.peer()
    assert peer.get("/login").headers["location"] == "/"
    assert log_in(peer, "x").headers["location"] == "/"
    assert peer.post("/logout").headers["location"] == "/"


def test_origins_that_are_allowed_get_cors_without_cookies(launch: Callable[..., Running]) -> None:
    peer = launch(token=FULL, allow_origins=("https://app.example",)).peer()
    origin = {"Origin": "https://app.example"}
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    before = peer.send("OPTIONS", "/api/flows", headers=origin | asked)
    assert before.status == 200
    assert before.headers["access-control-allow-origin"] == "https://app.example"
    answer = peer.post("/api/flows", {"name": "f"}, headers=origin | BEARER)
    answer.ok()
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-credentials" not in answer.headers
    # what an odd preflight gets has the one shape as well
    for odd in ({"Access-Control-Request-Method": "PUT"}, {"Access-Control-Request-Headers": "x"}):
        asked = origin | {"Access-Control-Request-Method": "POST"} | odd
        assert "CORS" in peer.send("OPTIONS", "/api/flows", headers=asked).refused(400)["error"]
    for other in ("https://app.example.evil", "http://app.example", "https://app.example:444"):
        refused = peer.post("/api/flows", {"name": "f"}, headers=BEARER | {"Origin": other})
        refused.refused(403)
        assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"read_token": "x"}, "read_token"),
        ({"token": "x", "read_token": "x"}, "read_token"),
        ({"token": "söcret"}, "token"),
        ({"token": " x"}, "token"),
        ({"allow_origins": ("*",)}, "allow_origins"),
        ({"allow_origins": ("https://x.example/",)}, "allow_origins"),
        ({"allow_origins": ("null",)}, "allow_origins"),
        ({"login_age": 0}, "login_age"),
    ],
)
def test_wrong_settings_of_access_are_refused(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as error:
        ServerSettings(**settings)  # type: ignore[arg-type]
    assert "söcret" not in str(error.value)
