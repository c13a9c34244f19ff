"""What the backend does not have yet: in memory while it answers, on disk while it does not."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from perfect.events import FACT, LOG, MARKER, PROGRESS, Event, lost_lines
from perfect.spool import Spool, SpoolFailed

log = logging.getLogger("perfect")

OVERHEAD = 200  # bytes that an event takes in memory beside its text


class Backlog:
    """Events in order of their numbers: what is on disk comes before what is in memory.

    Args:
        open_spool: makes the spool when it is needed first; may raise `SpoolFailed`.
        largest: bytes of memory that may be taken.

    Attributes:
        size: bytes of memory taken.
        given_up: events given up because there was no room on disk nor in memory.
    """

    def __init__(self, open_spool: Callable[[], Spool], largest: int) -> None:
        self.largest = largest
        self.size = 0
        self.given_up = 0
        self._open_spool = open_spool
        self._memory: deque[Event] = deque()
        self._spool: Spool | None = None
        self._warned = False
        # The last number and the count of lines given up, by run.
        self._lost: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._memory) + (self._spool.count if self._spool is not None else 0)

    @property
    def in_memory(self) -> int:
        """How many events would be lost with the process."""
        return len(self._memory)

    def add(self, event: Event) -> None:
        """Take one more."""
        self._memory.append(event)
        self.size += len(event.text) + OVERHEAD

    def head(self, most: int, largest: int) -> list[Event]:
        """The oldest events, at most so many and so many bytes (but one at least)."""
        if self._spool is not None and self._spool.count:
            try:
                return self._spool.head(most, largest)
            except SpoolFailed as error:
                self._abandon(error)
        found: list[Event] = []
        size = 0
        for event in self._memory:
            size += len(event.text)
            if found and (size > largest or len(found) >= most):
                break
            found.append(event)
        return found

    def settle(self, seq: int) -> None:
        """Forget the events up to a number: the backend has them."""
        if self._spool is not None and self._spool.count:
            try:
                self._spool.settle(seq)
            except SpoolFailed as error:  # they are sent again, which changes nothing
                self._abandon(error)
        while self._memory and self._memory[0].seq <= seq:
            self._forget(self._memory.popleft())
        if self._lost:  # a marker that was told counts no further
            self._lost = {run: lost for run, lost in self._lost.items() if lost[0] > seq}

    def spill(self, notes: dict[str, str]) -> None:
        """Write what is in memory to disk. Where that can't be, memory is held to its bound.

        Args:
            notes: what another process needs to know to go on, by run.
        """
        if not self._memory:
            return
        try:
            if self._spool is None:
                self._spool = self._open_spool()
            self._spool.append(list(self._memory), notes)
        except (SpoolFailed, BlockingIOError) as error:
            if not self._warned:
                self._warned = True
                log.warning("perfect: undelivered events can't be kept on disk: %s", error)
            self._hold_bound()
            return
        self._memory.clear()
        self._lost.clear()
        self.size = 0

    def close(self) -> None:
        """Close the spool; its file goes if all was delivered."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def forget_lock(self) -> None:
        """In a forked child: the spool is the parent's."""
        if self._spool is not None:
            self._spool.forget_lock()

    def _abandon(self, error: SpoolFailed) -> None:
        """The disk has failed under us: go on with what is in memory."""
        log.warning("perfect: events on disk can't be read and wait for another process: %s", error)
        if self._spool is not None:
            self._spool.close(keep=True)
            self._spool = None

    def _forget(self, event: Event) -> None:
        self.size -= len(event.text) + OVERHEAD

    def _hold_bound(self) -> None:
        """Give up progress, then the oldest lines, then the oldest of all; a marker stands for lines."""
        if self.size <= self.largest:
            return
        target = self.largest * 3 // 4  # not again for each single event
        for doomed in (PROGRESS, LOG, FACT):
            kept: deque[Event] = deque()
            for event in self._memory:
                if self.size <= target or event.kind != doomed:
                    kept.append(event)
                    continue
                self._forget(event)
                self.given_up += 1
                if doomed == LOG:
                    _, count = self._lost.get(event.run, (0, 0))
                    self._lost[event.run] = (event.seq, count + 1)
            self._memory = kept
        rest = [event for event in self._memory if event.kind != MARKER]
        markers = [lost_lines(run, seq, count) for run, (seq, count) in self._lost.items()]
        self._memory = deque(sorted([*rest, *markers], key=lambda event: event.seq))
        self.size = sum(len(event.text) + OVERHEAD for event in self._memory)
