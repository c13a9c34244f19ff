"""Who may speak to the backend: Host, Origin, token."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from perfect.errors import ConfigurationError
from perfect.server import ServerSettings
from tests.server.conftest import Running


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:3000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "",
        "[",
        "a@localhost",
        "localhost:x",
    ],
)
def test_a_foreign_host_is_refused_on_every_route(shared: Running, host: str) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/api/version"),
        ("POST", "/api/ingest"),
        ("GET", "/nothing"),
    ):
        shared.peer().send(method, path, headers={"Host": host}).refused(403)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:3000", "LOCALHOST"])
def test_this_machine_may_be_called_by_its_names(shared: Running, host: str) -> None:
    shared.peer().get("/api/version", headers={"Host": host}).ok()


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "file://", "http://[", ""]
)
def test_a_page_from_elsewhere_may_change_nothing(shared: Running, origin: str) -> None:
    peer = shared.peer()
    headers = {"Origin": origin}
    peer.post("/api/flows", {"name": "forged"}, headers=headers).refused(403)
    peer.send("DELETE", "/api/statistics", headers=headers).refused(403)
    refused = peer.get("/api/version", headers=headers)
    refused.refused(403)
    assert "access-control-allow-origin" not in refused.headers
    assert "forged" not in peer.get("/api/engine/flows").text


def test_our_own_page_may(shared: Running) -> None:
    headers = {"Origin": f"http://127.0.0.1:{shared.port}"}
    shared.peer().post("/api/flows", {"name": "own"}, headers=headers).ok()


def test_allowed_hosts_are_settings(launch: Callable[..., Running]) -> None:
    peer = launch(allowed_hosts=("perfect.example",)).peer()
    peer.get("/api/version", headers={"Host": "perfect.example"}).ok()
    headers = {"Host": "perfect.example", "Origin": "https://perfect.example"}
    peer.post("/api/flows", {"name": "f"}, headers=headers).ok()
    peer.get("/api/version", headers={"Host": "other.example"}).refused(403)


def test_a_token_is_asked_for_everywhere(launch: Callable[..., Running]) -> None:
    peer = launch(token="s3cret").peer()
    basic = base64.b64encode(b"x:s3cret").decode()
    for path in ("/", "/docs", "/api/version", "/api/health", "/nothing"):
        for value in (None, "Bearer wrong", "Bearer", "s3cret", f"Basic {basic}"):
            headers = {} if value is None else {"Authorization": value}
            answer = peer.get(path, headers=headers)
            answer.refused(401)
            assert answer.headers["www-authenticate"].startswith("Bearer ")
    peer.get("/api/version", headers={"Authorization": "Bearer s3cret"}).ok()


def test_the_handshake_says_what_one_may_do(
    shared: Running, launch: Callable[..., Running]
) -> None:
    assert shared.peer().get("/api/version").ok()["access"] == "open"
    peer = launch(token="s3cret", read_token="l00k").peer()
    for token, access in (("s3cret", "full"), ("l00k", "read")):
        answer = peer.get("/api/version", headers={"Authorization": f"Bearer {token}"}).ok()
        assert answer["access"] == access


def test_an_address_others_can_reach_needs_a_token(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.1", "perfect.example"):
        with pytest.raises(ConfigurationError, match="token"):
            ServerSettings(host=host)
        ServerSettings(host=host, token="x")


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 70_000), ("base_path", "x"), ("base_path", "/x/"), ("poll", 0), ("silence", -1)],
)
def test_a_wrong_setting_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=name):
        ServerSettings(**{name: value})  # type: ignore[arg-type]
