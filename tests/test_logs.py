"""Flowkit's logging: lines as its README shows them, JSON lines, and nothing of anybody else's touched."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perfect
from perfect import flow, task
from perfect.errors import ConfigurationError
from perfect.logs import FlowkitLogger, LogLevel, configure_logging, get_logger
from perfect.testing import mock

LINE = re.compile(r"^\d\d:\d\d:\d\d  \[([A-Z]+)\] (.*)$")
SAMPLE = """\
[INFO] Starting task "Fetch Data (API)"...
[INFO] Resolving endpoint api.data-provider.com
[INFO] Connection established. Handshake successful.
[WARN] Response latency higher than expected (450ms).
[INFO] Streaming data chunks: [====================] 100%
[INFO] Received 14,502 records.
[INFO] Validating schema integrity...
[SUCCESS] Task completed successfully. Output size: 45MB.
[SYSTEM] Worker released.
"""
COLOURS = {"DEBUG": 2, "INFO": 34, "SUCCESS": 32, "WARN": 33, "ERROR": 31, "SYSTEM": 35}


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test finds the logger as a new process does."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    top = logging.getLogger("perfect.flowkit")
    before = top.handlers, top.level, top.propagate
    top.handlers = []
    top.setLevel(logging.NOTSET)
    top.propagate = True
    yield
    top.handlers, top.propagate = before[0], before[2]
    top.setLevel(before[1])


def every_level(log: FlowkitLogger) -> None:
    for name in ("debug", "info", "success", "warning", "error", "system"):
        getattr(log, name)(f"this is {name}")


def text_of(stream: io.StringIO) -> list[tuple[str, str]]:
    """Tag and message of each line, which has a time."""
    found = [LINE.match(line) for line in stream.getvalue().splitlines()]
    assert all(found), stream.getvalue()
    return [(match[1], match[2]) for match in found if match]


def objects_of(stream: io.StringIO) -> list[dict[str, Any]]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in stream.getvalue().splitlines()]


# Lines of a terminal


def test_the_sample_of_the_readme_is_what_is_written() -> None:
    stream = io.StringIO()
    log = configure_logging(level=LogLevel.INFO, stream=stream)
    by_tag = {"INFO": log.info, "WARN": log.warning, "SUCCESS": log.success, "SYSTEM": log.system}
    for line in SAMPLE.splitlines():
        tag, _, message = line[1:].partition("] ")
        by_tag[tag](message)
    written = stream.getvalue()
    assert re.sub(r"^\d\d:\d\d:\d\d  ", "", written, flags=re.M) == SAMPLE
    assert len(re.findall(r"^\d\d:\d\d:\d\d  \[", written, flags=re.M)) == 9


def test_times_are_local() -> None:
    script = """
        import logging, sys
        from perfect.logs import configure_logging
        configure_logging(stream=sys.stdout)
        factory = logging.getLogRecordFactory()
        def at(*args, **kwargs):
            record = factory(*args, **kwargs)
            record.created, record.msecs = 1_700_000_000.25, 250.0  # 2023-11-14T22:13:20.25Z
            return record
        logging.setLogRecordFactory(at)
        configure_logging(stream=sys.stdout).info("text")
        configure_logging(json_output=True, stream=sys.stdout).info("json")
    """
    done = in_a_process(script, TZ="UTC-5:30")  # POSIX: 5:30 ahead of UTC
    first, second = done.stdout.splitlines()
    assert first == "03:43:20  [INFO] text"
    assert json.loads(second)["time"] == "2023-11-14T22:13:20.250Z"


def test_a_level_shows_itself_and_what_is_above() -> None:
    assert [int(level) for level in LogLevel] == [10, 20, 25, 30, 40, 50]
    for level in LogLevel:
        stream = io.StringIO()
        every_level(configure_logging(level, stream=stream))
        expected = [name.replace("WARNING", "WARN") for name in LogLevel.__members__]
        assert [tag for tag, _ in text_of(stream)] == expected[list(LogLevel).index(level) :]


def test_log_writes_at_a_level_that_is_given() -> None:
    stream = io.StringIO()
    log = configure_logging(LogLevel.DEBUG, stream=stream)
    for level in LogLevel:
        log.log(level, "of %s", level.name)
    assert [message for _, message in text_of(stream)] == [f"of {level.name}" for level in LogLevel]


def test_messages_are_filled_only_if_there_is_something_to_fill_in() -> None:
    stream = io.StringIO()
    log = configure_logging(stream=stream)
    log.info("100% of %s")
    log.info("%d of %s", 3, "four")
    log.info(42)
    log.info(None, message="m", level=1, self="s")
    assert [message for _, message in text_of(stream)] == [
        "100% of %s",
        "3 of four",
        "42",
        "None message='m' level=1 self='s'",
    ]


def test_further_lines_and_tracebacks_are_indented() -> None:
    stream = io.StringIO()
    log = configure_logging(stream=stream)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("it\nbroke", n=1)
    lines = stream.getvalue().splitlines()
    assert LINE.match(lines[0]) and lines[0].endswith("[ERROR] it")
    assert all(line.startswith(" " * 10) for line in lines[1:])
    assert lines[1:3] == [" " * 10 + "broke n=1", " " * 10 + "Traceback (most recent call last):"]
    assert lines[-2:] == [" " * 10 + "ValueError: first", " " * 10 + "second"]


def test_exception_without_one_is_an_error_line() -> None:
    stream = io.StringIO()
    log = configure_logging(stream=stream)
    log.exception("nothing is wrong")
    log.error("an error given", exc_info=ValueError("here"))
    log.exception("not wanted", exc_info=False)
    assert [line for line in stream.getvalue().splitlines() if "[" in line][0].endswith(
        "[ERROR] nothing is wrong"
    )
    assert stream.getvalue().count("ValueError: here") == 1
    assert "NoneType" not in stream.getvalue()


def test_a_stream_that_can_not_hold_a_character_gets_the_line() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    configure_logging(stream=stream).info("café \udc80")
    assert raw.getvalue().endswith(b"[INFO] caf\\xe9 \\udc80\n")
    whole = io.StringIO()
    configure_logging(stream=whole).info("café")
    assert text_of(whole) == [("INFO", "café")]


@settings(deadline=None)
@given(st.text(), st.dictionaries(st.text(), st.text() | st.floats() | st.none()))
def test_any_text_and_field_makes_one_line_of_json(message: str, fields: dict[str, Any]) -> None:
    stream = io.StringIO()
    fields.pop("exc_info", None)
    configure_logging(json_output=True, stream=stream).info(message, **fields)
    (line,) = objects_of(stream)
    assert line["message"] == message.encode("utf-8", "replace").decode()
    assert len(line) == 4 + len(fields)


# Colours


def test_colours_are_those_of_the_readme() -> None:
    stream = io.StringIO()
    every_level(configure_logging(LogLevel.DEBUG, use_colors=True, stream=stream))
    found = re.findall(r"  \x1b\[(\d+)m\[([A-Z]+)\]\x1b\[0m this is", stream.getvalue())
    assert {name: int(code) for code, name in found} == COLOURS
    assert len(found) == 6


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", [None, "", "1"])
@pytest.mark.parametrize("use_colors", [None, True, False])
@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_when_there_are_colours(
    monkeypatch: pytest.MonkeyPatch,
    kind: type[io.StringIO],
    use_colors: bool | None,
    no_color: str | None,
) -> None:
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    stream = kind()
    configure_logging(use_colors=use_colors, stream=stream).info("line")
    wanted = kind is Terminal and no_color != "1" if use_colors is None else use_colors
    assert ("\x1b" in stream.getvalue()) is wanted


def test_json_lines_have_no_colours() -> None:
    stream = Terminal()
    configure_logging(json_output=True, use_colors=True, stream=stream).info("\x1b[31mred")
    assert "\x1b" not in stream.getvalue()
    assert objects_of(stream)[0]["message"] == "\x1b[31mred"


def on_a_terminal(script: str, **environment: str) -> str:
    """What a process writes whose stderr is a terminal."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)],
            stderr=theirs,
            stdout=subprocess.DEVNULL,
            env=environment_of(environment),
        )
    finally:
        os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
        while chunk := os.read(ours, 65536):
            written += chunk
    os.close(ours)
    assert process.wait(60) == 0, written
    return written.decode().replace("\r\n", "\n")


