"""What the OpenAPI document says is what is answered: schemathesis asks, with the token and without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

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
from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started

TOKEN = "the-token"
RUN = "00000000-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("schema")
    backend = Running(ServerSettings(db=folder / "perfect.db", port=0, poll=0.01, token=TOKEN))
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
    )
    peer.register("scheduled", "one", schedule="0 3 * * *", tags={"a": "b"})
    yield backend
    backend.server.stop()


@pytest.fixture(scope="module")
def document(guarded: Running) -> schemathesis.BaseSchema:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    found = schemathesis.openapi.from_url(f"{guarded.url}/openapi.json", headers=headers)
    # it has no end: tests/server/test_stream.py reads it
    return found.exclude(path="/api/stream")


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
    for found in document.get_all_operations():
        operation = found.ok()

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
