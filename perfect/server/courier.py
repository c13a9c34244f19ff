"""Delivers notifications beside everything else, and looks for runs that take too long."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from perfect.server.engine import alerts
from perfect.server.engine.backend import Backend
from perfect.server.engine.outage import Outage
from perfect.server.outbound import Sender, Undelivered
from perfect.server.store import Overloaded, StoreFailed
from perfect.server.webhooks import Webhook

_log = logging.getLogger(__name__)

_AT_ONCE = 8
_LONGEST_PAUSE = 3600.0


class Courier:
    """The webhooks at work; does nothing when there are none.

    Args:
        backend: whose.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._settings = backend.settings
        self._hooks = {hook.name: hook for hook in backend.settings.webhooks}
        self._sender = Sender(backend.settings.webhook_timeout) if self._hooks else None
        self._loop: asyncio.Task[None] | None = None
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._told: set[tuple[str, str]] = set()

    def start(self) -> None:
        """Begin; what was not delivered before the start is taken up again."""
        if self._hooks:
            self._loop = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; what is under way is tried again after the next start."""
        tasks = list(self._under_way.values())
        if self._loop is not None:
            tasks.append(self._loop)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        for key in list(self._under_way):
            with suppress(Overloaded, StoreFailed):
                await self._backend.write(alerts.missed, key, "the backend was stopped", 0.0)

    async def _run(self) -> None:
        outage = Outage(_log, "notifications")
        while True:
            try:
                await self._look()
                await self._take()
                outage.is_over()
            except (Overloaded, StoreFailed) as error:
                outage.goes_on(error)
            except Exception:
                _log.exception("the look after notifications failed")
            await asyncio.sleep(self._settings.sweep)

    async def _look(self) -> None:
        found = await asyncio.to_thread(self._overrunning)
        for run_id, hook, limit in found:
            if (run_id, hook.name) not in self._told:
                await self._backend.write(alerts.overrun, run_id, hook, limit)
        self._told = {(run_id, hook.name) for run_id, hook, _ in found}

    async def _take(self) -> None:
        free = _AT_ONCE - len(self._under_way)
        if free <= 0:
            return
        # claimed for longer than a delivery may take: another backend, or this one after a crash, tries again
        lease = round(self._settings.webhook_timeout * 2000)
        for key, attempt, name, body in await self._backend.write(alerts.claim, lease, free):
            task = asyncio.create_task(self._deliver(key, attempt, name, body))
            self._under_way[key] = task

    async def _deliver(self, key: int, attempt: int, name: str, body: str) -> None:
        hook = self._hooks.get(name)
        try:
            if hook is None or self._sender is None:
                await self._backend.write(alerts.missed, key, "is no longer configured", None)
            else:
                await self._send(key, attempt, hook, body, self._sender)
        except (Overloaded, StoreFailed) as error:
            _log.warning("what became of notification %s could not be noted: %s", key, error)
        except Exception:
            _log.exception("notification %s failed", key)
        del self._under_way[key]  # not when cancelled: stop() gives it back

    async def _send(self, key: int, attempt: int, hook: Webhook, body: str, sender: Sender) -> None:
        try:
            await sender.post(hook, body)
        except Undelivered as error:
            again = min(_LONGEST_PAUSE, self._settings.webhook_retry * 3 ** (attempt - 1))
            last = attempt >= self._settings.webhook_attempts
            await self._backend.write(alerts.missed, key, str(error), None if last else again)
            if last:
                _log.warning("webhook %s was given up: %s", hook.name, error)
        else:
            await self._backend.write(alerts.delivered, key)

    def _overrunning(self) -> list[tuple[str, Webhook, float]]:
        with self._backend.read() as connection:
            hooks = list(self._hooks.values())
            return alerts.overrunning(connection, hooks, self._backend.clock.now())
