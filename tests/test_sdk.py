"""`@task`, `@flow`, `configure`, `run` and `listen`, as a user meets them."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perfect import running, testing
from perfect.errors import ConfigurationError, NotFound
from perfect.schedules import CronSchedule
from perfect.sdk import (
    Flow,
    configure,
    connect,
    flow,
    get_registry,
    listen,
    run,
    task,
)
from perfect.session import get_session, reset
from perfect.testing import Recorder, mock, recorder
from tests.standins.documented_backend import DocumentedBackend


@pytest.fixture
def runs() -> Iterator[Recorder]:
    with testing.mock() as recorder:
        yield recorder


@task
def step(value: int = 1) -> int:
    return value


# @flow


def test_every_way_of_writing_a_flow(runs: Recorder) -> None:
    @flow
    def bare() -> int:
        """The first line.

        And more."""
        return step()

    @flow()
    def called() -> int:
        return step(2)

    @flow("Positional", "described")
    def positional() -> int:
        return step(3)

    @flow(name="Named", description="d", tags={"a": "b", "n": 1}, schedule=CronSchedule("0 0 * * *"))  # type: ignore[dict-item]
    def named() -> int:
        return step(4)

    assert [bare(), called(), positional(), named()] == [1, 2, 3, 4]
    assert [made.flow for made in runs.runs] == ["bare", "called", "Positional", "Named"]
    assert (bare.definition.description, positional.definition.description) == (
        *("The first line.", "described"),
    )
    assert named.definition.tags == {"a": "b", "n": "1"}
    assert str(named.definition.schedule) == "0 0 * * *"
    assert [entry.name for entry in named.definition.tasks] == ["step"]
    assert get_registry().get_flow("Named") is named.definition
    assert (bare.__name__, bare.name, repr(bare)) == ("bare", "bare", "<Flow 'bare'>")
    assert isinstance(bare, Flow)


def test_every_way_of_writing_a_task() -> None:
    def function() -> int:
        return 1

    for made in (
        task(function),
        task()(function),
        task("Given")(function),
        task(name="Given")(function),
    ):
        assert made() == 1
    assert task("Given")(function).name == "Given"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("name", value) for value in ("", "   ", "x" * 201, "\udc80", "a\0b", 3, b"f")),
        *(("description", value) for value in (3, b"d")),
        *(("schedule", value) for value in ("* * * * *", 60, [])),
        *(("tags", value) for value in ("a=b", [1], {"": "b"}, {3: "b"}, {"x" * 201: "b"})),
        ("tags", {str(number): "" for number in range(51)}),
    ],
    ids=lambda value: repr(value)[:25],
)
def test_a_wrong_argument_of_a_flow_is_named(argument: str, value: Any) -> None:
    arguments: dict[str, Any] = {argument: value}
    with pytest.raises(ConfigurationError) as caught:
        flow(**arguments)(lambda: None)
    assert caught.value.argument == argument
    assert argument in str(caught.value)


@pytest.mark.parametrize("value", [None, [1], "x" * 201, b"b"])
def test_a_wrong_tag_is_named(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="team") as caught:
        flow(name="f", tags={"team": value})(lambda: None)
    assert caught.value.value is value


def test_what_can_be_no_flow() -> None:
    def generator() -> Iterator[int]:
        yield 1

    for wrong in (3, None, "name", step, flow(name="f")(lambda: None), generator):
        with pytest.raises(ConfigurationError) as caught:
            flow(name="given")(wrong)  # type: ignore[arg-type]
        assert caught.value.argument == "func"
    with pytest.raises(ConfigurationError):
        flow(functools.partial(print))


def test_names_from_outside_are_only_text(runs: Recorder) -> None:
    for name in ("../x", "<img onerror=alert(1)>", "a\nb", "'; DROP TABLE runs; --", "é" * 200):
        assert flow(name=name)(lambda: 5)() == 5
        assert runs.run.flow == name


def test_a_flow_may_be_a_method(runs: Recorder) -> None:
    class Pipeline:
        factor = 3

        @flow
        def go(self, value: int) -> int:
            return step(value) * self.factor

    assert Pipeline().go(2) == 6
    assert Pipeline.go(Pipeline(), value=3) == 9
    assert [made.state for made in runs.runs] == ["COMPLETED"] * 2


def test_a_flow_defined_before_its_tasks(runs: Recorder) -> None:
    @flow
    def early() -> int:
        return later()

    assert early.definition.tasks == []
    later = task(name="later")(lambda: 7)
    assert early() == 7
    assert [entry.name for entry in early.definition.tasks] == ["later"]


def test_a_later_flow_of_the_same_name_takes_its_place(runs: Recorder) -> None:
    first = flow(name="same")(lambda: 1)
    second = flow(name="same")(lambda: 2)
    assert run("same") == 2
    assert (first(), second()) == (1, 2)


# run


def test_a_flow_is_run_by_name_or_object(runs: Recorder) -> None:
    @flow
    def etl(source: str, limit: int = 5) -> tuple[str, int]:
        return source, limit

    assert run("etl", parameters={"source": "a"}) == ("a", 5)
    assert run(etl, configuration="release", parameters={"source": "b", "limit": 1}) == ("b", 1)
    assert [(made.configuration, made.parameters) for made in runs.runs] == [
        ("development", {"source": "a"}),
        ("release", {"source": "b", "limit": 1}),
    ]


def test_an_async_flow_is_run_by_awaiting(runs: Recorder) -> None:
    @flow
    async def later() -> int:
        return 5

    assert asyncio.run(run(later)) == 5


def test_an_unknown_flow_is_named_with_the_known_ones(runs: Recorder) -> None:
    get_registry().clear()
    with pytest.raises(NotFound, match=r"no flow 'absent' \(registered: none\)"):
        run("absent")
    flow(name="there")(lambda: None)
    with pytest.raises(NotFound, match="registered: there"):
        run("absent")


@pytest.mark.parametrize(
    ("argument", "value"),
    [("flow", 3), ("flow", None), ("configuration", 3), ("parameters", [1]), ("parameters", "a")],
)
def test_a_wrong_argument_of_run_is_named(runs: Recorder, argument: str, value: Any) -> None:
    flow(name="f")(lambda: None)
    arguments: dict[str, Any] = {"flow": "f", argument: value}
    with pytest.raises(ConfigurationError) as caught:
        run(**arguments)
    assert (caught.value.argument, caught.value.value) == (argument, value)
    assert runs.runs == []


# configure


def test_configure_wins_and_keeps_what_is_not_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PERFECT_BACKEND_URL", "http://env:1")
    monkeypatch.setenv("PERFECT_CLIENT_ID", "env")
    assert get_session().settings.client_id == "env"
    configure("http://given:2", mock=True)
    settings = get_session().settings
    assert (settings.backend_url, settings.client_id, settings.mock) == (
        "http://given:2",
        "env",
        True,
    )
    configure(client_id="given")
    settings = get_session().settings
    assert (settings.backend_url, settings.client_id, settings.mock) == (
        "http://given:2",
        "given",
        True,
    )
    configure(mock=False, home=str(tmp_path))
    assert (get_session().settings.mock, get_session().settings.home) == (False, str(tmp_path))


def test_a_wrong_setting_leaves_everything_as_it_was() -> None:
    configure(mock=True, client_id="good")
    before = get_session()
    with pytest.raises(ConfigurationError, match="backend_url='nonsense'"):
        configure(backend_url="nonsense", client_id="bad")
    assert get_session() is before
    configure(mock=True)
    assert get_session().settings.client_id == "good"


def test_an_environment_that_is_wrong_is_named_at_the_first_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERFECT_MOCK", "perhaps")
    with pytest.raises(ConfigurationError, match="from environment"):
        flow(name="f")(lambda: None)()


def test_configure_within_a_run_is_refused_or_loses_nothing() -> None:
    @flow
    def reconfiguring() -> str:
        try:
            configure(client_id="other")
        except ConfigurationError:
            pass
        step()
        return "value"

    configure(mock=True)
    records = recorder()
    assert reconfiguring() == "value"
    assert records.run.state == "COMPLETED" and len(records.run.tasks) == 1


def test_connect_tells_whether_somebody_answers() -> None:
    assert connect(0.2) is False
    configure(mock=True)
    assert connect() is True
    with DocumentedBackend() as backend:
        configure(backend_url=backend.url, mock=False)
        assert connect(10) is True
        reset()


def test_mock_within_a_real_session_gives_it_back() -> None:
    before = get_session()
    with mock() as inside:
        assert get_session() is not before
        flow(name="f")(lambda: step())()
        assert len(inside.runs) == 1
    assert get_session() is before


def test_a_flow_after_reset_uses_a_new_session() -> None:
    configure(mock=True)
    flow(name="f")(lambda: 1)()
    before = get_session()
    reset()
    assert flow(name="f")(lambda: 2)() == 2
    assert get_session() is not before and get_session().settings.mock


# listen


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, "4", None, True])
def test_a_wrong_concurrency_is_named(concurrency: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        listen(concurrency)
    assert (caught.value.argument, caught.value.value) == ("concurrency", concurrency)


LISTENING = """
    import sys, time
    from perfect import configure, flow, listen, task

    configure(shutdown_timeout=0.5)

    @task
    def step(name):
        print("step", name)

    @flow
    def quick():
        step("quick")

    @flow
    def slow():
        print("slow has begun", flush=True)
        time.sleep(SLOW)
        step("slow")

    @flow
    async def asynchronous():
        step("async")

    try:
        listen()
    finally:
        print("left", flush=True)
