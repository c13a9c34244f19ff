"""The event stream: what happened last, and everyone who watches. Used on the event loop only.

An event is encoded once, kept in a ring so that a stream that broke off can be resumed, and handed to every stream
that wants it. No stream can hold anything up: one that does not keep up loses its queue and is told so.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

import orjson

# a page that reloads, or loses its connection, finds its place again for so long (s)
LINGER = 30.0
_RING_EVENTS = 10_000
_RING_BYTES = 16 * 1024 * 1024
_QUEUE_EVENTS = 1_000
_QUEUE_BYTES = 2 * 1024 * 1024
# kinds that only the page of their run is told of
_DETAILS = frozenset({"task", "log"})


@dataclass(frozen=True, slots=True)
class Topic:
    """What a stream is about: one run with its tasks and log, or with None everything but those.

    Attributes:
        run: id of the run.
        key: its key in the store.
    """

    run: str | None = None
    key: int | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    number: int
    kind: str
    run: str | None
    data: bytes


class Stream:
    """One open stream.

    Attributes:
        topic: what it is about.
        login: mark of the session of the page that opened it, or None.
        wake: set when there is something to take, or the stream is over.
        over: there will be nothing more.
    """

    def __init__(self, topic: Topic, login: str | None = None) -> None:
        self.topic = topic
        self.login = login
        self.wake = asyncio.Event()
        self.over = False
        self._queue: deque[bytes] = deque()
        self._bytes = 0

    def wants(self, kind: str, run: str | None) -> bool:
        """Whether an event is for this stream."""
        return kind not in _DETAILS if self.topic.run is None else run == self.topic.run

    def put(self, data: bytes) -> bool:
        """Queue an event; False when it did not fit any more."""
        if len(self._queue) >= _QUEUE_EVENTS or self._bytes + len(data) > _QUEUE_BYTES:
            return False
        self._queue.append(data)
        self._bytes += len(data)
        self.wake.set()
        return True

    def start_over(self, data: bytes) -> None:
        """Forget what is queued and say this instead."""
        self._queue.clear()
        self._bytes = 0
        self.put(data)

    def take(self) -> bytes:
        """Everything that is queued."""
        taken = b"".join(self._queue)
        self._queue.clear()
        self._bytes = 0
        if not self.over:
            self.wake.clear()
        return taken

    def end(self) -> None:
        """There is nothing more to come."""
        self.over = True
        self.wake.set()


class Hub:
    """All open streams, and the last events.

    Attributes:
        resets: how many streams did not keep up.
        sent: how many events were made.
    """

    def __init__(self) -> None:
        self._boot = secrets.token_hex(4)
        self._number = 0
        self._ring: deque[_Kept] = deque()
        self._ring_bytes = 0
        # number of the newest event that is no longer in the ring
        self._lost = 0
        self._streams: set[Stream] = set()
        self._closed = False
        # from which number on everything about a topic is in the ring
        self._since: dict[Topic, int] = {}
        # topics that nobody watches any more, and when that began
        self._left: dict[Topic, float] = {}
        self.resets = 0
        self.sent = 0

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def closed(self) -> bool:
        """Whether the backend is shutting down."""
        return self._closed

    @property
    def topics(self) -> list[Topic]:
        """What is watched, or was until just now."""
        return list(self._since)

    @property
    def logins(self) -> set[str]:
        """Marks of the sessions of the page that have open streams."""
        return {stream.login for stream in self._streams if stream.login is not None}

    def open(self, topic: Topic, last: str | None = None, login: str | None = None) -> Stream:
        """Begin a stream.

        Args:
            topic: what it is about.
            last: id of the last event that a stream before it has seen; None for one that begins anew.
            login: mark of the session of the page that opens it, or None.

        Returns:
            A stream whose first events are ``ready``, then what it missed, or ``reset`` when that is not known
            any more.
        """
        stream = Stream(topic, login)
        self._streams.add(stream)
        self._left.pop(topic, None)
        if topic not in self._since:
            # a new number: what happened while nobody watched was not counted
            self._number += 1
            self._since[topic] = self._number
        stream.put(self._encoded("ready", b"{}", self._number if last is None else None))
        if last is not None:
            self._resume(stream, last)
        if self._closed:
            stream.end()
        return stream

    def leave(self, stream: Stream, now: float) -> None:
        """A stream is over; ``now`` in seconds of a clock that never jumps."""
        self._streams.discard(stream)
        if not any(other.topic == stream.topic for other in self._streams):
            self._left[stream.topic] = now

    def forget(self, now: float) -> None:
        """Stop watching what nobody came back to."""
        for topic, left in list(self._left.items()):
            if now - left >= LINGER:
                del self._left[topic], self._since[topic]
        if not self._since:
            self._ring.clear()
            self._ring_bytes = 0
            self._lost = self._number

    def publish(self, kind: str, run: str | None, data: bytes) -> None:
        """Tell everyone concerned.

        Args:
            kind: type of the event.
            run: id of the run it is about, or None.
            data: JSON.
        """
        self._number += 1
        self.sent += 1
        encoded = self._encoded(kind, data, self._number)
        self._ring.append(_Kept(self._number, kind, run, encoded))
        self._ring_bytes += len(encoded)
        while len(self._ring) > _RING_EVENTS or self._ring_bytes > _RING_BYTES:
            dropped = self._ring.popleft()
            self._ring_bytes -= len(dropped.data)
            self._lost = dropped.number
        for stream in self._streams:
            if stream.wants(kind, run) and not stream.put(encoded):
                self.resets += 1
                stream.start_over(self._reset("the stream was not read fast enough"))

    def restart(self, topic: Topic, why: str) -> None:
        """What happened to a topic is too much to tell: who watches it should look anew."""
        self._number += 1
        if topic in self._since:
            self._since[topic] = self._number
        for stream in self._streams:
            if stream.topic == topic:
                stream.start_over(self._reset(why))

    def end_of(self, logins: Collection[str]) -> None:
        """End the streams of these sessions of the page."""
        for stream in self._streams:
            if stream.login in logins:
                stream.end()

    def close(self) -> None:
        """End every stream: the backend is shutting down."""
        self._closed = True
        for stream in self._streams:
            stream.end()

    def _resume(self, stream: Stream, last: str) -> None:
        boot, _, number = last.partition("-")
        seen = int(number) if number.isascii() and number.isdigit() and len(number) < 18 else -1
        first = max(self._since[stream.topic], self._lost)
        if boot != self._boot or not first <= seen <= self._number:
            stream.start_over(self._reset("what was missed is no longer known"))
            return
        for kept in self._ring:
            if (
                kept.number > seen
                and stream.wants(kept.kind, kept.run)
                and not stream.put(kept.data)
            ):
                stream.start_over(self._reset("more was missed than can be told"))
                return

    def _reset(self, why: str) -> bytes:
        return self._encoded("reset", orjson.dumps({"reason": why}), self._number)

    def _encoded(self, kind: str, data: bytes, number: int | None) -> bytes:
        place = b"" if number is None else f"id: {self._boot}-{number}\n".encode()
        return b"%sevent: %s\ndata: %s\n\n" % (place, kind.encode(), data)
