"""Webhooks: who is told of what, what is sent, and where nothing is sent to."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perfect.errors import ConfigurationError
from perfect.server import outbound
from perfect.server.engine import alerts
from perfect.server.serve import webhook_settings
from perfect.server.webhooks import Webhook, load
from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started, wait_until
from tests.server.receiver import Receiver
from tests.support.backend import BackendProcess


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


def test_a_receiver_that_is_down_gets_it_once_it_is_up(
    launch: Callable[..., Running], run_id: str
) -> None:
    with Receiver() as receiver:
        port = receiver.port
    hook = Webhook(url=receiver.url, allow_private=True)
    peer = launch(webhooks=(hook,), webhook_retry=0.02, webhook_attempts=50).peer("c")
    _failed(peer, run_id)
    wait_until(lambda: _listed(peer) and _listed(peer)[0]["attempts"] >= 3)
    waiting = _listed(peer)[0]
    assert waiting["state"] == "waiting" and "Connect" in waiting["error"]
    with Receiver(port) as receiver:
        wait_until(lambda: _listed(peer)[0]["state"] == "sent")
        assert [body["run"] for _, body in receiver.got] == [run_id]


def test_the_pauses_grow_and_end(
    launch: Callable[..., Running], receiver: Receiver, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float | None] = []
    missed = alerts.missed

    def noted(tx: Any, context: Any, key: int, error: str, again_in: float | None) -> None:
        pauses.append(again_in)
        missed(tx, context, key, error, None if again_in is None else 0.0)

    monkeypatch.setattr(alerts, "missed", noted)
    receiver.answers = [500] * 20
    peer = launch(webhooks=(_hook(receiver),), webhook_attempts=8).peer("c")
    _failed(peer, run_id)
    wait_until(lambda: _listed(peer) and _listed(peer)[0]["state"] == "dead")
    assert pauses == [10, 30, 90, 270, 810, 2430, 3600, None]


@pytest.mark.parametrize("when", ["waiting", "under way"])
def test_the_outbox_survives_a_kill(
    receiver: Receiver, tmp_path: Path, run_id: str, when: str
) -> None:
    hook = {"url": receiver.url, "name": "x", "allow_private": True}
    backend = BackendProcess(
        tmp_path, webhooks=[hook], webhook_retry=1.0, webhook_timeout=1.0, sweep=0.05
    )
    with backend:
        peer = Peer(backend.port, "c")
        if when == "waiting":
            receiver.answers = [503]
        else:
            receiver.hold.clear()
        _failed(peer, run_id)
        wait_until(lambda: receiver.got)
        if when == "waiting":
            wait_until(lambda: _listed(peer)[0]["error"])
        backend.kill()
        receiver.hold.set()
        backend.start()
        wait_until(lambda: _listed(peer)[0]["state"] == "sent")
        assert _listed(peer)[0]["attempts"] == 2
    # whether the first was taken nobody can know
    assert [body["run"] for _, body in receiver.got] == [run_id] * 2


def test_only_what_goes_wrong_is_told(launch: Callable[..., Running], receiver: Receiver) -> None:
    backend = launch(webhooks=(_hook(receiver),), silence=0.6, request_expiry=0.3, poll=0.1)
    peer, quiet = backend.peer("c"), backend.peer("c")
    runs = {state: str(uuid.uuid4()) for state in ("COMPLETED", "CANCELLED", "SKIPPED", "FAILED")}
    for state, run in runs.items():
        peer.ingest(started(run, state), ended(run, 0, state))
    crashed, corrected = str(uuid.uuid4()), str(uuid.uuid4())
    quiet.ingest(started(crashed, "crashed"), started(corrected, "corrected"))
    # nobody is there to execute it
    flow = peer.register("expired")["id"]
    expired = peer.post(f"/api/engine/trigger/{flow}").ok()["runId"]
    wanted = {
        (runs["FAILED"], "failed"),
        (crashed, "crashed"),
        (corrected, "crashed"),
        (expired, "failed"),
    }
    wait_until(lambda: len(receiver.got) >= len(wanted))
    # what is heard later is no news, whatever it is
    quiet.ingest(ended(corrected, 0, "COMPLETED"))
    wait_until(lambda: peer.run(corrected)["state"] == "COMPLETED")
    peer.ingest(ended(runs["FAILED"], 0, "FAILED"))
    commits = backend.server.backend.commits
    wait_until(lambda: backend.server.backend.commits > commits + 5)
    assert {(body["run"], body["event"]) for _, body in receiver.got} == wanted
    assert len(receiver.got) == len(_listed(peer)) == len(wanted)


def test_private_addresses_are_denied_unless_allowed(
    launch: Callable[..., Running], receiver: Receiver, run_id: str
) -> None:
    peer = launch(webhooks=(Webhook(url=receiver.url),), webhook_attempts=1).peer("c")
    _failed(peer, run_id)
    wait_until(lambda: _listed(peer) and _listed(peer)[0]["state"] == "dead")
    assert "not a public address" in _listed(peer)[0]["error"] and not receiver.got


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