"""


def listening(backend: DocumentedBackend, slow: float = 0.3) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(LISTENING).replace("SLOW", str(slow))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PERFECT_BACKEND_URL": backend.url, "PYTHONPATH": os.getcwd()},
    )


def names(backend: DocumentedBackend) -> set[str]:
    return {entry.name for entry in backend.flows}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_listen_serves_every_flow_until_it_is_interrupted(number: int) -> None:
    with DocumentedBackend() as backend, listening(backend) as process:
        backend.wait_for(lambda: names(backend) == {"quick", "slow", "asynchronous"})
        for name in ("quick", "asynchronous"):
            run_id = backend.trigger(name)
            backend.wait_for(lambda: not backend.run(run_id).active)
            assert backend.run(run_id).state == "COMPLETED"
        backend.wait_for(lambda: "slow" in names(backend))
        run_id = backend.trigger("slow")
        backend.wait_for(lambda: bool(backend.run(run_id).logs))
        process.send_signal(number)  # in the middle: the run is drained
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert out.endswith("left\n") and "Traceback" not in err, err
        assert backend.run(run_id).state == "COMPLETED"


def test_a_second_interrupt_does_not_wait_for_the_run() -> None:
    with DocumentedBackend() as backend, listening(backend, slow=60) as process:
        backend.wait_for(lambda: "slow" in names(backend))
        run_id = backend.trigger("slow")
        backend.wait_for(lambda: bool(backend.run(run_id).logs))
        process.send_signal(signal.SIGINT)
        backend.wait_for(lambda: True)
        threading.Event().wait(0.3)  # the first is being handled: nothing tells when
        process.send_signal(signal.SIGINT)
        process.wait(20)
        process.communicate()
        assert backend.run(run_id).state == "FAILED"


def test_listen_leaves_a_handler_of_the_users_alone() -> None:
    def mine(number: int, frame: Any) -> None: ...

    former = signal.signal(signal.SIGTERM, mine)
    try:
        stop = threading.Event()
        with running._stopped_by_signals(stop.set):
            assert signal.getsignal(signal.SIGTERM) is mine
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
            signal.raise_signal(signal.SIGINT)
            assert stop.is_set()
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, former)


def test_a_script_with_a_background_listener_ends_promptly() -> None:
    text = "from perfect import flow\n@flow\ndef f(): print('ran')\nf()\n"
    with DocumentedBackend() as backend:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-X", "importtime", "-c", text],
            capture_output=True,
            text=True,
            timeout=20,
            env={**os.environ, "PERFECT_BACKEND_URL": backend.url, "PYTHONPATH": os.getcwd()},
        )
        assert (done.returncode, done.stdout) == (0, "ran\n")
        assert [entry.state for entry in backend.runs] == ["COMPLETED"]
        assert "Warning" not in done.stderr
