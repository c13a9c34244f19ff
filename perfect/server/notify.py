"""``perfect webhooks``: who is told when a run goes wrong, and a test of whether they are reached."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from perfect.server.engine.clock import SystemClock, iso
from perfect.server.outbound import Sender, Undelivered
from perfect.server.serve import webhook_settings
from perfect.server.settings import ServerSettings
from perfect.server.webhooks import Webhook


def main(what: str, config: str | None = None, urls: Sequence[str] = ()) -> int:
    """Do it, and say what came of it; returns the exit code.

    Args:
        what: "list" or "test".
        config: path of the file; None for ``server.toml`` in PERFECT_HOME, if it is there.
        urls: further receivers.

    Raises:
        ConfigurationError: something in the file is wrong.
    """
    settings = ServerSettings(**webhook_settings(config, urls))
    if not settings.webhooks:
        print("No webhooks: name some in server.toml of PERFECT_HOME, or by --webhook URL.")
        return int(what == "test")
    if what == "test":
        return asyncio.run(_test(settings))
    for hook in settings.webhooks:
        print(f"{hook.name}: {', '.join(hook.events)} of {hook.flows} to {_host(hook)}")
    return 0


async def _test(settings: ServerSettings) -> int:
    sender = Sender(settings.webhook_timeout)
    now = SystemClock().now()
    arrived = 0
    for hook in settings.webhooks:
        facts = {
            "event": "test",
            "run": "00000000-0000-0000-0000-000000000000",
            "flow": "perfect",
            "client": "perfect",
            "state": "COMPLETED",
            "reason": f"This is a test of the webhook {hook.name}; nothing has failed.",
            "error": None,
            "configuration": "development",
            "trigger": "call",
            "started": iso(now),
            "ended": iso(now),
            "duration_ms": 0,
            "tasks": 0,
            "link": f"{settings.public_url.rstrip('/')}/",
        }
        began = time.monotonic()
        try:
            await sender.post(hook, hook.body(facts))
        except Undelivered as error:
            print(f"✗ {hook.name}: {_host(hook)}: {error}")
        else:
            ms = (time.monotonic() - began) * 1000
            print(f"✓ {hook.name}: {_host(hook)} took it in {ms:.0f} ms")
            arrived += 1
    return int(arrived < len(settings.webhooks))


def _host(hook: Webhook) -> str:
    """Where to, without what may be a secret."""
    parts = urlsplit(hook.url)
    return f"{parts.scheme}://{parts.netloc}"
