"""Schemas that flows are registered with, and values that runs are asked for with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from perfect.server.engine import parameters as engine
from perfect.server.engine.refusals import Invalid
from perfect.server.settings import Limits
from tests.server.conftest import Running
from tests.server.peers import ended, started

DAY = {"type": "string", "format": "date"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "day": DAY,
        "count": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        "rows": {"type": "array", "items": {"type": "number"}, "maxItems": 3},
        "kind": {"enum": ["a", 1]},
        "wait": {"type": ["string", "number"], "format": "duration"},
        "tree": {"$ref": "#/$defs/Tree"},
        "names": {"type": "array", "uniqueItems": True},
        "more": {"type": "object", "additionalProperties": {"type": "integer"}},
        "least": {"type": "integer", "minimum": 1},
    },
    "required": ["day"],
    "additionalProperties": False,
    "$defs": {
        "Tree": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "next": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    },
}


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ([], "parameters=[]: is not an object"),
        ({"type": "array"}, "parameters.type: is not 'object'"),
        ({}, "parameters.type: is not 'object'"),
        (obj(a={"type": "strin"}), "parameters.properties.a.type: 'strin' is not valid under"),
        (obj(a=5), "parameters.properties.a: 5 is not of type 'object', 'boolean'"),
        ({"type": "object", "properties": []}, "parameters.properties: [] is not of type"),
        ({"type": "object", "required": "a"}, "parameters.required: 'a' is not of type 'array'"),
        (obj(a={"maxItems": -1}), "parameters.properties.a.maxItems: -1 is less than"),
        (obj(a={"pattern": "(a+)+$"}), "parameters.properties.a.pattern: regular expressions of"),
        ({**obj(), "patternProperties": {"(a+)+$": {}}}, "parameters.patternProperties: regular"),
        (obj(a={"$ref": "http://127.0.0.1:9/x"}), "parameters.properties.a.$ref='http://127.0.0.1"),
        (obj(a={"$ref": "file:///etc/passwd"}), "parameters.properties.a.$ref='file:///etc"),
        (obj(a={"$ref": "#/$defs/Gone"}), "parameters.properties.a.$ref='#/$defs/Gone': is not"),
        (
            obj(a={"anyOf": [{}, {"$ref": "#"}]}),
            "parameters.properties.a.anyOf[1].$ref='#': is not",
        ),
        (obj(a={"$dynamicRef": "#x"}), "parameters.properties.a.$dynamicRef: only $ref"),
        (obj(a={"$id": "http://x/"}), "parameters.properties.a.$id: a schema is not known"),
        (obj(a={"$defs": {}}), "parameters.properties.a.$defs: stands at the top"),
        (
            {**obj(), "$schema": "http://json-schema.org/draft-07/schema#"},
            "parameters.$schema='http",
        ),
        (obj(a={"contains": {}}), "parameters.properties.a.contains: is not checked by this"),
        (obj(**{f"p{n}": {} for n in range(1001)}), "parameters.properties: there are 1001, more"),
        (obj(a={"description": "x" * 300_000}), "parameters: has 3000"),
    ],
    ids=lambda one: str(one)[:50],
)
def test_a_schema_that_is_not_taken_is_refused_with_the_place(
    shared: Running, schema: Any, message: str
) -> None:
    answer = shared.peer("c").post("/api/flows", {"name": "refused", "parameters": schema})
    assert answer.refused(400)["error"].startswith(message)


def test_a_schema_nested_too_deep_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(30):
        deep = {"items": deep}
    with pytest.raises(Invalid, match="is nested deeper than 24 schemas"):
        engine.check_schema(obj(a=deep), Limits())


def test_a_schema_is_kept_and_shown_as_it_is(shared: Running) -> None:
    peer = shared.peer("c")
    with_more = {**SCHEMA, "$schema": "https://json-schema.org/draft/2020-12/schema", "x-own": 1}
    assert peer.register("kept", parameters=with_more)["parameters"] == with_more


GOOD: list[Any] = [
    {"day": "2024-02-29"},
    {"day": "2024-02-29", "count": None, "rows": [1, 2.5], "kind": 1, "wait": "PT5M"},
    {"day": "2024-02-29", "wait": 5, "names": [1, "1", True], "more": {"x": 1}, "least": 1},
    {"day": "2024-02-29", "wait": "1 day, 0:00:05", "count": 2**53},
    {"day": "2024-02-29", "tree": {"name": "a", "next": {"name": "b", "next": None}}},
]


@pytest.mark.parametrize("given", GOOD, ids=str)
def test_values_that_fit_are_taken_and_shown(shared: Running, given: Any) -> None:
    peer = shared.peer("good")
    flow = peer.register("good", parameters=SCHEMA)["id"]
    body = {"configuration": "release", "parameters": given}
    run = peer.post(f"/api/engine/trigger/{flow}", body).ok()["runId"]
    shown = peer.run(run)
    assert (shown["parameters"], shown["configuration"]) == (given, "release")


BAD: list[tuple[Any, str, str]] = [
    (None, "parameters.day", "is required and not given"),
    ({}, "parameters.day", "is required and not given"),
    ([], "parameters", "[] is not an object"),
    ({"day": "2024-02-30"}, "parameters.day", "'2024-02-30' is not a date (YYYY-MM-DD)"),
    ({"day": 5}, "parameters.day", "5 is not a date (YYYY-MM-DD)"),
    ({"day": "2024-02-29", "dya": 1}, "parameters.dya", "is not known; known: day, count, rows"),
    ({"day": "2024-02-29", "count": "5"}, "parameters.count", "'5' is not a whole number or null"),
    ({"day": "2024-02-29", "rows": [1, "x"]}, "parameters.rows[1]", "'x' is not a number"),
    ({"day": "2024-02-29", "rows": [1] * 4}, "parameters.rows", "has 4 parts, maxItems is 3"),
    ({"day": "2024-02-29", "kind": True}, "parameters.kind", "True is not one of 'a', 1"),
    ({"day": "2024-02-29", "wait": "soon"}, "parameters.wait", "'soon' is not a duration"),
    ({"day": "2024-02-29", "tree": {}}, "parameters.tree.name", "is required and not given"),
    (
        {"day": "2024-02-29", "tree": {"name": "a", "next": {"name": 5}}},
        "parameters.tree.next.name",
        "5 is not text",
    ),
    ({"day": "2024-02-29", "names": [1, [2], [2]]}, "parameters.names", "has a part that stands"),
    ({"day": "2024-02-29", "more": {"x": "y"}}, "parameters.more.x", "'y' is not a whole number"),
    ({"day": "2024-02-29", "least": 0}, "parameters.least", "0: minimum is 1"),
    ({"x" * 201: 1}, "parameters", "the name 'xxxxx"),
    ({f"n{n}": 1 for n in range(1001)}, "parameters", "has 1001 names, more than 1000"),
    ({"day": "x" * 2**20}, "parameters", "has 1048586 bytes, more than 1048576"),
    ({"day": "x" * 9000}, "parameters.day", "'xxxxxxxxxxxxx"),
]


@pytest.mark.parametrize(("given", "field", "problem"), BAD, ids=lambda one: str(one)[:40])
def test_values_that_don_t_fit_are_refused_with_field_and_problem(
    shared: Running, given: Any, field: str, problem: str
) -> None:
    peer = shared.peer("bad")
    flow = peer.register("bad", parameters=SCHEMA)["id"]
    before = len(peer.get("/api/runs?flow=bad").ok()["runs"])
    refusal = peer.post(f"/api/engine/trigger/{flow}", {"parameters": given}).refused(400)
    first = refusal["detail"][0]
    assert first["field"] == field and first["problem"].startswith(problem)
    assert refusal["error"].startswith(f"{field}: {problem}")
    assert len(refusal["error"]) < 700
    assert len(peer.get("/api/runs?flow=bad").ok()["runs"]) == before


@pytest.mark.parametrize(
    ("schema", "glance", "goes_without"),
    [
        (obj(a={"type": "integer"}), True, True),
        ({**obj(a=DAY), "required": [], "additionalProperties": False}, True, True),
        ({**obj(), "propertyNames": {"maxLength": 3}, "$defs": {"a": {}}}, True, True),
        ({**obj(a=DAY), "allOf": [obj(b=DAY)]}, False, True),
        (SCHEMA, False, False),
        ({**obj(), "minProperties": 1}, False, False),
        ({**obj(), "not": {}}, False, False),
        ({**obj(), "const": {"a": 1}}, False, False),
        ({**obj(), "enum": [1]}, False, False),
    ],
)
def test_a_run_without_values_is_taken_where_its_flow_goes_without(
    shared: Running, schema: dict[str, Any], glance: bool, goes_without: bool
) -> None:
    assert engine.takes_nothing(json.dumps(schema)) is glance
    peer = shared.peer("glance")
    flow = peer.register("flow", parameters=schema)["id"]
    answer = peer.post(f"/api/engine/trigger/{flow}", {})
    if goes_without:
        assert peer.run(answer.ok()["runId"])["parameters"] is None
    else:
        answer.refused(400)


def test_every_wrong_field_is_named_up_to_a_number(shared: Running) -> None:
    peer = shared.peer("c")
    flow = peer.register("several", parameters=SCHEMA)["id"]
    given = {"count": "x", **{f"n{n}": 1 for n in range(100)}}
    refusal = peer.post(f"/api/engine/trigger/{flow}", {"parameters": given}).refused(400)
    fields = [one["field"] for one in refusal["detail"]]
    assert "parameters.count" in fields and "parameters.n0" in fields
    assert len(fields) == engine.MOST_PROBLEMS
    assert f"(and {engine.MOST_PROBLEMS - 1} more)" in refusal["error"]


def test_a_flow_without_a_schema_takes_any_object(shared: Running) -> None:
    peer = shared.peer()
    flow = peer.register("anything")["id"]
    given = {"x": [1, {"y": "\x00"}], "<script>": None}
    run = peer.post(f"/api/engine/trigger/{flow}", {"parameters": given}).ok()["runId"]
    assert peer.run(run)["parameters"] == given
    peer.post(f"/api/engine/trigger/{flow}", {"parameters": [1]}).refused(400)
    peer.post(f"/api/engine/trigger/{flow}", {"configuration": "x" * 201}).refused(400)
    peer.post("/api/engine/trigger/none", {"parameters": {}}).refused(404)


def test_limits_can_be_set(launch: Callable[..., Running]) -> None:
    peer = launch(limits=Limits(parameters=20, parameter_names=2, schema=100)).peer("c")
    peer.post("/api/flows", {"name": "f", "parameters": SCHEMA}).refused(400)
    flow = peer.register("f")["id"]
    for given in ({"a": 1, "b": 2, "c": 3}, {"a": "x" * 20}):
        peer.post(f"/api/engine/trigger/{flow}", {"parameters": given}).refused(400)
    limits = peer.get("/api/version").ok()["limits"]
    assert (limits["parameters"], limits["parameter_names"], limits["schema"]) == (20, 2, 100)


# What a hostile schema may cost


def test_a_schema_that_multiplies_is_given_up() -> None:
    doubling = {
        f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}, {"$ref": f"#/$defs/a{n + 1}"}]}
        for n in range(60)
    }
    schema = {**obj(x={"$ref": "#/$defs/a0"}), "$defs": {**doubling, "a60": {"type": "integer"}}}
    engine.check_schema(schema, Limits())
    with pytest.raises(Invalid, match="is too much to be checked"):
        engine.check_values(json.dumps(schema), {"x": 1}, Limits())
    # the next one has all its checks again
    assert engine.check_values(json.dumps(SCHEMA), {"day": "2024-01-01"}, Limits())


def test_a_schema_that_runs_in_a_circle_is_given_up() -> None:
    schema = {**obj(x={"$ref": "#/$defs/a"}), "$defs": {"a": {"$ref": "#/$defs/a"}}}
    engine.check_schema(schema, Limits())
    with pytest.raises(Invalid, match="the schema runs in a circle"):
        engine.check_values(json.dumps(schema), {"x": 1}, Limits())


def test_nothing_is_fetched_even_where_a_schema_was_not_checked() -> None:
    schema = obj(x={"$ref": "http://127.0.0.1:9/schema"})
    with pytest.raises(Invalid, match="the schema is not whole"):
        engine.check_values(json.dumps(schema), {"x": 1}, Limits())


def test_the_largest_list_is_checked() -> None:
    schema = json.dumps(obj(x={"type": "array", "items": {"type": "integer"}}))
    most = [1] * 524_000
    assert engine.check_values(schema, {"x": most}, Limits())
    with pytest.raises(Invalid, match=r"parameters.x\[523999\]: 'x' is not a whole number"):
        engine.check_values(schema, {"x": [*most[:-1], "x"]}, Limits())


# What is kept with a run


def test_what_was_asked_for_stays_and_a_secret_does_not(
    launch: Callable[..., Running],
) -> None:
    peer = launch().peer("c")
    flow = peer.register("flow")["id"]

    def reported(asked: dict[str, Any], told: dict[str, Any]) -> Any:
        run = peer.post(f"/api/engine/trigger/{flow}", {"parameters": asked}).ok()["runId"]
        lease = peer.poll(slots=1)["lease"]
        peer.post(f"/api/execution-requests/{run}/claim", {"lease": lease}).ok()
        event = {**started(run, "flow"), "trigger": "request", "parameters": told}
        assert peer.ingest(event, ended(run, 0))["rejected"] == []
        return run

    long = {"rows": list(range(1000))}
    kept = reported(long, {"rows": [0, "… 999 more"]})
    assert peer.run(kept)["parameters"] == long
    peer.post(f"/api/runs/{kept}/retry").ok()
    assert peer.poll(slots=1)["parameters"] == long
    secret = reported({"password": "hunter2"}, {"password": "********"})
    assert peer.run(secret)["parameters"] == {"password": "********"}
    refusal = peer.post(f"/api/runs/{secret}/retry").refused(409)
    assert "its parameters hold a secret" in refusal["error"]


@pytest.mark.parametrize(
    "told",
    [{"text": "x… [cut, 5 characters]"}, {"rows": [1, "… 5 more"]}, {"…": "5 more"}],
    ids=str,
)
def test_a_run_whose_parameters_were_cut_is_not_asked_for_again(
    shared: Running, told: dict[str, Any], run_id: str
) -> None:
    peer = shared.peer("c")
    peer.ingest({**started(run_id, "called"), "parameters": told}, ended(run_id, 0))
    refusal = peer.post(f"/api/runs/{run_id}/retry").refused(409)
    assert "too long to be kept whole" in refusal["error"]


def test_reported_parameters_beyond_the_limit_are_counted(
    launch: Callable[..., Running], run_id: str
) -> None:
    peer = launch(limits=Limits(parameters=20)).peer("c")
    event = {**started(run_id, "called"), "parameters": {"a": "x" * 20, "b": 1}}
    assert peer.ingest(event)["rejected"] == []
    assert peer.run(run_id)["parameters"] == {"…": "2 more"}
