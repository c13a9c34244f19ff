"""What a transaction changed, in words that other backends are told."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from perfect.server.store.changes import Changes, Watch
from perfect.server.store.signals import LONGEST

# so many ids fit in a word whatever they are: keys and positions have up to 10 digits, other ids 36 characters
_NUMBERS = 500
_IDS = 100
# words of one transaction; of more than they hold, those who watch are told to look anew
_MOST = 50
_TOO_MUCH = '["crowded"]'


def words(changed: Changes) -> list[str]:
    """Words, each short enough to be said; `understood` reads their facts."""
    whole = _word(
        sorted(changed.runs),
        [(key, sorted(found)) for key, found in sorted(changed.tasks.items())],
        sorted(changed.gone),
        sorted(changed.others),
    )
    if len(whole) <= LONGEST:
        return [whole]
    found: list[str] = []
    for word in _parts(changed):
        if len(found) == _MOST or len(word) > LONGEST:
            return [_TOO_MUCH]
        found.append(word)
    return found


def understood(
    watch: Watch,
    runs: list[int],
    tasks: list[tuple[int, list[int]]],
    gone: list[str],
    others: list[tuple[str, str]],
) -> Changes:
    """What another backend has changed, from the facts of a word."""
    return Changes(
        watch,
        set(runs),
        {key: set(found) for key, found in tasks},
        set(gone),
        {(kind, its_id) for kind, its_id in others},
    )


def _parts(changed: Changes) -> Iterator[str]:
    runs, gone, others = sorted(changed.runs), sorted(changed.gone), sorted(changed.others)
    for first in range(0, len(runs), _NUMBERS):
        yield _word(runs[first : first + _NUMBERS], [], [], [])
    for key, found in sorted(changed.tasks.items()):
        indices = sorted(found)
        for first in range(0, len(indices), _NUMBERS):
            # with the run, without which its tasks are not looked at
            yield _word([key], [(key, indices[first : first + _NUMBERS])], [], [])
    for first in range(0, len(gone), _IDS):
        yield _word([], [], gone[first : first + _IDS], [])
    for first in range(0, len(others), _IDS):
        yield _word([], [], [], others[first : first + _IDS])


def _word(
    runs: list[int],
    tasks: list[tuple[int, list[int]]],
    gone: list[str],
    others: list[tuple[str, str]],
) -> str:
    return orjson.dumps(["changed", runs, tasks, gone, others]).decode()
