"""What the OpenAPI document says is what is answered: schemathesis asks, with the token and without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from perfect.server import ServerSettings
from perfect.server.webhooks import Webhook
from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started

TOKEN = "the-token"
RUN = "00000000-0000-4000-8000-000000000001"
FAILED = "00000000-0000-4000-8000-000000000002"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Running]:
    hook = Webhook(url="http://localhost/nobody")
    settings = ServerSettings(
        db=tmp_path / "perfect.db", port=0, poll=0.01, token=TOKEN, webhooks=(hook,)
    )
    backend = Running(settings)
    # something to find, with all that a run may have
    peer: Peer = backend.peer("c")
    peer.headers |= {"Authorization": f"Bearer {TOKEN}"}
    table = {"passed": True, "note": "n", "table": [{"a": 1}]}
    task = {"type": "task", "run": RUN, "index": 0, "name": "one"}
    peer.ingest(
        started(RUN, "f", "one", "two"),
        {**task, "state": "RUNNING", "started": 1_700_000_000_000},
        {**task, "state": "COMPLETED", "ended": 1_700_000_000_500, "result": table},
        {"type": "log", "run": RUN, "index": 0, "text": "a line"},
        ended(RUN, 2),
        started(FAILED, "f", "one"),
        ended(FAILED, 1, "FAILED"),
    )
    peer.register("scheduled", "one", schedule="0 3 * * *", tags={"a": "b"})
    yield backend
    backend.server.stop()


@pytest.fixture
def document(guarded: Running) -> schemathesis.BaseSchema:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    described = guarded.peer().get("/openapi.json", headers=headers).ok()
    for methods in described["paths"].values():
        for operation in methods.values():
            _close(operation["responses"])
    # what there is must be found: an id that somebody makes up finds nothing
    flow = guarded.peer().get("/api/engine/flows", headers=headers).ok()[0]["id"]
    (schedule,) = guarded.peer().get("/api/schedules", headers=headers).ok()["schedules"]
    known = {"run_id": RUN, "flow_id": flow, "flow_name": "f", "flow": "f", "task": "one"}
    known["schedule_id"] = schedule["id"]
    for methods in described["paths"].values():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in known:
                    parameter["schema"] = {"enum": [known[parameter["name"]], "nothing"]}
    found = schemathesis.openapi.from_dict(described)
    found.config.update(base_url=guarded.url)
    # it has no end: tests/server/test_stream.py reads it
    return found.exclude(path="/api/stream")


def _close(schema: Any) -> None:
    """Let an answer have no field that the document does not have: nobody else would miss it there."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            schema["additionalProperties"] = False
        for part in schema.values():
            _close(part)
    elif isinstance(schema, list):
        for part in schema:
            _close(part)


QUICK = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def ask(
    document: schemathesis.BaseSchema,
    check: Callable[[schemathesis.Case], None],
    mode: schemathesis.GenerationMode = schemathesis.GenerationMode.POSITIVE,
) -> Counter[str]:
    """Check every operation of the document with cases made for it; how many there were of each."""
    asked: Counter[str] = Counter()
    operations = [found.ok() for found in document.get_all_operations()]
    # what is there is read before it is removed
    for operation in sorted(operations, key=lambda one: one.method.upper() == "DELETE"):
        strategy = operation.as_strategy(generation_mode=mode)

        @QUICK
        @given(case=strategy)
        def one(case: schemathesis.Case) -> None:
            asked[case.operation.label] += 1
            check(case)

        with suppress(Unsatisfiable):  # what takes nothing can't be given anything wrong
            one()
    return asked


def test_with_the_token_every_answer_is_documented(document: schemathesis.BaseSchema) -> None:
    statuses: Counter[int] = Counter()

    def check(case: schemathesis.Case) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        response = case.call_and_validate(headers=headers, checks=CHECKS, timeout=20)
        statuses[response.status_code] += 1

    asked = ask(document, check)
    assert len(asked) > 25 and statuses[200] > 50 and not statuses[401]


def test_what_is_wrong_is_refused_as_documented(document: schemathesis.BaseSchema) -> None:
    statuses: Counter[int] = Counter()

    def check(case: schemathesis.Case) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        response = case.call_and_validate(headers=headers, checks=CHECKS, timeout=20)
        statuses[response.status_code] += 1

    ask(document, check, schemathesis.GenerationMode.NEGATIVE)
    # schemathesis takes the token for one of the things that can be wrong
    assert statuses[400] > 50


def test_without_it_every_answer_is_401_and_documented(document: schemathesis.BaseSchema) -> None:
    def check(case: schemathesis.Case) -> None:
        case.headers = {k: v for k, v in (case.headers or {}).items() if k != "Authorization"}
        with requests.Session() as session:
            response = case.call_and_validate(session=session, checks=CHECKS, timeout=20)
        assert response.status_code in (400, 401)

    assert len(ask(document, check)) > 25
