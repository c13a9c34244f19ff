"""The log of a run: filters, places of pages, and the download, compared byte by byte."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started

COUNT = 1_234
LEVELS = (None, "INFO", "WARNING", "ERROR")


def _lines() -> list[dict[str, Any]]:
    texts = ["\x1b[31mrot\x1b[0m", "", "  100 % of _it_  ", "ünïcode ✓ 🎉", "<b>x</b>", "a\tb"]
    return [
        {
            "type": "log",
            "index": None if i % 5 == 4 else i % 5,
            "stream": "stdout",
            "level": LEVELS[i % 4],
            "text": f"{texts[i % len(texts)]} {i}",
        }
        for i in range(COUNT)
    ]


def _logged(peer: Peer, run_id: str, name: str = "etl") -> list[dict[str, Any]]:
    lines = _lines()
    peer.ingest(started(run_id, name), *({**line, "run": run_id} for line in lines))
    return lines


def _matching(lines: list[dict[str, Any]], **wanted: Any) -> list[tuple[int, str]]:
    return [
        (seq, line["text"])
        for seq, line in enumerate(lines, 1)
        if ("task" not in wanted or line["index"] == wanted["task"])
        and ("level" not in wanted or line["level"] in wanted["level"].split(","))
        and ("q" not in wanted or wanted["q"].lower() in line["text"].lower())
    ]


FILTERS: list[dict[str, Any]] = [
    {},
    {"task": 3},
    {"level": "WARNING"},
    {"level": "WARNING,ERROR"},
    {"q": "ROT"},
    {"q": "% of _it_"},
    {"task": 1, "level": "INFO", "q": "✓"},
    {"q": "nowhere"},
]


def _query(wanted: dict[str, Any]) -> str:
    return "&".join(f"{name}={quote(str(value))}" for name, value in wanted.items())


def test_download_has_every_byte_of_the_lines_that_match(shared: Running, run_id: str) -> None:
    peer = shared.peer("c")
    lines = _logged(peer, run_id)
    for wanted in FILTERS:
        answer = peer.get(f"/api/runs/{run_id}/logs.txt?{_query(wanted)}")
        expected = "".join(f"{text}\n" for _, text in _matching(lines, **wanted))
        assert answer.status == 200 and answer.body == expected.encode(), wanted
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_download_is_named_after_flow_and_run(shared: Running, run_id: str) -> None:
    peer = shared.peer("c")
    _logged(peer, run_id, '../"a"\r\nX-Evil: 1; ✓ b')
    answer = peer.get(f"/api/runs/{run_id}/logs.txt")
    name = f"a-X-Evil-1-b-{run_id[:8]}.log"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert "X-Evil" not in answer.headers
    peer.get("/api/runs/nothing/logs.txt").refused(404)


def test_download_of_long_lines(shared: Running, run_id: str) -> None:
    peer = shared.peer("c")
    texts = [f"{i} " + "x" * 50_000 for i in range(100)] + ["the end"]
    peer.ingest(
        started(run_id, "long"),
        *({"type": "log", "run": run_id, "index": None, "text": text} for text in texts),
    )
    assert peer.get(f"/api/runs/{run_id}/logs.txt").text == "".join(f"{t}\n" for t in texts)


def test_pages_of_a_filtered_log_can_be_asked_for_in_any_order(
    shared: Running, run_id: str
) -> None:
    peer = shared.peer("c")
    lines = _logged(peer, run_id)
    for wanted in FILTERS:
        query, matching = _query(wanted), _matching(lines, **wanted)
        places = peer.get(f"/api/runs/{run_id}/logs/pages?size=50&{query}").ok()
        assert (places["count"], places["total"]) == (len(matching), COUNT)
        assert places["first"] == [seq for seq, _ in matching[::50]]
        for number, first in reversed(list(enumerate(places["first"]))):
            path = f"/api/runs/{run_id}/logs?after={first - 1}&limit=50&{query}"
            found = [(line["seq"], line["text"]) for line in peer.get(path).ok()["logs"]]
            assert found == matching[number * 50 : number * 50 + 50]


def test_pages_go_on_from_an_earlier_answer(shared: Running, run_id: str) -> None:
    peer = shared.peer("c")
    lines = _logged(peer, run_id)
    path = f"/api/runs/{run_id}/logs/pages?size=50&task=2"
    before = peer.get(path).ok()
    more = {"type": "log", "run": run_id, "index": 2, "text": "more"}
    peer.ingest(*(dict(more) for _ in range(120)), ended(run_id, 0, "COMPLETED"))
    whole = peer.get(path).ok()
    since = peer.get(f"{path}&after={before['total']}&counted={before['count']}").ok()
    assert whole["count"] == since["count"] == len(_matching(lines, task=2)) + 120
    assert before["first"] + since["first"] == whole["first"]
