"""Events on disk: kept, bounded, locked, and read by whoever comes next."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perfect import spool as module
from perfect.events import FACT, LOG, MARKER, PROGRESS, Event
from perfect.spool import Spool, SpoolFailed, orphans, spools

ABOUT = {"backend_url": "http://here", "client_id": "client"}


@pytest.fixture
def home(tmp_path: Path) -> str:
    return str(tmp_path / "home")


@pytest.fixture
def spool(home: str) -> Iterator[Spool]:
    opened = Spool(home, "session", ABOUT)
    yield opened
    opened.close()


def event(seq: int, kind: int = FACT, size: int = 20, run: str = "run") -> Event:
    return Event(seq, kind, run, json.dumps({"seq": seq, "text": "x" * size}))


def everything(spool: Spool) -> list[Event]:
    return spool.head(1_000_000, 1 << 30)


def test_events_come_back_in_order_and_go_when_they_are_settled(spool: Spool) -> None:
    events = [event(seq) for seq in range(1, 11)]
    spool.append(events[5:])
    spool.append(events[:5])
    assert spool.count == 10
    assert everything(spool) == events
    assert all(isinstance(found, Event) for found in everything(spool))
    spool.settle(4)
    assert (spool.count, everything(spool)) == (6, events[4:])
    spool.settle(4)
    spool.settle(100)
    assert (spool.count, everything(spool)) == (0, [])


def test_a_head_is_bounded_by_number_and_size_but_never_empty(spool: Spool) -> None:
    spool.append([event(1, size=1000), *(event(seq, size=100) for seq in range(2, 20))])
    assert [found.seq for found in spool.head(3, 1 << 20)] == [1, 2, 3]
    assert [found.seq for found in spool.head(100, 1)] == [1]
    size = len(event(1, size=1000).text) + len(event(2, size=100).text)
    assert [found.seq for found in spool.head(100, size)] == [1, 2]


def test_the_files_are_nobody_elses(home: str) -> None:
    before = os.umask(0)
    try:
        opened = Spool(home, "session", ABOUT)
        opened.append([event(1)])
        folder = Path(opened.path).parent
        names = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
        assert names == {f"session.db{suffix}": 0o600 for suffix in ("", "-wal", "-shm", ".lock")}
        assert {os.stat(path).st_mode & 0o777 for path in (home, folder)} == {0o700}
        opened.close(keep=True)
    finally:
        os.umask(before)


def test_an_empty_spool_goes_and_one_with_events_stays(home: str) -> None:
    opened = Spool(home, "session", ABOUT)
    opened.append([event(1)], {"run": "note"})
    folder = Path(opened.path).parent
    opened.close()
    assert Path(opened.path).exists()
    again = Spool(home, "session")
    assert everything(again) == [event(1)]
    assert again.about() == {**ABOUT, "run": "note"}
    again.settle(1)
    again.close()
    assert list(folder.iterdir()) == []
    again.close()


def test_what_is_closed_fails(spool: Spool) -> None:
    spool.close()
    for use in (
        lambda: spool.append([event(1)]),
        lambda: spool.settle(1),
        lambda: spool.head(1, 1),
    ):
        with pytest.raises(SpoolFailed, match="closed"):
            use()


def test_only_one_holds_it(home: str, spool: Spool) -> None:
    spool.append([event(1)])
    with pytest.raises(BlockingIOError):
        Spool(home, "session")
    (left,) = spools(home)
    assert (left.session, left.events, left.busy) == ("session", 1, True)
    assert (left.backend_url, left.client_id) == ("http://here", "client")
    assert left.size > 0 and 0 <= left.age < 60
    assert list(orphans(home, "http://here", "other")) == []


def test_orphans_are_those_of_the_same_backend_that_nobody_holds(home: str) -> None:
    for name, url in (("a", "http://here"), ("b", "http://there"), ("own", "http://here")):
        made = Spool(home, name, {"backend_url": url})
        made.append([event(1)])
        made.close()
    held = Spool(home, "held", ABOUT)
    held.append([event(1)])
    found = list(orphans(home, "http://here", "own"))
    assert [one.session for one in found] == ["a"]
    # Locked for this process from then on.
    assert list(orphans(home, "http://here", "own")) == []
    for one in (*found, held):
        one.close()


def test_a_home_that_is_not_there_holds_nothing(home: str) -> None:
    assert spools(home) == []
    assert list(orphans(home, "http://here", "own")) == []
    assert not os.path.exists(home)


def test_a_file_that_goes_while_one_looks_hides_none_of_the_others(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        made = Spool(home, name, ABOUT)
        made.append([event(1)])
        made.close()

    class Entry:
        def __init__(self, entry: Any) -> None:
            self.name = entry.name
            self.stat = entry.stat

        def gone(self) -> Any:
            raise FileNotFoundError(self.name)

    real = os.scandir

    class Scan:
        def __init__(self, folder: str) -> None:
            self.entries = real(folder)

        def __enter__(self) -> Scan:
            return self

        def __exit__(self, *_: object) -> None:
            self.entries.close()

        def __iter__(self) -> Iterator[Entry]:
            for found in map(Entry, self.entries):
                if found.name.startswith("b"):
                    found.stat = found.gone
                yield found

    monkeypatch.setattr(module.os, "scandir", Scan)
    assert sorted(left.session for left in spools(home)) == ["a", "c"]


@pytest.mark.parametrize("rubbish", [b"", b"no database at all" * 100, b"SQLite format 3\0" * 64])
def test_what_is_no_spool_is_passed_over(home: str, rubbish: bytes) -> None:
    folder = Path(home) / "spool"
    folder.mkdir(parents=True)
    (folder / "rubbish.db").write_bytes(rubbish)
    (folder / "README").write_text("somebody's")
    good = Spool(home, "good", ABOUT)
    good.append([event(1)])
    good.close()
    assert [left.session for left in spools(home)] == ["good"]
    (found,) = orphans(home, "http://here", "own")
    assert found.session == "good"
    found.close()
    if rubbish:
        with pytest.raises(SpoolFailed):
            Spool(home, "rubbish")


def test_a_home_that_can_not_be_made_fails_and_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        with pytest.raises(SpoolFailed):
            Spool(str(tmp_path / "file"), "session")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_disk_that_fails_is_a_failed_spool_and_nothing_is_half_written(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.append([event(1)])
    real = spool._database
    assert real is not None
    # SQLite's own limit stands for a full disk.
    (pages,) = real.execute("PRAGMA page_count").fetchone()
    real.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(SpoolFailed, match="full"):
        spool.append([event(seq, size=1000) for seq in range(2, 100)])
    assert not real.in_transaction
    assert everything(spool) == [event(1)]
    real.execute("PRAGMA max_page_count=100000")
    spool.append([event(2)])
    assert everything(spool) == [event(1), event(2)]


# --- the bound ----------------------------------------------------------------------------------


def test_progress_goes_first_then_the_oldest_lines_with_a_marker(home: str) -> None:
    largest = 600_000
    spool = Spool(home, "session", ABOUT, largest=largest)
    facts, lines = [], []
    for seq in range(1, 6001):
        kind = (FACT, PROGRESS, LOG, LOG, LOG, LOG)[seq % 6]
        one = event(seq, kind, size=100, run=f"run {seq % 2}")
        facts += [one] * (kind == FACT)
        lines += [one] * (kind == LOG)
        spool.append([one])
    kept = everything(spool)
    assert [one for one in kept if one.kind == FACT] == facts
    assert not [one for one in kept if one.kind == PROGRESS and one.seq < 4000]
    kept_lines = [one for one in kept if one.kind == LOG]
    assert 0 < len(kept_lines) < len(lines) and kept_lines == lines[-len(kept_lines) :]
    markers = [one for one in kept if one.kind == MARKER]
    assert len(markers) == 2  # one for each run, counting on
    said = [json.loads(one.text) for one in markers]
    assert {one["run"] for one in said} == {"run 0", "run 1"}
    counts = [int(one["text"].split("[")[1].split()[0]) for one in said]
    assert sum(counts) == len(lines) - len(kept_lines)
    for one, fields in zip(markers, said, strict=True):
        assert fields["seq"] == one.seq < kept_lines[0].seq
        assert (fields["stream"], fields["level"], fields["type"]) == ("system", "WARNING", "log")
    assert spool.count == len(kept)
    used = spool._used()
    assert used <= largest
    spool.close(keep=True)


def test_facts_are_kept_beyond_the_bound(home: str) -> None:
    spool = Spool(home, "session", ABOUT, largest=50_000)
    events = [event(seq, FACT, size=1000) for seq in range(1, 101)]
    for one in events:
        spool.append([one])
    assert everything(spool) == events
    spool.close(keep=True)


def test_the_bound_is_of_all_spools_of_the_home(home: str) -> None:
    other = Spool(home, "other", ABOUT)
    other.append([event(seq, LOG, size=1000) for seq in range(1, 301)])
    spool = Spool(home, "session", ABOUT, largest=500_000)
    for seq in range(1, 301):
        spool.append([event(seq, LOG, size=1000)])
    assert 0 < spool.count < 250
    assert other.count == 300
    other.close(keep=True)
    spool.close(keep=True)


def test_a_marker_is_settled_like_an_event(home: str) -> None:
    spool = Spool(home, "session", ABOUT, largest=100_000)
    for seq in range(1, 301):
        spool.append([event(seq, LOG, size=1000)])
    marker = everything(spool)[0]
    assert marker.kind == MARKER
    spool.settle(marker.seq)
    assert everything(spool)[0].seq == marker.seq + 1
    # Lines given up from now on are counted anew.
    for seq in range(301, 601):
        spool.append([event(seq, LOG, size=1000)])
    marks = [one for one in everything(spool) if one.kind == MARKER]
    assert len(marks) == 1
    shown = [one.seq for one in everything(spool) if one.kind == LOG]
    count = int(json.loads(marks[0].text)["text"].split("[")[1].split()[0])
    assert count == shown[0] - marker.seq - 1
    spool.settle(10_000)
    spool.close()
    assert not os.path.exists(spool.path)


def test_a_batch_larger_than_the_bound_is_taken_all_the_same(home: str) -> None:
    spool = Spool(home, "session", ABOUT, largest=10_000)
    spool.append([event(1, LOG, size=100_000)])
    spool.append([event(2, FACT)])
    kinds = [one.kind for one in everything(spool)]
    assert kinds in ([MARKER, FACT], [LOG, FACT])
    spool.close(keep=True)


# --- what kills it ------------------------------------------------------------------------------


def test_a_sigkill_loses_nothing_that_was_written(home: str) -> None:
    chance = random.Random(7)
    code = textwrap.dedent("""
        import sys
        from perfect.events import Event
        from perfect.spool import Spool
        spool = Spool(sys.argv[1], "killed", {"backend_url": "http://here"})
        seq = 0
        while True:
            spool.append([Event(seq + n, 2, "run", "x" * 100) for n in range(1, 4)])
            seq += 3
            print(seq, flush=True)
        """)
    for number in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", code, home], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 100)):
                seen = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
        seen = int(rest[-1]) if rest else seen
        (spool,) = orphans(home, "http://here", "own")
        kept = [one.seq for one in everything(spool)]
        assert kept == list(range(1, len(kept) + 1)) and seen <= len(kept) <= seen + 3
        spool.settle(kept[-1])
        spool.close()
    assert spools(home) == []


def test_a_forked_child_does_not_hold_the_lock(home: str) -> None:
    spool = Spool(home, "session", ABOUT)
    spool.append([event(1)])
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writing)
        spool.forget_lock()
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    try:
        spool.close()
        deadline_reads = 0
        while [left for left in spools(home) if left.busy]:  # until the child has let go
            deadline_reads += 1
            assert deadline_reads < 100_000
        (found,) = orphans(home, "http://here", "own")
        found.settle(1)
        found.close()
    finally:
        os.close(writing)
        os.waitpid(pid, 0)
    assert spools(home) == []


def test_one_that_was_delivered_between_opening_and_locking_is_not_made_anew(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = Spool(home, "left", ABOUT)
    left.append([event(1)])
    left.close()
    real = module.fcntl.flock

    def late(descriptor: int, operation: int) -> Any:
        monkeypatch.setattr(module.fcntl, "flock", real)
        quicker = Spool(home, "left")
        quicker.settle(1)
        quicker.close()
        return real(descriptor, operation)

    monkeypatch.setattr(module.fcntl, "flock", late)
    with pytest.raises((BlockingIOError, SpoolFailed)):
        Spool(home, "left")
    assert not os.path.exists(left.path)


def test_nothing_is_written_by_looking(home: str) -> None:
    left = Spool(home, "left", ABOUT)
    left.append([event(1)])
    left.close()
    before = Path(left.path).read_bytes()
    assert [one.events for one in spools(home)] == [1]
    assert Path(left.path).read_bytes() == before
    database = sqlite3.connect(left.path)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
