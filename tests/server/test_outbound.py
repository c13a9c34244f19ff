"""Requests to addresses that somebody configured: whom they reach, and what they take of an answer."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from perfect import cli
from perfect.errors import ConfigurationError
from perfect.server import notify, outbound
from perfect.server.outbound import Sender, Undelivered
from perfect.server.webhooks import Webhook
from tests.server.receiver import Receiver

NAME = "hooks.example"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


def send(hook: Webhook, body: str = "{}", timeout: float = 10) -> None:
    asyncio.run(Sender(timeout).post(hook, body))


class Resolver:
    """Stands in for the system's: knows other addresses of a name each time, and where each is really found."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, port: int, *answers: list[str]) -> None:
        self.asked: list[str] = []
        self.connected: list[str] = []
        left = list(answers)

        async def getaddrinfo(_loop: Any, host: str, given: int, **_: Any) -> list[Any]:
            self.asked.append(host)
            addresses = left.pop(0) if len(left) > 1 else left[0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, given)) for one in addresses]

        connect = asyncio.BaseEventLoop.create_connection

        def create_connection(
            loop: Any, factory: Any, host: str | None = None, given: Any = None, **more: Any
        ) -> Any:
            self.connected.append(str(host))
            return connect(loop, factory, "127.0.0.1", port, **more)

        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", create_connection)


