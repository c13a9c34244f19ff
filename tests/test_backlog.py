"""What waits for the backend: memory first, disk while it is away, and a bound where there is no disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from perfect.backlog import OVERHEAD, Backlog
from perfect.events import FACT, LOG, MARKER, PROGRESS, Event
from perfect.spool import Spool, SpoolFailed, spools

LARGEST = 64 << 10


@pytest.fixture
def home(tmp_path: Path) -> str:
    return str(tmp_path / "home")


@pytest.fixture
def backlog(home: str) -> Backlog:
    return Backlog(lambda: Spool(home, "session", {"backend_url": "http://here"}), LARGEST)


def no_disk() -> Spool:
    raise SpoolFailed("No space left on device")


def event(seq: int, kind: int = FACT, size: int = 20, run: str = "run") -> Event:
    return Event(seq, kind, run, json.dumps({"seq": seq, "text": "x" * size}))


def numbers(backlog: Backlog) -> list[int]:
    """Every number, as it would be sent."""
    found: list[int] = []
    while batch := backlog.head(7, 1 << 20):
        found += [one.seq for one in batch]
        backlog.settle(batch[-1].seq)
    return found


def test_memory_comes_and_goes_in_order(backlog: Backlog, home: str) -> None:
    for seq in range(1, 31):
        backlog.add(event(seq))
    assert len(backlog) == backlog.in_memory == 30
    assert backlog.size == sum(len(event(seq).text) + OVERHEAD for seq in range(1, 31))
    assert [one.seq for one in backlog.head(3, 1 << 20)] == [1, 2, 3]
    assert [one.seq for one in backlog.head(100, 1)] == [1]
    assert numbers(backlog) == list(range(1, 31))
    assert (len(backlog), backlog.size) == (0, 0)
    backlog.spill({})
    backlog.close()
    assert not Path(home).exists(), "nothing to keep, so no disk was touched"


def test_what_is_on_disk_comes_before_what_is_in_memory(backlog: Backlog, home: str) -> None:
    for seq in range(1, 11):
        backlog.add(event(seq))
    backlog.spill({"run": "note"})
    assert (len(backlog), backlog.in_memory, backlog.size) == (10, 0, 0)
    for seq in range(11, 21):
        backlog.add(event(seq))
    assert (len(backlog), backlog.in_memory) == (20, 10)
    assert [one.seq for one in backlog.head(100, 1 << 20)] == list(range(1, 11))
    backlog.spill({})
    for seq in range(21, 25):
        backlog.add(event(seq))
    assert numbers(backlog) == list(range(1, 25))
    backlog.close()
    assert spools(home) == []


def test_what_is_left_stays_on_disk(backlog: Backlog, home: str) -> None:
    for seq in range(1, 11):
        backlog.add(event(seq))
    backlog.spill({})
    backlog.settle(4)
    backlog.close()
    (left,) = spools(home)
    assert (left.events, left.busy) == (6, False)


def test_a_part_that_was_sent_is_forgotten_in_both_places(backlog: Backlog) -> None:
    backlog.add(event(1))
    backlog.add(event(2))
    backlog.spill({})
    backlog.add(event(3))
    backlog.add(event(4))
    backlog.settle(3)
    assert numbers(backlog) == [4]
    backlog.close()


@pytest.mark.parametrize("failing", [no_disk, None])
def test_without_a_disk_memory_is_kept_whole_below_its_bound(
    failing: Callable[[], Spool] | None, caplog: pytest.LogCaptureFixture
) -> None:
    def somebody_elses() -> Spool:
        raise BlockingIOError("locked")

    backlog = Backlog(failing or somebody_elses, LARGEST)
    for seq in range(1, 101):
        backlog.add(event(seq, LOG))
        backlog.spill({})
    assert (backlog.in_memory, backlog.given_up) == (100, 0)
    assert caplog.text.count("can't be kept on disk") == 1
    assert numbers(backlog) == list(range(1, 101))


def test_without_a_disk_progress_goes_first_then_the_oldest_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backlog = Backlog(no_disk, LARGEST)
    kinds = {}
    for seq in range(1, 2001):
        kinds[seq] = FACT if seq % 50 == 0 else PROGRESS if seq % 10 == 1 else LOG
        backlog.add(event(seq, kinds[seq], size=100, run=f"run {seq % 3}"))
        if backlog.size > LARGEST:
            backlog.spill({})
        assert backlog.size <= LARGEST
    events = backlog.head(10_000, 1 << 30)
    assert [one.seq for one in events] == sorted(one.seq for one in events)
    kept = {kind: [one.seq for one in events if one.kind == kind] for kind in range(4)}
    assert kept[LOG] and kept[LOG] == [
        seq for seq in kinds if kinds[seq] == LOG and seq >= kept[LOG][0]
    ]
    assert kept[FACT] == [seq for seq in kinds if kinds[seq] == FACT]
    assert len(kept[MARKER]) == 3
    counts = 0
    for one in events:
        if one.kind == MARKER:
            fields = json.loads(one.text)
            assert (fields["seq"], fields["run"], fields["stream"]) == (one.seq, one.run, "system")
            counts += int(fields["text"].split("[")[1].split()[0])
    assert counts == sum(kind == LOG for kind in kinds.values()) - len(kept[LOG])
    lines_and_progress = sum(kind != FACT for kind in kinds.values())
    assert backlog.given_up == lines_and_progress - len(kept[LOG]) - len(kept[PROGRESS])
    assert backlog.size == sum(len(one.text) + OVERHEAD for one in events)


def test_where_facts_alone_are_too_much_the_oldest_go() -> None:
    backlog = Backlog(no_disk, LARGEST)
    for seq in range(1, 1001):
        backlog.add(event(seq, FACT, size=100))
        backlog.spill({})
    kept = numbers(backlog)
    assert kept == list(range(kept[0], 1001)) and len(kept) > 100
    assert backlog.given_up == 1000 - len(kept)


def test_markers_that_were_sent_are_not_made_again() -> None:
    backlog = Backlog(no_disk, LARGEST)
    for seq in range(1, 1001):
        backlog.add(event(seq, LOG, size=100))
        backlog.spill({})
    first = backlog.head(1, 1)[0]
    assert first.kind == MARKER
    sent = numbers(backlog)
    assert (len(backlog), backlog.size) == (0, 0)
    for seq in range(1001, 2001):
        backlog.add(event(seq, LOG, size=100))
        backlog.spill({})
    events = backlog.head(10_000, 1 << 30)
    marks = [one for one in events if one.kind == MARKER]
    assert len(marks) == 1 and marks[0].seq > sent[-1]
    shown = [one.seq for one in events if one.kind == LOG]
    count = int(json.loads(marks[0].text)["text"].split("[")[1].split()[0])
    assert count + len(shown) == 1000


def test_a_disk_that_is_there_again_takes_all(home: str, caplog: pytest.LogCaptureFixture) -> None:
    there = False

    def open_spool() -> Spool:
        return Spool(home, "session") if there else no_disk()

    backlog = Backlog(open_spool, LARGEST)
    for seq in range(1, 11):
        backlog.add(event(seq))
        backlog.spill({})
    there = True
    backlog.spill({})
    assert (backlog.in_memory, len(backlog)) == (0, 10)
    assert numbers(backlog) == list(range(1, 11))
    backlog.close()


def test_a_disk_that_fails_while_it_is_read_leaves_memory_to_go_on_with(
    backlog: Backlog, home: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for seq in range(1, 6):
        backlog.add(event(seq))
    backlog.spill({})
    backlog.add(event(6))

    def failing(*_: object) -> list[Event]:
        raise SpoolFailed("disk I/O error")

    monkeypatch.setattr(Spool, "head", failing)
    assert [one.seq for one in backlog.head(10, 1 << 20)] == [6]
    assert "wait for another process" in caplog.text
    monkeypatch.undo()
    backlog.settle(6)
    backlog.close()
    (left,) = spools(home)
    assert left.events == 5