def environment_of(changes: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return {**kept, "PYTHONPATH": str(Path(perfect.__file__).parents[1]), **changes}


def in_a_process(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environment_of(environment),
    )


HELLO = "from perfect.logs import configure_logging; configure_logging().info('hello')"


def test_a_real_terminal_gets_colours() -> None:
    assert on_a_terminal(HELLO).endswith("  \x1b[34m[INFO]\x1b[0m hello\n")
    assert on_a_terminal(HELLO, NO_COLOR="1").endswith("  [INFO] hello\n")


def test_lines_go_to_stderr_without_colours_if_it_is_no_terminal() -> None:
    done = in_a_process(HELLO)
    assert done.stdout == ""
    assert LINE.match(done.stderr)


def test_the_live_line_of_a_flow_gives_way() -> None:
    script = """
        import threading
        from perfect import configure, flow, task
        from perfect.logs import configure_logging
        from perfect import watch_progress
        configure(mock=True)
        log = configure_logging(use_colors=False)
        drawn = threading.Event()
        @task(estimated_time=10)
        def slow():
            watch_progress(lambda progress: progress.percent > 10 and drawn.set())
            drawn.wait(30)
            log.info("hello")
        @flow
        def work():
            slow()
        work()
    """
    written = on_a_terminal(script)
    assert re.search(r"(^|\n|\x1b\[2K)\d\d:\d\d:\d\d  \[INFO\] hello\n", written), repr(written)


# JSON lines


def test_json_lines_hold_everything() -> None:
    stream = io.StringIO()
    log = configure_logging(LogLevel.DEBUG, json_output=True, stream=stream)
    before = dt.datetime.now(dt.UTC) - dt.timedelta(milliseconds=1)  # the line's time is cut to ms
    log.warning("slow: %d ms", 450, endpoint="api", when=dt.date(2026, 1, 2), nan=float("nan"))
    get_logger("etl.load").success("done")
    try:
        raise KeyError("id")
    except KeyError:
        log.exception("broke", time_="mine, too", level=1, time="mine", exception="x")
    first, second, third = objects_of(stream)
    assert list(first)[:4] == ["time", "level", "logger", "message"]
    at = dt.datetime.fromisoformat(first.pop("time"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", second.pop("time"))
    assert before <= at <= dt.datetime.now(dt.UTC)
    assert first == {
        "level": "WARNING",
        "logger": "perfect.flowkit",
        "message": "slow: 450 ms",
        "endpoint": "api",
        "when": "2026-01-02",
        "nan": "nan",
    }
    assert second == {"level": "SUCCESS", "logger": "perfect.flowkit.etl.load", "message": "done"}
    assert third["exception"].startswith("Traceback (most recent") and third["level"] == "ERROR"
    assert third["exception"].endswith("KeyError: 'id'")
    assert (third["time__"], third["level_"], third["time_"], third["exception_"]) == (
        "mine",
        1,
        "mine, too",
        "x",
    )


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize("json_output", [True, False])
def test_no_field_breaks_a_line(json_output: bool) -> None:
    circle: list[Any] = []
    circle.append(circle)
    stream = io.StringIO()
    log = configure_logging(json_output=json_output, stream=stream)
    log.info("line", rude=Rude(), circle=circle, lock=threading.Lock(), big=10**5000, s={1, 2})
    assert stream.getvalue().count("\n") == 1
    assert "RuntimeError" in stream.getvalue()


def test_newlines_stay_inside_a_json_line() -> None:
    stream = io.StringIO()
    configure_logging(json_output=True, stream=stream).info('two\nlines "quoted" \u2028 é')
    assert stream.getvalue().count("\n") == 1 and stream.getvalue().isascii()
    assert objects_of(stream)[0]["message"] == 'two\nlines "quoted" \u2028 é'


# Python's logging


def test_nothing_is_written_before_it_is_configured() -> None:
    done = in_a_process("""
        from perfect.logs import get_logger
        for log in (get_logger(), get_logger("mine")):
            log.info("not seen")
            log.error("not seen")
            log.system("not seen")
    """)
    assert (done.stdout, done.stderr) == ("", "")


def test_importing_touches_nothing_of_logging() -> None:
    done = in_a_process("""
        import logging
        import perfect.logs
        print("perfect.flowkit" in logging.Logger.manager.loggerDict, logging.getLevelName(25))
    """)
    assert done.stdout == "False Level 25\n"


def test_who_listens_at_the_root_hears_records_until_configured(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = get_logger("heard")
    log.debug("below the root's level")
    with caplog.at_level(logging.INFO):
        log.info("by the root", n=1)
    log.warning("by default")
    assert [(record.name, record.message) for record in caplog.records] == [
        ("perfect.flowkit.heard", "by the root"),
        ("perfect.flowkit.heard", "by default"),
    ]
    assert caplog.records[0].fields == {"n": 1}  # type: ignore[attr-defined]


def test_a_program_with_handlers_of_its_own_shows_each_line_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = logging.getLogger()
    other = logging.getLogger("somebody.else")
    before = [*root.handlers], root.level, other.level, logging.getLogger("perfect").level
    stream = io.StringIO()
    log = configure_logging(stream=stream)
    log.warning("one")
    assert text_of(stream) == [("WARN", "one")]
    assert caplog.records == []
    other.warning("not ours")
    assert len(text_of(stream)) == 1
    assert before == (
        [*root.handlers],
        root.level,
        other.level,
        logging.getLogger("perfect").level,
    )
    logging.getLogger("perfect.flowkit").propagate = True
    log.warning("two")
    assert [record.message for record in caplog.records] == ["not ours", "two"]


def test_configuring_again_replaces_what_was_configured() -> None:
    first, second = io.StringIO(), io.StringIO()
    log = configure_logging(LogLevel.ERROR, stream=first)
    own = logging.StreamHandler(third := io.StringIO())
    logging.getLogger("perfect.flowkit").addHandler(own)
    for _ in range(3):
        configure_logging(LogLevel.DEBUG, json_output=True, stream=second)
    log.debug("once")
    assert first.getvalue() == ""
    assert [line["message"] for line in objects_of(second)] == ["once"]
    assert third.getvalue() == "once\n"  # a user's handler stays


def test_a_handler_is_replaced_without_losing_or_doubling_a_line() -> None:
    streams = [io.StringIO()]
    log = configure_logging(stream=streams[0])
    started, stop = threading.Event(), threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not stop.is_set() or written < 100:
            log.info("line %d", written)
            written += 1
            started.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert started.wait(30)
    for _ in range(200):
        streams.append(io.StringIO())
        configure_logging(stream=streams[-1])
    stop.set()
    writer.join(30)
    lines = [message for stream in streams for _, message in text_of(stream)]
    assert sorted(lines, key=lambda line: int(line[5:])) == [f"line {n}" for n in range(written)]


def test_stderr_is_looked_up_when_a_line_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    log = configure_logging()
    with contextlib.redirect_stderr(io.StringIO()) as redirected:
        log.info("redirected")
    log.info("not redirected")
    assert text_of(redirected) == [("INFO", "redirected")]
    out, err = capsys.readouterr()
    assert out == "" and err.endswith("[INFO] not redirected\n") and err.count("\n") == 1


def test_a_process_without_stderr_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    log = configure_logging()
    monkeypatch.setattr(sys, "stderr", None)
    log.info("nowhere")


def test_a_broken_stream_does_not_break_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    log = configure_logging(stream=stream)
    stream.close()
    log.info("nowhere")
    assert "ValueError" in capsys.readouterr().err  # logging tells of it, as always


def test_records_name_the_line_that_logs(caplog: pytest.LogCaptureFixture) -> None:
    log = get_logger("lines")
    with caplog.at_level(logging.DEBUG):
        every = [log.debug, log.info, log.success, log.warning, log.error, log.system]
        for method in (*every, log.exception):
            method("here")
        log.log(LogLevel.INFO, "here")
    assert {record.filename for record in caplog.records} == {"test_logs.py"}
    assert {record.funcName for record in caplog.records} == {
        "test_records_name_the_line_that_logs"
    }
    assert len(caplog.records) == 8


def test_loggers_of_plain_logging_below_ours_are_shown() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    plain = logging.getLogger("perfect.flowkit.plain")
    plain.info("info")
    plain.critical("critical")
    plain.log(35, "between", extra={"fields": "not ours"})
    lines = [line.split("  ", 1)[1] for line in stream.getvalue().splitlines()]
    assert lines == ["[INFO] info", "[SYSTEM] critical", "[Level 35] between"]


def test_a_name_of_the_level_that_somebody_else_gave_stays() -> None:
    done = in_a_process("""
        import logging
        logging.addLevelName(25, "NOTICE")
        from perfect.logs import configure_logging
        configure_logging().success("done")
        print(logging.getLevelName(25), logging.getLevelName(50))
    """)
    assert done.stdout == "NOTICE CRITICAL\n"
    assert done.stderr.endswith("[SUCCESS] done\n")


def test_names() -> None:
    assert get_logger().name == "perfect.flowkit"
    assert get_logger("a.b").name == "perfect.flowkit.a.b"
    assert isinstance(configure_logging(stream=io.StringIO()), FlowkitLogger)
    assert repr(get_logger("a")) == "<FlowkitLogger perfect.flowkit.a>"


@pytest.mark.parametrize("name", ["", 1, b"bytes"])
def test_a_logger_has_a_name_of_text(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="^name="):
        get_logger(name)


@pytest.mark.parametrize(
    "arguments, argument",
    [
        ({"level": 20}, "level"),
        ({"level": "INFO"}, "level"),
        ({"level": None}, "level"),
        ({"level": True}, "level"),
        ({"json_output": None}, "json_output"),
        ({"json_output": "yes"}, "json_output"),
        ({"use_colors": 1}, "use_colors"),
        ({"stream": "stderr"}, "stream"),
    ],
)
def test_arguments_of_the_wrong_type_are_refused(arguments: dict[str, Any], argument: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure_logging(**arguments)
    assert caught.value.argument == argument
    assert not [h for h in get_logger()._logger.handlers if type(h) is not logging.NullHandler]
    with pytest.raises(ConfigurationError, match="^level="):
        get_logger().log(20, "line")  # type: ignore[arg-type]


# Runs


def test_a_run_hears_what_is_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    log = configure_logging(LogLevel.INFO)

    @task
    def step() -> None:
        log.debug("not heard")
        log.info("heard %d", 1, field="of the terminal")
        get_logger("step").success("heard, too")

    @flow
    def work() -> None:
        step()

    with mock() as recorder:
        work()
    assert recorder.run.logs == ["perfect.flowkit: heard 1", "perfect.flowkit.step: heard, too"]
    err = capsys.readouterr().err
    assert err.count("heard 1 field='of the terminal'") == 1 and err.count("heard, too") == 1


def test_a_run_is_told_levels_by_name() -> None:
    levels = []
    former = logging.getLogRecordFactory()

    def hear(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = former(*args, **kwargs)
        levels.append(record.levelname)  # as perfect.capture reads it
        return record

    logging.setLogRecordFactory(hear)
    try:
        every_level(configure_logging(LogLevel.DEBUG, stream=io.StringIO()))
    finally:
        logging.setLogRecordFactory(former)
    assert levels == ["DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL"]
