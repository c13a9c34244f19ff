"""From what the writer changed to what the streams are told.

The writer only notes ids (store.changes). Ten times a second at most, what they stand for is read as it is now,
written as JSON once and published: whatever happened in between is told as one event. This works on a snapshot of
the database in a thread of its own, and rests four times as long as it worked, so that watching stays cheap for
those who report.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection

from perfect.server.engine import schedules, taskviews, telling, values, views
from perfect.server.engine.clients import Clients
from perfect.server.engine.clock import Clock
from perfect.server.engine.outage import Outage
from perfect.server.engine.refusals import Unknown, shown
from perfect.server.engine.stream import Hub, Stream, Topic
from perfect.server.store import Overloaded, StoreFailed, Watch, flows, logs, runs, tasks
from perfect.server.store.changes import Changes
from perfect.server.store.records import RunRecord

_log = logging.getLogger(__name__)

# seconds
_PACE = 0.1
_LOOK = 1.0
_REST = 4
# s for which a stream waits until everybody notes what it is about
_PATIENCE = 2.0
_UNREAD = "the backend could not read what changed"
# tasks, and lines, in one event
_AT_ONCE = 500
# tasks that are told of one by one; of more the page is told to look anew
_MOST_TASKS = 5_000
_MOST_LINES = 2_000
# sessions of a client, of which a fleet may have thousands, and everyone who watches is told of each that comes
_MOST_SESSIONS = 100
# characters of log lines in one look, and lines that are read at a time to find them
_MOST_TEXT = 512 * 1024
_READ = 20
# bytes of a line; of a longer one the beginning is told
_LONGEST = 16 * 1024

Event = tuple[str, str | None, bytes]


@dataclass(slots=True)
class _Followed:
    """A run whose tasks and log are watched.

    Attributes:
        run: its id.
        lines: how many lines of its log have been told.
    """

    run: str
    lines: int


@dataclass(slots=True)
class _Told:
    """What one look produced.

    Attributes:
        events: (type, run id, JSON).
        lines: how far the log of each followed run is told, by key.
        crowded: runs of which there is too much to tell.
        clients: what was last said of each client.
        connected: flows that have a connected client.
    """

    events: list[Event] = field(default_factory=list)
    lines: dict[int, int] = field(default_factory=dict)
    crowded: list[Topic] = field(default_factory=list)
    clients: dict[str, bytes] | None = None
    connected: frozenset[str] = frozenset()


class Newsroom:
    """Publishes what changes to the streams.

    Args:
        clock: the time.
        clients: who is connected.
        read: opens a snapshot.
        present: ids of the flows that a connected client has.
        watch: what the writer is to note.
        announce: returns when what is watched (keys of runs, or None for nothing at all) is noted by whoever writes.
        base_path: what URLs begin with.
        reach: how far runs are that are not over.

    Attributes:
        hub: the open streams.
    """

    def __init__(
        self,
        clock: Clock,
        clients: Clients,
        read: Callable[[], AbstractContextManager[Connection]],
        present: Callable[[], frozenset[str]],
        watch: Watch,
        announce: Callable[[frozenset[int] | None], Awaitable[None]],
        base_path: str,
        reach: views.Reach,
    ) -> None:
        self.hub = Hub()
        self._clock = clock
        self._clients = clients
        self._read = read
        self._present = present
        self._watch = watch
        self._announce = announce
        self._base_path = base_path
        self._reach = reach
        self._changes = Changes(watch)
        self._wake = asyncio.Event()
        self._followed: dict[int, _Followed] = {}
        self._opening: Counter[Topic] = Counter()
        self._outage = Outage(_log, "telling the event streams what changed")
        self._missed = False
        self._known_clients: dict[str, bytes] | None = None
        self._known_flows: frozenset[str] = frozenset()
        self._loop: asyncio.AbstractEventLoop | None = None

    def tell(self, changed: Changes) -> None:
        """Something was committed; called on the writer's thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody watches any more
                self._loop.call_soon_threadsafe(self._note, changed)

    async def open(self, run_id: str | None, last: str | None, login: str | None = None) -> Stream:
        """Begin a stream, of one run or of everything.

        Args:
            run_id: id of the run, or None.
            last: id of the last event seen, of a stream that is resumed.
            login: mark of the session of the page that opens it, or None.

        Raises:
            Unknown: there is no such run.
        """
        topic = Topic() if run_id is None else await asyncio.to_thread(self._find, run_id)
        self._opening[topic] += 1
        try:
            self._attend()
            # Noted from now on, and only then asked who is connected and how long the log is: nothing falls in between.
            await self._say()
            if self._known_clients is None:
                known = await asyncio.to_thread(self._first_look)
                if self._known_clients is None:
                    self._known_clients, self._known_flows = known
            if run_id is not None and topic.key is not None and topic.key not in self._followed:
                lines = await asyncio.to_thread(self._lines, topic.key)
                self._followed.setdefault(topic.key, _Followed(run_id, lines))
            stream = self.hub.open(topic, last, login)
        finally:
            self._opening[topic] -= 1
            self._wake.set()
        return stream

    def leave(self, stream: Stream) -> None:
        """A stream is over."""
        self.hub.leave(stream, self._clock.monotonic())

    async def run(self) -> None:
        """Publish until cancelled."""
        self._loop = loop = asyncio.get_running_loop()
        looked = loop.time()
        while True:
            if self._watch.on:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        await self._wake.wait()
            else:
                await self._wake.wait()
            self._wake.clear()
            began = loop.time()
            try:
                clients = began - looked >= _LOOK
                if clients:
                    looked = began
                await self._publish(clients)
            except StoreFailed as error:
                self._outage.goes_on(error)
            except Exception:
                _log.exception("the event stream missed something")
                self._restart(_UNREAD)
            else:
                if clients and self._outage.is_over():
                    self._restart(_UNREAD)
            self._forget()
            await self._say()
            worked = loop.time() - began
            await asyncio.sleep(max(_PACE - worked, worked * _REST))

    def close(self) -> None:
        """End every stream."""
        self.hub.close()

    def hear(self, *facts: Any) -> None:
        """Another backend has changed something: the facts of a word (engine.telling); on the event loop."""
        if self._watch.on:
            self._note(telling.understood(self._watch, *facts))

    def start_over(self, why: str) -> None:
        """Not all that happened is known: whoever watches should look anew; on the event loop."""
        self._restart(why)

    def _note(self, changed: Changes) -> None:
        self._changes.add(changed)
        self._wake.set()

    async def _say(self) -> None:
        """Have everybody note what is watched; if that can't be, the streams start over when it can."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._announce(self._watch.runs if self._watch.on else None)
        except (Overloaded, StoreFailed, TimeoutError):
            self._missed = True
        else:
            if self._missed:
                self._missed = False
                self._restart(_UNREAD)

    async def _publish(self, clients: bool) -> None:
        changes, self._changes = self._changes, Changes(self._watch)
        if not (changes or clients):
            return
        followed = {key: (one.run, one.lines) for key, one in self._followed.items()}
        told = await asyncio.to_thread(self._look, changes, followed, clients)
        for key, lines in told.lines.items():
            if key in self._followed:
                self._followed[key].lines = lines
        if told.clients is not None:
            self._known_clients, self._known_flows = told.clients, told.connected
        for kind, run, data in told.events:
            self.hub.publish(kind, run, data)
        for topic in told.crowded:
            self.hub.restart(topic, "more happened than can be told")

    def _restart(self, why: str) -> None:
        for topic in self.hub.topics:
            self.hub.restart(topic, why)

    def _forget(self) -> None:
        self.hub.forget(self._clock.monotonic())
        self._attend()
        for key in self._followed.keys() - self._watch.runs:
            del self._followed[key]
        if not self._watch.on:
            self._known_clients = None

    def _attend(self) -> None:
        """Have noted what is watched, and what is about to be."""
        self._opening = +self._opening
        topics = {*self.hub.topics, *self._opening}
        self._watch.runs = frozenset(topic.key for topic in topics if topic.key is not None)
        self._watch.on = bool(topics)

    # The rest runs in a thread.

    def _find(self, run_id: str) -> Topic:
        with self._read() as connection:
            record = runs.by_id(connection, run_id)
        if record is None:
            raise Unknown(f"there is no run {shown(run_id)}")
        return Topic(record.id, record.key)

    def _lines(self, key: int) -> int:
        with self._read() as connection:
            record = runs.by_key(connection, key)
        return 0 if record is None else record.lines

    def _look(self, changes: Changes, followed: dict[int, tuple[str, int]], clients: bool) -> _Told:
        told = _Told()
        now = self._clock.now()
        with self._read() as connection:
            flow_ids = {its_id for kind, its_id in changes.others if kind == "flow"}
            if clients:
                flow_ids |= self._look_at_clients(connection, told)
            if flow_ids:
                connected = self._present()
                changed = flows.listed(connection, flow_ids)
                for shown_flow in views.library(connection, changed, connected):
                    told.events.append(("flow", None, orjson.dumps(shown_flow)))
            records = {
                record.key: record for record in runs.by_keys(connection, sorted(changes.runs))
            }
            for key, found in changes.tasks.items():
                if key in records and key in followed:
                    self._look_at_tasks(connection, records[key], sorted(found), now, told)
            for key in records.keys() & followed.keys():
                self._look_at_log(connection, records[key], followed[key][1], told)
            listed = views.summaries(
                connection, list(records.values()), now, self._base_path, self._reach
            )
            told.events += [("run", run["id"], orjson.dumps(run)) for run in listed]
            for kind, its_id in sorted(changes.others):
                if kind == "schedule":
                    schedule = schedules.one(connection, its_id, now)
                    data = {"id": its_id, "deleted": True} if schedule is None else schedule
                    told.events.append(("schedule", None, orjson.dumps(data)))
        told.events += [
            ("run", run_id, orjson.dumps({"id": run_id, "deleted": True}))
            for run_id in sorted(changes.gone)
        ]
        return told

    def _look_at_tasks(
        self,
        connection: Connection,
        record: RunRecord,
        found: list[int],
        now: int,
        told: _Told,
    ) -> None:
        if len(found) > _MOST_TASKS:
            told.crowded.append(Topic(record.id, record.key))
            return
        for some in _parts(found, _AT_ONCE):
            rows = tasks.at(connection, record.key, some)
            data = {"runId": record.id, "tasks": taskviews.moving(connection, record, rows, now)}
            told.events.append(("task", record.id, orjson.dumps(data)))

    def _look_at_log(
        self, connection: Connection, record: RunRecord, seen: int, told: _Told
    ) -> None:
        told.lines[record.key] = record.lines
        oldest = max(seen, record.lines - _MOST_LINES)
        first, size, step = record.lines, 0, _READ
        rows: list[logs.LogRow] = []
        # from the end, so that of too much the newest is told
        while first > oldest and size < _MOST_TEXT:
            before, first = first, max(oldest, first - step)
            found = logs.page(connection, record.key, first, before - first)
            size += sum(min(len(row.text), _LONGEST) for row in found)
            rows = found + rows
            step *= 2 if size < _MOST_TEXT // 8 else 1
        skipped = first - seen
        for some in _parts(rows, _AT_ONCE):
            data = {
                "runId": record.id,
                "lines": [_short(views.log_line(row)) for row in some],
                "skipped": skipped,
            }
            skipped = 0
            told.events.append(("log", record.id, orjson.dumps(data)))

    def _first_look(self) -> tuple[dict[str, bytes], frozenset[str]]:
        """What of the connected clients is worth an event when it changes, and the flows that they have."""
        with self._read() as connection:
            listed, present = self._who(connection)
        return _lasting(listed), present

    def _who(self, connection: Connection) -> tuple[dict[str, dict[str, Any]], frozenset[str]]:
        """The connected clients by id, and the flows that they have."""
        listed = {group["clientId"]: group for group in self._clients.listed(connection)}
        return listed, self._present()

    def _look_at_clients(self, connection: Connection, told: _Told) -> set[str]:
        """Tell of the clients that changed; returns the flows that a client came for, or left."""
        listed, told.connected = self._who(connection)
        told.clients = _lasting(listed)
        before = self._known_clients
        if before is None:  # nobody watches any more
            return set()
        for name, text in told.clients.items():
            if before.get(name) != text:
                newest = listed[name]["sessions"][-_MOST_SESSIONS:]
                told.events.append(
                    ("client", None, orjson.dumps(listed[name] | {"sessions": newest}))
                )
        for name in sorted(before.keys() - listed.keys()):
            gone: dict[str, Any] = {"clientId": name, "sessions": [], "sessionCount": 0}
            told.events.append(("client", None, orjson.dumps(gone)))
        return set(told.connected ^ self._known_flows)


def _parts(found: list[Any], size: int) -> Iterator[list[Any]]:
    for first in range(0, len(found), size):
        yield found[first : first + size]


def _short(line: dict[str, Any]) -> dict[str, Any]:
    return line | {"text": values.cut(line["text"], _LONGEST)}


def _lasting(listed: dict[str, dict[str, Any]]) -> dict[str, bytes]:
    """What of each client is worth an event when it changes: all but the time it was heard of."""
    passing = ("lastSeen", "polling")
    return {
        client: orjson.dumps(
            [
                {name: value for name, value in session.items() if name not in passing}
                for session in group["sessions"]
            ]
        )
        for client, group in listed.items()
    }
