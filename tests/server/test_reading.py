"""Runs as people and tools look for them: lists, statistics, reports, the documentation of the API."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started

EVIL = "<img src=x onerror=alert(1)>"
T = 1_700_000_000_000


def _run(peer: Peer, name: str, state: str = "COMPLETED", t: int = T, **flow: Any) -> str:
    run = str(uuid.uuid4())
    begin = started(run, name, t=t)
    begin["flow"] |= flow
    peer.ingest(
        begin,
        {
            "type": "task",
            "run": run,
            "index": 0,
            "name": "a",
            "state": state,
            "started": t,
            "ended": t + 9,
        },
        ended(run, 1, state, t + 10),
    )
    return run


class _Markup(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "action"):
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


def _checked(html: str) -> _Markup:
    """No script, no handler, nothing from elsewhere."""
    markup = _Markup()
    markup.feed(html)
    assert not markup.tags & {"script", "img", "iframe", "object", "embed"}
    assert markup.handlers == []
    assert all(a.startswith("/") or a == "data:," for a in markup.addresses), markup.addresses
    assert not re.search(r"url\(|@import|https?://", html)
    return markup


# --- lists ---------------------------------------------------------------------------------------


def test_runs_are_filtered_and_paged(launch: Callable[..., Running]) -> None:
    backend = launch()
    one, two = backend.peer("one"), backend.peer("two")
    runs = [_run(one, "sales", t=T + i * 1000, tags={"team": "data"}) for i in range(5)]
    failed = _run(two, "sales", "FAILED", T + 9_000, tags={"team": "ops"})
    other = _run(two, "health 100%", t=T + 10_000)

    def found(query: str) -> list[str]:
        return [run["id"] for run in one.get(f"/api/runs?{query}").ok()["runs"]]

    assert found("") == [other, failed, *runs[::-1]]
    assert found("state=failed") == [failed]
    assert found("state=FAILED,COMPLETED&flow=sales") == [failed, *runs[::-1]]
    assert found("client=two") == [other, failed]
    assert found("flow=sales&client=one&state=completed") == runs[::-1]
    assert found("tag=team:ops") == [failed] and len(found("tag=team")) == 6
    assert found("q=HEALTH") == [other] and found("q=100%25") == [other] and found("q=_") == []
    assert found(f"q={runs[0][:13]}") == [runs[0]]
    assert found("from=2023-11-14T22:13:29Z") == [other, failed]
    assert found("to=2023-11-14T22:13:21Z") == [runs[0]]
    assert found("flow=nothing") == []
    pages, cursor = [], ""
    while cursor is not None:
        page = one.get(f"/api/runs?limit=3&cursor={cursor}").ok()
        pages.append([run["id"] for run in page["runs"]])
        cursor = page["next"]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert sum(pages, []) == found("")
    newest = one.get("/api/engine/runs?limit=2").ok()
    assert [run["id"] for run in newest] == [other, failed]


@pytest.mark.parametrize(
    "query",
    [
        "state=DONE",
        "limit=0",
        "limit=x",
        "limit=99999",
        "cursor=x",
        "from=noon",
        "cursor=9-" + "9" * 30,
    ],
)
def test_a_wrong_query_is_refused(shared: Running, query: str) -> None:
    shared.peer().get(f"/api/runs?{query}").refused(400)


# --- statistics ----------------------------------------------------------------------------------


def test_statistics_and_histories(launch: Callable[..., Running]) -> None:
    peer = launch().peer("c")
    runs = []
    for duration in (100, 200, 300):
        run = str(uuid.uuid4())
        runs.append(run)
        peer.ingest(
            started(run, "flow/with slash"),
            *(
                {
                    "type": "task",
                    "run": run,
                    "index": i,
                    "name": "a",
                    "state": "COMPLETED",
                    "started": T,
                    "ended": T + duration,
                }
                for i in range(2)
            ),
            {
                "type": "task",
                "run": run,
                "index": 2,
                "name": "a",
                "state": "COMPLETED",
                "started": T,
                "ended": T,
                "reason": "Cached",
            },
            ended(run, 3, t=T + 1000),
        )
    stats = peer.get("/api/statistics").ok()
    assert [(s["flowName"], s["taskName"]) for s in stats["taskStatistics"]] == [
        ("flow/with slash", "a")
    ]
    task = stats["taskStatistics"][0]
    assert (task["avgDurationMs"], task["sampleCount"]) == (200, 6)
    assert task["stdDevDurationMs"] == pytest.approx(89.443, abs=0.001) and task["lastUpdated"]
    flow = stats["flowStatistics"][0]
    assert (flow["flowName"], flow["avgDurationMs"], flow["sampleCount"]) == (
        "flow/with slash",
        1000,
        3,
    )
    flow_id = flow["flowId"]
    for name in ("flow%2Fwith%20slash", "flow/with%20slash"):
        assert peer.get(f"/api/statistics/task-history/{name}/a").ok()["stats"]["sampleCount"] == 6
        assert peer.get(f"/api/statistics/flow-history/{name}").ok()["stats"]["sampleCount"] == 3
    history = peer.get(f"/api/statistics/flow-history/{flow_id}?limit=2").ok()
    assert [entry["runId"] for entry in history["history"]] == runs[:0:-1]
    history = peer.get(f"/api/statistics/task-history/{flow_id}/a?limit=4").ok()
    assert len(history["history"]) == 4 and history["stats"]["sampleCount"] == 6
    (listed,) = peer.get("/api/statistics/flows").ok()["flows"]
    assert (listed["flowName"], listed["runs"], listed["successRate"]) == ("flow/with slash", 3, 1)
    lately = peer.get("/api/statistics/flows/flow/with%20slash").ok()
    assert (lately["runs"], lately["p95DurationMs"], lately["sampleCount"]) == (3, 1000, 3)
    assert [entry["runId"] for entry in lately["history"]] == runs[::-1]
    (a,) = lately["tasks"]
    assert (a["taskName"], a["runs"], a["completed"], a["failed"]) == ("a", 3, 9, 0)
    # the one of every run whose result came from a cache took no time worth counting
    assert (a["sampleCount"], a["p95DurationMs"], a["avgDurationMs"]) == (6, 300, 200)
    peer.send("DELETE", "/api/statistics").ok()
    assert peer.get("/api/statistics").ok()["taskStatistics"] == []
    (listed,) = peer.get("/api/statistics/flows").ok()["flows"]
    assert (listed["runs"], listed["sampleCount"], listed["successRate"]) == (3, 0, None)
    history = peer.get(f"/api/statistics/task-history/{flow_id}/a").ok()
    assert (history["history"], history["stats"]) == ([], None)


def test_success_rates_are_of_the_newest_runs_and_leave_cancelled_ones_out(
    launch: Callable[..., Running],
) -> None:
    peer = launch().peer("rates")
    for state in ("COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "CANCELLED"):
        _run(peer, "rates", state)
    peer.ingest(started(str(uuid.uuid4()), "rates", t=T))
    lately = peer.get("/api/statistics/flows/rates").ok()
    assert (lately["runs"], lately["completed"], lately["failed"]) == (6, 3, 1)
    assert lately["successRate"] == 0.75
    assert len(lately["history"]) == 5
    peer.get("/api/statistics/flows/unheard-of").refused(404)


# --- reports -------------------------------------------------------------------------------------


def test_the_report_holds_everything_escaped_and_the_last_line(
    shared: Running, run_id: str
) -> None:
    peer = shared.peer("reports")
    peer.ingest(
        {
            **started(run_id, f"../x {EVIL}"),
            "parameters": {EVIL: EVIL},
            "flow": {"name": f"../x {EVIL}", "tags": {EVIL: EVIL}},
            "configuration": EVIL,
        },
        {
            "type": "task",
            "run": run_id,
            "index": 0,
            "name": EVIL,
            "state": "FAILED",
            "reason": EVIL,
            "started": T,
            "ended": T + 1234,
            "result": {"passed": False, "note": EVIL, "table": [{EVIL: EVIL}, {"n": 1}, 7]},
            "error": {"type": EVIL, "message": EVIL, "traceback": EVIL},
        },
        {"type": "log", "run": run_id, "stream": "stdout", "text": f"{EVIL} \x1b[31mred</div>"},
        {**ended(run_id, 1, "FAILED"), "reason": EVIL, "error": {"type": EVIL, "message": EVIL}},
        {"type": "log", "run": run_id, "stream": "stderr", "text": "the last line"},
    )
    report = peer.get(f"/api/reports/run/{run_id}").ok()["report"]
    assert report["filename"] == f"{run_id}.html" and report["flowState"] == "FAILED"
    page = peer.get(report["url"])
    assert page.status == 200 and len(page.body) == report["size"]
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script" not in policy
    html = page.text
    _checked(html.replace(str(report["url"]), ""))
    assert "onerror=alert(1)&gt;" in html and EVIL not in html
    assert "the last line" in html and "1.2 s" in html and "✖" in html and "FAILED" in html
    listed = peer.get("/api/reports/flow/" + "..%2Fx%20%3Cimg%20src=x%20onerror=alert(1)%3E").ok()
    assert [r["runId"] for r in listed["reports"]] == [run_id]
    peer.ingest({"type": "log", "run": run_id, "stream": "stdout", "text": "one more"})
    again = peer.get(f"/api/reports/run/{run_id}").ok()["report"]
    assert again["size"] > report["size"] and "one more" in peer.get(report["url"]).text


def test_a_report_is_made_when_the_run_is_over(shared: Running, run_id: str) -> None:
    peer = shared.peer("reports")
    peer.ingest(started(run_id, "f"))
    assert peer.run(run_id)["reportPath"] is None
    peer.get(f"/api/reports/run/{run_id}").refused(404)
    peer.get(f"/reports/{run_id}.html").refused(404)
    peer.ingest(ended(run_id, 0))
    assert peer.get(peer.run(run_id)["reportPath"]).status == 200


@pytest.mark.parametrize(
    "name", ["../perfect.db", "..%2f..%2fperfect.db", "%2e%2e/perfect.db", "x\\..\\y", "%00"]
)
def test_no_path_leads_to_a_file(shared: Running, name: str) -> None:
    for path in (
        f"/reports/{name}",
        f"/reports/{name}.html",
        f"/{name}",
        f"/api/reports/run/{name}",
    ):
        assert shared.peer().get(path).status in (400, 404)


def test_a_long_log_is_left_out_in_the_middle(launch: Callable[..., Running], run_id: str) -> None:
    peer = launch(report_logs=100, report_tasks=3).peer("c")
    peer.ingest(started(run_id, "f"))
    peer.ingest(
        *(
            {"type": "log", "run": run_id, "stream": "stdout", "text": f"line {i}."}
            for i in range(3_000)
        )
    )
    peer.ingest(
        *(
            {"type": "task", "run": run_id, "index": i, "name": f"task {i}.", "state": "COMPLETED"}
            for i in range(5)
        )
    )
    peer.ingest(ended(run_id, 5))
    html = peer.get(f"/reports/{run_id}.html").text
    assert re.findall(r"line (\d+)\.", html) == [str(i) for i in [*range(50), *range(2_950, 3_000)]]
    assert "2900 lines are left out" in html and f"/api/runs/{run_id}/logs" in html
    assert "task 2." in html and "task 3." not in html and "2 more tasks" in html


# --- pages ---------------------------------------------------------------------------------------


def test_every_route_is_documented_with_its_answers(shared: Running) -> None:
    peer = shared.peer()
    document = peer.get("/openapi.json").ok()
    html = peer.get("/docs").text
    _checked(html)
    assert len(document["paths"]) >= 20
    for path, methods in document["paths"].items():
        assert path in html
        for operation in methods.values():
            assert operation["summary"] and {"200", "400", "401", "403"} <= set(
                operation["responses"]
            ), path
            assert "422" not in operation["responses"]


@pytest.mark.parametrize("prefix", ["/tools/perfect", ""], ids=["kept by the proxy", "stripped"])
def test_everything_works_below_a_base_path(
    launch: Callable[..., Running], prefix: str, run_id: str
) -> None:
    backend = launch(base_path="/tools/perfect")
    assert backend.url.endswith("/tools/perfect")
    peer = backend.peer("c")
    begin = {"seq": 1, **started(run_id, "f")}
    peer.post(f"{prefix}/api/ingest", {"events": [begin, {"seq": 2, **ended(run_id, 0)}]}).ok()
    run = peer.get(f"{prefix}/api/runs/{run_id}").ok()
    assert run["reportPath"] == f"/tools/perfect/reports/{run_id}.html"
    markup = _checked(peer.get(f"{prefix}/docs").text)
    assert all(a.startswith("/tools/perfect/") or a == "data:," for a in markup.addresses)
    assert peer.get("/tools/perfect").status == 200
    assert peer.get(f"{prefix}/style.css").status == 200
    assert peer.get(f"{prefix}/reports/{run_id}.html").status == 200
    assert peer.get(f"{prefix}/nothing").status == 404


_TEXT = some.text(max_size=30) | some.integers(-(2**70), 2**70).map(str) | some.just("../x")


@settings(max_examples=150, deadline=None)
@given(data=some.data())
def test_whatever_is_asked_the_backend_does_not_fail(
    shared: Running, data: some.DataObject
) -> None:
    peer = shared.peer()
    paths = peer.get("/openapi.json").ok()["paths"]
    del paths["/api/stream"]  # its answer does not end
    # the event stream has no end
    path = data.draw(some.sampled_from(sorted(set(paths) - {"/api/stream"})))
    method = data.draw(some.sampled_from(sorted(paths[path])))
    parameters = paths[path][method].get("parameters", [])
    query = {p["name"]: data.draw(_TEXT) for p in parameters if p["in"] == "query"}
    address = re.sub(r"\{\w+\}", lambda _: quote(data.draw(_TEXT), safe=""), path)
    answer = peer.send(
        method.upper(),
        f"{address}?{urlencode(query)}",
        headers={"Content-Type": "application/json"},
    )
    assert answer.status in (200, 400, 404, 405, 409), (method, address, query, answer.body)
    if answer.status != 200:
        answer.refused(answer.status)


def test_a_flow_tells_of_its_newest_run(launch: Callable[..., Running]) -> None:
    peer = launch().peer("c")
    for name in ("busy", "calm", "never run"):
        peer.register(name, "a")

    def last() -> dict[str, Any]:
        return {flow["name"]: flow["lastRun"] for flow in peer.get("/api/engine/flows").ok()}

    newest = _run(peer, "busy", "FAILED", T + 5_000)
    _run(peer, "busy", t=T)  # older, although it is told of later
    calm = _run(peer, "calm", t=T + 1)
    assert last()["never run"] is None
    assert last()["calm"]["id"] == calm
    shown = peer.run(newest)
    assert last()["busy"] == {name: shown[name] for name in last()["busy"]}
    assert (shown["state"], shown["durationMs"]) == ("FAILED", 10)
    open_run = str(uuid.uuid4())
    peer.ingest(started(open_run, "busy", "a", t=T + 9_000))
    assert (last()["busy"]["id"], last()["busy"]["state"]) == (open_run, "RUNNING")
    peer.post(f"/api/runs/{open_run}/cancel").ok()
    assert last()["busy"]["cancelling"] is True
    peer.ingest(ended(open_run, 0, "CANCELLED", T + 9_500))
    peer.send("DELETE", f"/api/runs/{open_run}").ok()
    assert last()["busy"]["id"] == newest
    # registered again, it still has it
    assert peer.register("calm", "a")["lastRun"]["id"] == calm
