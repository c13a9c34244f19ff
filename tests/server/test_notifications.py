"""Webhooks: who is told of what, what is sent, and where nothing is sent to."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perfect.errors import ConfigurationError
from perfect.server import outbound
from perfect.server.serve import webhook_settings
from perfect.server.webhooks import Webhook, load
from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started, wait_until


class Receiver:
    """An HTTP server that keeps what it is sent and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], Any]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), json.loads(body)))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


def _hook(receiver: Receiver, **more: Any) -> Webhook:
    return Webhook(url=receiver.url, allow_private=True, **more)


def _listed(peer: Peer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = peer.get("/api/notifications").ok()["notifications"]
    return found


def _failed(peer: Peer, run: str, flow: str = "f", message: str = "oh") -> None:
    error = {"type": "ValueError", "message": message}
    peer.ingest(started(run, flow), {**ended(run, 0, "FAILED"), "error": error})


def test_a_failed_run_is_told_once(
    launch: Callable[..., Running], receiver: Receiver, run_id: str
) -> None:
    hook = _hook(receiver, name="chat", headers={"X-Secret": "hush"})
    peer = launch(webhooks=(hook,), public_url="https://perfect.example/").peer("c")
    nasty = 'a "quote", {run} and \n\x01 </script>'
    _failed(peer, run_id, message=nasty)
    wait_until(lambda: _listed(peer) and _listed(peer)[0]["state"] == "sent")
    (headers, body), *more = receiver.got
    assert not more and headers["X-Secret"] == "hush"
    assert (body["event"], body["run"], body["flow"], body["error"]) == (
        "failed",
        run_id,
        "f",
        nasty,
    )
    assert body["durationMs"] == 1_000
    assert body["link"] == f"https://perfect.example/runs/{run_id}"
    shown = _listed(peer)[0]
    assert (shown["webhook"], shown["event"], shown["attempts"]) == ("chat", "failed", 1)
    assert "hush" not in json.dumps(shown) and receiver.url not in json.dumps(shown)


def test_events_flows_and_templates_are_respected(
    launch: Callable[..., Running], receiver: Receiver
) -> None:
    template = {"{flow}": ["{duration_ms}", "{flow}: {event} {X} {1}"], "n": 1}
    hooks = (
        _hook(receiver, name="a", flows="etl-*", template=template),
        _hook(receiver, name="b", events=("crashed",)),
    )
    peer = launch(webhooks=hooks).peer("c")
    _failed(peer, "0" * 31 + "1", "other")
    peer.ingest(started("0" * 31 + "2", "etl-1"), ended("0" * 31 + "2", 0))
    _failed(peer, "0" * 31 + "3", "etl-1")
    wait_until(lambda: [one["state"] for one in _listed(peer)] == ["sent"])
    assert [body for _, body in receiver.got] == [
        {"etl-1": [1_000, "etl-1: failed {X} {1}"], "n": 1}
    ]


def test_a_client_that_falls_silent_is_a_crash(
    launch: Callable[..., Running], receiver: Receiver, run_id: str
) -> None:
    peer = launch(webhooks=(_hook(receiver),), silence=0.3).peer("c")
    peer.ingest(started(run_id, "f"))
    wait_until(lambda: receiver.got)
    assert receiver.got[0][1]["event"] == "crashed"
    # that the client says so later is no news
    peer.ingest(ended(run_id, 0, "FAILED"))
    wait_until(lambda: not peer.run(run_id)["inferred"])
    assert [one["event"] for one in _listed(peer)] == ["crashed"]


def test_a_run_that_takes_too_long_is_told_once(
    launch: Callable[..., Running], receiver: Receiver
) -> None:
    hook = _hook(receiver, name="limit", flows="slow", minutes=0.5)
    usual = _hook(receiver, name="usual", flows="usual", events=("overrun",))
    backend = launch(webhooks=(hook, usual))
    peer, now = backend.peer("c"), time.time_ns() // 1_000_000
    runs = [f"{n:032}" for n in range(8)]
    for run in runs[:3]:
        peer.ingest(started(run, "usual"), ended(run, 0))
    peer.ingest(
        started(runs[3], "slow", t=now - 31_000),
        started(runs[4], "slow", t=now),
        started(runs[5], "usual", t=now - 10_000),
        started(runs[6], "unknown", t=now - 10_000_000),
    )
    wait_until(lambda: len(receiver.got) == 2)
    told = {body["run"]: body["reason"] for _, body in receiver.got}
    assert set(told) == {runs[3], runs[5]} and told[runs[3]] == "running for more than 30 s"
    looks = backend.server.backend.commits
    wait_until(lambda: backend.server.backend.commits > looks + 5)
    assert len(receiver.got) == 2


def test_what_does_not_arrive_is_tried_again_and_given_up(
    launch: Callable[..., Running], receiver: Receiver
) -> None:
    receiver.answers = [500, 302, 200, 404, 404, 404]
    peer = launch(webhooks=(_hook(receiver),), webhook_retry=0.05, webhook_attempts=3).peer("c")
    _failed(peer, f"{1:032}")
    wait_until(lambda: [one["state"] for one in _listed(peer)] == ["sent"])
    assert _listed(peer)[0]["attempts"] == 3
    _failed(peer, f"{2:032}")
    wait_until(lambda: [one["state"] for one in _listed(peer)] == ["dead", "sent"])
    assert _listed(peer)[0]["error"] == "answered 404" and len(receiver.got) == 6


def test_what_was_not_delivered_goes_on_after_a_restart(
    launch: Callable[..., Running], receiver: Receiver, run_id: str
) -> None:
    receiver.answers = [503]
    settings = {"webhooks": (_hook(receiver, name="x"),), "webhook_retry": 0.5}
    backend = launch(**settings)
    _failed(backend.peer("c"), run_id)
    wait_until(lambda: _listed(backend.peer()) and _listed(backend.peer())[0]["error"])
    backend.server.stop()
    peer = launch(**settings).peer()
    wait_until(lambda: _listed(peer)[0]["state"] == "sent")
    assert len(receiver.got) == 2


def test_private_addresses_are_denied_unless_allowed(
    launch: Callable[..., Running], receiver: Receiver, run_id: str
) -> None:
    peer = launch(webhooks=(Webhook(url=receiver.url),), webhook_attempts=1).peer("c")
    _failed(peer, run_id)
    wait_until(lambda: _listed(peer) and _listed(peer)[0]["state"] == "dead")
    assert "not a public address" in _listed(peer)[0]["error"] and not receiver.got


@pytest.mark.parametrize(
    "address",
    """127.0.0.1 127.8.8.8 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1
    255.255.255.255 ::1 :: fe80::1 fe80::1%eth0 fc00::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1
    64:ff9b::a9fe:a9fe 2002:7f00:1:: 2002:a00:1::""".split(),
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not outbound.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_that_are_public(address: str) -> None:
    assert outbound.is_public(address)


def test_the_address_that_was_looked_at_is_the_one_that_is_asked(
    launch: Callable[..., Running],
    receiver: Receiver,
    run_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that resolves to another address each time it is asked for gets one chance."""
    asked: list[str] = []
    resolve = outbound._resolve

    async def rebinding(host: str, port: int, allow_private: bool) -> str:
        asked.append(host)
        return await resolve("127.0.0.1", port, allow_private)

    monkeypatch.setattr(outbound, "_resolve", rebinding)
    url = receiver.url.replace("localhost", "no-such-host.invalid")
    peer = launch(webhooks=(Webhook(url=url, allow_private=True),)).peer("c")
    _failed(peer, run_id)
    wait_until(lambda: receiver.got)
    # nothing but what was looked at knows that name
    assert asked == ["no-such-host.invalid"]
    assert receiver.got[0][0]["Host"].startswith("no-such-host.invalid:")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = [", "TOML"),
        ("other = 1", "other"),
        ('[[webhook]]\nname = "x"', "url"),
        ('[[webhook]]\nurl = "ftp://x/hush"', "url"),
        ('[[webhook]]\nurl = "http://u:hush@x/"', "url"),
        ('[[webhook]]\nurl = "http://x"\nevents = ["exploded"]', "exploded"),
        ('[[webhook]]\nurl = "http://x"\nminutes = 0', "minutes"),
        ('[[webhook]]\nurl = "http://x"\nminutes = "1"', "minutes"),
        ('[[webhook]]\nurl = "http://x"\ncolour = "red"', "colour"),
        ("[[webhook]]\nurl = 'http://x'\ntemplate = '{\"a\": '", "JSON"),
        ('[[webhook]]\nurl = "http://x"\ntemplate = {a = "{secret}"}', "{secret}"),
        ('[[webhook]]\nurl = "http://x"\nheaders = {X = "a\\r\\nb: hush"}', "header"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "server.toml").write_text(text)
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path / "server.toml")
    assert said in str(error.value) and "hush" not in str(error.value)


def test_file_and_options_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFECT_HOME", str(tmp_path))
    assert webhook_settings(None, []) == {"public_url": "", "webhooks": ()}
    (tmp_path / "server.toml").write_text(
        'public_url = "https://p"\n[[webhook]]\nurl = "https://x/a"\nminutes = 5\n'
        'template = \'{"text": "{flow}"}\''
    )
    found = webhook_settings(None, ["https://x/b"])
    assert found["public_url"] == "https://p"
    assert [hook.url for hook in found["webhooks"]] == ["https://x/a", "https://x/b"]
    assert found["webhooks"][0].template == {"text": "{flow}"}
    with pytest.raises(ConfigurationError, match="twice"):
        webhook_settings(None, ["https://x/a"])
