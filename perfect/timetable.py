"""Schedules on the command line: what is due when, and what became of it."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from perfect.api import PerfectAPIClient, quote
from perfect.errors import ConfigurationError, NotFound
from perfect.show import Table, ago, show_schedule, show_state
from perfect.text import printable

NONE = "No schedules: give a flow one, as in @flow(schedule=CronSchedule(…))."
_PAGE = 200
_LABEL = 17  # columns


def listed(client: PerfectAPIClient) -> Iterator[dict[str, Any]]:
    """Every schedule that the backend knows."""
    cursor = None
    while True:
        more = "" if cursor is None else f"&cursor={quote(cursor)}"
        page = client.request("GET", f"/api/schedules?limit={_PAGE}{more}")
        yield from page["schedules"]
        cursor = page.get("next")
        if cursor is None:
            return


def named(client: PerfectAPIClient, wanted: str) -> list[dict[str, Any]]:
    """The schedules of the flows of that name or id, or the one of that id.

    Raises:
        NotFound: there is none.
    """
    every = list(listed(client))
    found = [one for one in every if wanted in (one["flowName"], one["flowId"], one["id"])]
    if not found:
        known = ", ".join(sorted({one["flowName"] for one in every})) or "none"
        raise NotFound("schedule", wanted, f"flows that have one: {known}")
    return found


def pause(client: PerfectAPIClient, wanted: str, paused: bool) -> dict[str, Any]:
    """Pause a schedule, or let it go on; returns it as it is then.

    Raises:
        NotFound: there is none.
        ConfigurationError: several clients have a flow of that name.
    """
    found = named(client, wanted)
    if len(found) > 1:
        ids = ", ".join(f"{one['id']} of {one['clientId']}" for one in found)
        raise ConfigurationError("NAME", wanted, f"several clients have it; name one by id: {ids}")
    path = f"/api/schedules/{quote(found[0]['id'])}"
    changed: dict[str, Any] = client.request("PATCH", path, {"paused": paused})["schedule"]
    return changed


def print_list(schedules: list[dict[str, Any]]) -> int:
    """A line for each schedule; returns 0."""
    clients = len({one["clientId"] for one in schedules}) > 1
    table = Table("FLOW", "SCHEDULE", "NEXT (UTC)", "LAST", *(["CLIENT"] if clients else []))
    for one in schedules:
        table.add(
            one["flowName"],
            show_schedule({"cron": _when(one), "timezone": one["timezone"]}),
            "paused" if one["paused"] else _moment((one["next"] or [None])[0], seconds=False),
            _last(one["slots"][0]) if one["slots"] else "",
            *([one["clientId"]] if clients else []),
        )
    return table.print(NONE)


def print_one(one: dict[str, Any]) -> None:
    """What there is to know of a schedule, but its slots."""
    print(printable(f"{one['flowName']}: {_when(one)}, {one['timezone']}"))
    # a schedule of whole minutes is read without seconds
    seconds = any(not text.endswith(":00.000Z") for text in one["next"])
    following = ", ".join(_moment(text, seconds=seconds) for text in one["next"]) or "never"
    facts = {
        "next (UTC)": "paused" if one["paused"] else following,
        "configuration": one["configuration"],
        "parameters": json.dumps(one["parameters"] or {}, ensure_ascii=False),
        "missed times": f"catchup={one['catchup']}",
        "while it runs": f"overlap={one['overlap']}",
        "client": one["clientId"],
        "id": one["id"],
    }
    for name, value in facts.items():
        _say(f"  {name:<{_LABEL - 2}}", printable(value))


def slots(
    client: PerfectAPIClient, schedule_id: str, limit: int, *, left_out: bool
) -> Iterator[dict[str, Any]]:
    """The last slots of a schedule, or those of them that were left out, newest first."""
    path = f"/api/schedules/{quote(schedule_id)}/slots?{'fired=false&' if left_out else ''}"
    more = ""
    while limit > 0:
        page = client.request("GET", f"{path}limit={min(limit, _PAGE)}{more}")
        yield from page["slots"]
        limit -= len(page["slots"])
        if page["next"] is None:
            return
        more = f"&cursor={page['next']}"


def print_slots(found: Iterator[dict[str, Any]]) -> None:
    """A line for each slot: when, and its run, or why there is none."""
    any_printed = False
    for slot in found:
        if not any_printed:
            print(f"{'TIME (UTC)':<21}RUN")
            any_printed = True
        if slot["reason"] is not None:
            became, rest = "– left out", slot["reason"]
        elif slot["runId"] is None:
            became, rest = "–", "its run was deleted"
        else:
            became, rest = show_state(slot["state"]), slot["runId"]
        _say(f"{_moment(slot['slot']):<21}{became:<13}", printable(rest))
    if not any_printed:
        print("No time of it has come yet.")


def _say(head: str, text: str) -> None:
    """A line; on a terminal, what is too long for it goes on below the text."""
    if sys.stdout.isatty():
        columns = max(len(head) + 20, shutil.get_terminal_size().columns)
        lines = textwrap.wrap(text, columns - len(head), break_on_hyphens=False) or [""]
    else:
        lines = [text]
    print(head + lines[0])
    for line in lines[1:]:
        print(" " * len(head) + line)


def _when(one: dict[str, Any]) -> str:
    return str(one["expression"])


def _last(slot: dict[str, Any]) -> str:
    if slot["reason"] is not None:
        return "– left out"
    return "" if slot["state"] is None else f"{show_state(slot['state'])} {ago(slot['slot'])}"


def _moment(text: str | None, *, seconds: bool = True) -> str:
    return "never" if text is None else text.replace("T", " ")[: 19 if seconds else 16]
