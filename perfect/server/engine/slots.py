"""When a schedule's slots are: the instants at which a run is due.

cronsim says which times of a wall clock an expression means; what instants these are in a time zone is said here
(cronsim, too, knows zones, but leaves out times next to a change of half an hour, as on Lord Howe Island).
The rule is Debian cron's:

* Jobs at fixed times, whose minute and hour both do not begin with ``*``, run once a day that they name. A time
  that a clock put forward leaves out comes at the first instant after it, once however many were left out; a time
  that comes twice counts the first time.
* Other jobs run whenever the clock shows such a time: not at times that are left out, and twice at those that
  come twice.

An interval in seconds does not look at clocks; it is counted from a Monday long ago.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim

from perfect.schedules import CronSchedule, IntervalSchedule

_EPOCH = datetime(1970, 1, 1)
_SECOND = timedelta(seconds=1)
_DAY = 86_400  # s
_ANCHOR = datetime(2001, 1, 1)  # a Monday


def after(schedule: CronSchedule, moment: int) -> Iterator[int]:
    """The slots later than a moment, in order; all in ms since the epoch.

    Args:
        schedule: whose.
        moment: a slot at this very moment does not count.
    """
    zone = _zone(schedule.timezone)
    second = moment // 1000
    if isinstance(schedule, IntervalSchedule) and schedule.seconds is not None:
        found = _counted(schedule.seconds, zone, second)
    elif zone is UTC:
        found = (_seconds(wall) for wall in _walls(schedule.expression, second))
    elif _is_fixed(schedule.expression):
        found = _at_fixed_times(schedule.expression, zone, second)
    else:
        found = _whenever_it_shows(schedule.expression, zone, second)
    return (slot * 1000 for slot in found)


def newest(schedule: CronSchedule, moment: int, until: int, most: int) -> list[int]:
    """The last slots later than ``moment`` and not later than ``until``, at most ``most`` of them, in order.

    Looks at about ``8 * most`` slots however long ago ``moment`` is.
    """
    seconds = getattr(schedule, "seconds", None) or 60
    window = seconds * most * 1000
    while True:
        start = max(moment, until - window)
        found = []
        for slot in after(schedule, start):
            if slot > until:
                break
            found.append(slot)
        if len(found) >= most or start == moment:
            return found[-most:]
        window *= 8


def following(schedule: CronSchedule, moment: int, count: int) -> list[int]:
    """The next slots later than a moment, fewer where there are no more within 50 years."""
    return list(islice(after(schedule, moment), count))


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


def _is_fixed(expression: str) -> bool:
    minute, hour, *_ = expression.split()
    return not minute.startswith("*") and not hour.startswith("*")


def _walls(expression: str, shown: int) -> Iterator[datetime]:
    """The times that an expression means, later than what a clock shows, given as seconds like `_seconds`."""
    return iter(CronSim(expression, _EPOCH + timedelta(seconds=shown)))


def _seconds(wall: datetime) -> int:
    """The time that a clock shows as seconds, as if it stood in Greenwich."""
    return (wall - _EPOCH) // _SECOND


def _offset(zone: tzinfo, second: int) -> int:
    """How far the clocks of a zone are ahead of UTC at a second since the epoch, in s."""
    offset = datetime.fromtimestamp(second, zone).utcoffset()
    assert offset is not None
    return offset // _SECOND


def _instant(zone: tzinfo, wall: datetime) -> int:
    """The second at which the clocks of a zone first show a time, or go past it."""
    before, behind = (
        _seconds(wall)
        - (wall.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta()) // _SECOND
        for fold in (0, 1)
    )
    if before > behind:  # left out: before the change it lies after it, and the other way round
        return _change(zone, behind, before)
    return before


def _change(zone: tzinfo, low: int, high: int) -> int:
    """The first second after ``low``, up to ``high``, that has not the offset of ``low``; ``high`` has not."""
    offset = _offset(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, middle) == offset:
            low = middle
        else:
            high = middle
    return high


def _counted(every: int, zone: tzinfo, second: int) -> Iterator[int]:
    slot = _instant(zone, _ANCHOR)
    slot += ((second - slot) // every + 1) * every
    while True:
        yield slot
        slot += every


def _at_fixed_times(expression: str, zone: tzinfo, second: int) -> Iterator[int]:
    for wall in _walls(expression, second + _offset(zone, second)):
        slot = _instant(zone, wall)
        if slot > second:
            yield slot
            second = slot


def _whenever_it_shows(expression: str, zone: tzinfo, second: int) -> Iterator[int]:
    since = second  # from here to the next change of offset, clocks run evenly
    while True:
        offset = _offset(zone, since)
        change = None
        for wall in _walls(expression, second + offset):
            slot = _seconds(wall) - offset
            change = _next_change(zone, since, slot)
            if change is not None:
                break
            yield slot
            since = second = slot
        if change is None:
            return  # never again
        since, second = change, change - 1


def _next_change(zone: tzinfo, since: int, until: int) -> int | None:
    """The first second after ``since``, up to ``until``, at which the clocks of a zone were changed."""
    offset = _offset(zone, since)
    while since < until:
        following_day = min(since + _DAY, until)  # they are never changed twice a day
        if _offset(zone, following_day) != offset:
            return _change(zone, since, following_day)
        since = following_day
    return None
