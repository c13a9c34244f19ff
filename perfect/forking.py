"""What a forked child inherits, and what it must not.

A child shares none of its parent's connection: flows it calls are its own. What it prints while it was forked
inside a run belongs to that run, and goes to the parent through a socket pair, one line a message.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Callable
from time import time
from typing import Any

from perfect import capture, context, terminal, ticker
from perfect.context import Detached, Scope, PLAIN, current, find_scope
from perfect.records import LogLine, Put, TaskRun
from perfect.redaction import Redactor
from perfect.text import cut_line

LARGEST_MESSAGE = 1 << 17  # bytes: a line has 64 KiB at the most

_installed = False
_pair: tuple[int, int] | None = None  # descriptors: the parent's end, the children's end
_puts: dict[str, Put] = {}  # where the lines of a run go, by its id
_redactor = Redactor(())
_reading = threading.RLock()  # a signal handler may call a flow


def install(after_fork: Callable[[], None]) -> None:
    """Prepare for forks, once; `after_fork` is called in each child."""
    global _installed
    if not _installed and hasattr(os, "register_at_fork"):
        _installed = True
        os.register_at_fork(before=_before, after_in_child=lambda: _in_child(after_fork))


def drain() -> None:
    """Take the lines that children have sent so far. Cheap where there was no fork inside a run."""
    if _pair is None:
        return
    with _reading:
        while True:
            try:
                message = os.read(_pair[0], LARGEST_MESSAGE)
            except OSError:  # nothing there
                return
            if not message:
                return
            head, _, text = message.partition(b"\n")
            try:
                run, index, stream, level = json.loads(head)
                put = _puts.get(run)
                if put is not None:
                    put(LogLine(run, index, stream, level, text.decode(), time()))
            except (ValueError, TypeError):  # somebody else wrote into the child's descriptor
                pass


def leave(run_id: str) -> None:
    """A run ends: take its children's last lines."""
    drain()
    _puts.pop(run_id, None)


class _Relayed(Scope):
    """The scope of a child forked inside a run: its lines go to the parent, its tasks are plain calls."""

    __slots__ = ("run", "_index", "_to_parent")

    def __init__(self, run: Any, index: int | None, to_parent: int) -> None:
        self.caller = PLAIN
        self.partials = {}
        self.run = run
        self._index = index
        self._to_parent = to_parent

    def emit(self, stream: str, level: str, text: str) -> None:
        head = json.dumps([self.run.id, self._index, stream, level])
        try:
            # The parent does not know the secrets that were made here.
            os.write(self._to_parent, f"{head}\n{cut_line(_redactor.redact_text(text))}".encode())
        except OSError:  # the parent is gone
            pass


def _before() -> None:
    """In the parent, in the forking thread: if it is in a run, be ready to hear the child."""
    global _pair
    scope = find_scope()
    if scope is None or scope.run is None or isinstance(scope, _Relayed):
        return
    _hear(scope.run)
    if _pair is None:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            # Descriptors, because a child may drop them at any time without a warning.
            _pair = ours.detach(), theirs.detach()
            threading.Thread(target=_read, name="perfect-relay", daemon=True).start()
        except (
            OSError,
            RuntimeError,
        ):  # no descriptors, no threads: the child's lines stay its own
            pass


def _hear(run: Any) -> None:
    """Take children's lines for a run; what they wrote before the run's own next line comes before it."""
    if run.id in _puts:
        return
    put: Put = run.put
    _puts[run.id] = put

    def put_in_order(record: Any) -> None:
        drain()
        put(record)

    run.put = put_in_order


def _read() -> None:
    current.set(Detached())
    if _pair is not None:
        poll = select.poll()
        poll.register(_pair[0], select.POLLIN)
        while True:
            poll.poll()
            drain()


def _in_child(after_fork: Callable[[], None]) -> None:
    global _pair, _reading
    pair, _pair, _reading = _pair, None, threading.RLock()
    _puts.clear()
    scope = find_scope()
    context.forget_runs()
    capture.after_fork()
    terminal.after_fork()
    ticker.after_fork()
    after_fork()
    if pair is not None:
        os.close(pair[0])
    if isinstance(scope, _Relayed):  # a child's child: its lines go the same way
        current.set(scope)
    elif scope is not None and scope.run is not None and pair is not None:
        index = scope.index if isinstance(scope, TaskRun) else None
        current.set(_Relayed(scope.run, index, pair[1]))
    elif scope is not None:
        current.set(None)