def test_a_name_is_asked_for_once_and_the_answer_is_where_it_goes(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: a name that is public when it is looked at, and private a moment later."""
    resolver = Resolver(monkeypatch, receiver.port, ["8.8.8.8"], ["127.0.0.1"])
    send(Webhook(url=f"http://{NAME}/hook"))
    assert (resolver.asked, resolver.connected) == ([NAME], ["8.8.8.8"])
    assert receiver.got[0][0]["Host"] == NAME
    # the next delivery looks again
    with pytest.raises(Undelivered, match="127.0.0.1, which is not a public address"):
        send(Webhook(url=f"http://{NAME}/hook"))
    assert len(resolver.connected) == len(receiver.got) == 1


def test_one_private_address_among_several_is_too_many(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver(monkeypatch, receiver.port, ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(Undelivered, match="10.0.0.1"):
        send(Webhook(url=f"http://{NAME}/hook"))
    assert not resolver.connected


@pytest.mark.parametrize(
    "host", ["[::1]", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f.1", "0", "localhost."]
)
def test_no_way_of_writing_an_address_gets_around_it(receiver: Receiver, host: str) -> None:
    with pytest.raises(Undelivered):
        send(Webhook(url=f"http://{host}:{receiver.port}/hook"))
    assert not receiver.got


@pytest.mark.parametrize(
    "address",
    """127.0.0.1 127.8.8.8 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 168.63.129.16 100.100.100.200 100.64.0.1
    0.0.0.0 224.0.0.1 255.255.255.255 ::1 :: ::127.0.0.1 fe80::1 fe80::1%eth0 fec0::1 fc00::1 fd00:ec2::254 ff02::1
    ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::7f00:1
    2002:7f00:1:: 2002:a00:1::""".split(),
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not outbound.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_that_are_public(address: str) -> None:
    assert outbound.is_public(address)


def test_redirects_are_not_followed(receiver: Receiver) -> None:
    receiver.answers = [302, 307, 308]
    for status in (302, 307, 308):
        with pytest.raises(Undelivered, match=f"answered {status}: redirects are not followed"):
            send(Webhook(url=receiver.url, allow_private=True))
    assert len(receiver.got) == 3


def test_of_a_long_answer_little_is_read() -> None:
    size = 256 * 1024 * 1024
    with Receiver(size=size) as receiver:
        send(Webhook(url=receiver.url, allow_private=True))
    # what the system buffers comes on top
    assert receiver.wrote < size // 4


def test_a_receiver_that_does_not_answer_is_not_waited_for(receiver: Receiver) -> None:
    receiver.hold.clear()
    with pytest.raises(Undelivered, match="no answer within 0.3 s"):
        send(Webhook(url=receiver.url, allow_private=True), timeout=0.3)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME, "localhost").configure_cert(context)
    with Receiver(tls=context) as one:
        yield one


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def test_https_to_a_receiver_with_a_certificate_of_ones_own(secure: Receiver, ca: str) -> None:
    with pytest.raises(Undelivered, match="certificate"):
        send(Webhook(url=secure.url, allow_private=True))
    assert not secure.got
    send(Webhook(url=secure.url, allow_private=True, ca=ca), '{"a": 1}')
    assert secure.got[0][1] == {"a": 1}


def test_what_the_system_trusts_is_trusted(
    secure: Receiver, ca: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ca)
    send(Webhook(url=secure.url, allow_private=True))
    assert len(secure.got) == 1


def test_the_certificate_is_that_of_the_name_not_of_the_address(
    secure: Receiver, ca: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver(monkeypatch, secure.port, ["8.8.8.8"])
    send(Webhook(url=f"https://{NAME}/hook", ca=ca))
    assert resolver.connected == ["8.8.8.8"] and len(secure.got) == 1
    with pytest.raises(Undelivered, match="certificate"):
        send(Webhook(url="https://other.example/hook", ca=ca))


def test_a_file_that_holds_no_certificates_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for path in ("ca.pem", "missing.pem"):
        with pytest.raises(ConfigurationError, match="ca"):
            Webhook(url="https://x/", ca=str(tmp_path / path))


# as nasty as a name, a reason or an error can be
NASTY = [
    'a "quote", a \\ backslash',
    "{run} {flow}",
    "two\nlines\r\n\ttab",
    "\x00\x01\x1b[31m\x7f",
    "</script>\u2028\u2029",
    "é漢🙂",
    '", "admin": true, "x": "',
]


@pytest.mark.parametrize("text", NASTY)
def test_a_template_gives_json_whatever_the_facts_are(receiver: Receiver, text: str) -> None:
    template = {"text": "<{flow}> {reason}", "{flow}": ["{error}", "x{error}"], "n": "{tasks}"}
    hook = Webhook(url=receiver.url, allow_private=True, template=template)
    facts: dict[str, Any] = {"flow": text, "reason": text, "error": text, "tasks": 3}
    body = hook.body(facts)
    wanted = {"text": f"<{text}> {text}", text: [text, f"x{text}"], "n": 3}
    assert json.loads(body) == wanted
    send(hook, body)
    assert receiver.got[0][1] == wanted


def test_a_test_tells_each_webhook_and_says_what_came_of_it(
    receiver: Receiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "server.toml"
    path.write_text(
        f'[[webhook]]\nurl = "{receiver.url}?key=hush"\nname = "chat"\nallow_private = true\n'
        f'[[webhook]]\nurl = "{receiver.url}"\nname = "shut"\n'
    )
    receiver.answers = [200, 404]
    assert notify.main("test", str(path)) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"✓ chat: http://localhost:{receiver.port} took it in ")
    assert said[1].startswith("✗ shut: ") and "not a public address" in said[1]
    body = receiver.got[0][1]
    assert body["event"] == "test" and "nothing has failed" in body["reason"]

    path.write_text(path.read_text().split("\n[[")[0])
    assert notify.main("test", str(path)) == 1  # answered 404
    assert "✗ chat" in (out := capsys.readouterr().out) and "answered 404" in out
    assert notify.main("test", str(path)) == 0
    assert cli.main(["webhooks", "--config", str(path)]) == 0
    out = capsys.readouterr().out
    assert "chat: failed, crashed, overrun of *" in out and "hush" not in out


def test_a_test_of_nothing_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PERFECT_HOME", str(tmp_path))
    assert notify.main("list") == 0 and notify.main("test") == 1
    assert capsys.readouterr().out.count("No webhooks") == 2
