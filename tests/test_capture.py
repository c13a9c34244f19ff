"""What a run prints and logs reaches it line by line; everything else is left as it was."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import pty
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perfect import capture, context, terminal, testing
from perfect.errors import ConfigurationError
from perfect.sdk import LogCapture, Progress, flow, propagate, task
from perfect.testing import RecordedRun


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """The streams and logging are the same before and after, by identity."""
    root = logging.getLogger()
    before = (sys.stdout, sys.stderr, logging.getLogRecordFactory(), root.level, [*root.handlers])
    yield
    after = (sys.stdout, sys.stderr, logging.getLogRecordFactory(), root.level, [*root.handlers])
    assert after[:3] == before[:3]
    assert after[4] == before[4] and after[3] == before[3]
    assert capture._users == 0
    assert not context._active


def in_task(body: Callable[[], Any]) -> RecordedRun:
    """The run of a flow whose one task is `body`."""
    step = task(name="step")(body)

    @flow(name="capturing")
    def capturing() -> None:
        step()

    with testing.mock() as recorder:
        capturing()
        return recorder.run


def script(text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The text run by a Python of its own, in mock mode."""
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", *options, "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PERFECT_MOCK": "1", "PYTHONPATH": os.getcwd()},
    )


# Lines


def test_prints_reach_the_task_and_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        print("one")
        print("two", "words")
        print()
        print("to stderr", file=sys.stderr)

    run = in_task(body)
    assert run.tasks[0].logs == ["one", "two words", "", "to stderr"]
    assert run.logs == run.tasks[0].logs
    out, err = capsys.readouterr()
    assert out == "one\ntwo words\n\n"
    assert err == "to stderr\n"


def test_partial_lines_are_put_together() -> None:
    def body() -> None:
        sys.stdout.write("a")
        sys.stderr.write("x")
        sys.stdout.write("b\nc")
        sys.stderr.write("y\n")
        sys.stdout.writelines(["d", "e\n", "f\n\ng\nh"])

    assert in_task(body).tasks[0].logs == ["ab", "xy", "cde", "f", "", "g", "h"]


def test_a_last_line_without_newline_is_there_when_the_task_ends() -> None:
    first = task(name="first")(lambda: print("no newline", end=""))
    second = task(name="second")(lambda: print(" either", end=""))

    @flow(name="unfinished")
    def unfinished() -> None:
        first()
        second()
        print("nor here", end="")

    with testing.mock() as recorder:
        unfinished()
        run = recorder.run
    assert [entry.logs for entry in run.tasks] == [["no newline"], [" either"]]
    assert run.logs == ["no newline", " either", "nor here"]


def test_carriage_returns_leave_what_the_terminal_shows() -> None:
    def body() -> None:
        print("windows\r")
        print("50 %\r100 %")
        for percent in range(101):
            print(f"\r{percent} %", end="")
        print()
        for percent in range(101):
            print(f"{percent} %", end="\r")
        print("done")
        print("stays", end="\r")

    assert in_task(body).tasks[0].logs == ["windows", "100 %", "100 %", "done", "stays"]


def test_a_long_progress_bar_shows_its_end() -> None:
    """What it overwrote does not count against the longest line."""

    def body() -> None:
        for step in range(3):
            print("\r" + "=" * (context.LONGEST_PARTIAL // 2) + str(step), end="")
        print()

    (line,) = in_task(body).tasks[0].logs
    assert line == "=" * (context.LONGEST_PARTIAL // 2) + "2"


def test_a_line_of_ten_megabytes_arrives() -> None:
    line = "x" * 10_000_000
    assert in_task(lambda: print(line)).tasks[0].logs[0].startswith(line[:1000])

    def whole() -> None:
        sys.stdout.write(line + "\n")

    assert in_task(whole).tasks[0].logs == [line]


def test_a_line_that_never_ends_is_bounded_and_says_so() -> None:
    def body() -> None:
        for _ in range(3):
            sys.stdout.write("y" * 1_000_000)

    (line,) = in_task(body).tasks[0].logs
    kept = context.LONGEST_PARTIAL
    assert line == "y" * kept + f"… [cut, {3_000_000 - kept} characters]"


def test_many_small_pieces_of_a_line_cost_no_more_than_their_sum() -> None:
    def body() -> None:
        for _ in range(200_000):
            sys.stdout.write(".")

    assert in_task(body).tasks[0].logs == ["." * 200_000]


def test_odd_characters() -> None:
    text = "tab\there \x1b[31mred\x1b[0m naïve 😀 \u2028 same line"
    assert in_task(lambda: print(text)).tasks[0].logs == [text]


def test_nothing_written_is_no_line() -> None:
    def body() -> None:
        sys.stdout.write("")
        print("", end="")
        sys.stdout.flush()

    assert in_task(body).tasks[0].logs == []


# Whose lines


def test_lines_of_the_flow_itself_belong_to_the_run_only() -> None:
    quiet = task(name="quiet")(lambda: None)

    @flow(name="talking")
    def talking() -> None:
        print("before")
        quiet()
        print("after")

    with testing.mock() as recorder:
        talking()
        assert recorder.run.logs == ["before", "after"]
        assert recorder.run.tasks[0].logs == []


def test_a_task_in_a_task_has_its_own_lines() -> None:
    inner = task(name="inner")(lambda: print("inside"))

    def body() -> None:
        print("begin ", end="")
        inner()
        print("end")

    run = in_task(body)
    assert run.task("step").logs == ["begin end"]
    assert run.task("inner").logs == ["inside"]


def test_another_stream_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"

    def body() -> None:
        with target.open("w") as file:
            print("to a file", file=file)
        buffer = io.StringIO()
        print("to memory", file=buffer)
        assert buffer.getvalue() == "to memory\n"
        os.write(os.open(os.devnull, os.O_WRONLY), b"past Python\n")

    assert in_task(body).tasks[0].logs == []
    assert target.read_text() == "to a file\n"


def test_redirect_stdout_goes_where_it_says() -> None:
    buffer = io.StringIO()

    def body() -> None:
        print("before")
        with contextlib.redirect_stdout(buffer):
            print("redirected")
        print("after")

    assert in_task(body).tasks[0].logs == ["before", "after"]
    assert buffer.getvalue() == "redirected\n"


def test_a_flow_called_under_redirect_stdout() -> None:
    buffer = io.StringIO()
    with contextlib.redirect_stdout(buffer):
        run = in_task(lambda: print("both"))
    assert run.logs == ["both"]
    assert buffer.getvalue() == "both\n"


class Tee(io.TextIOBase):
    """What colorama, tqdm and notebooks put in the place of stdout."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.copy = ""

    def write(self, text: str) -> int:
        self.copy += text
        written: int = self.inner.write(text)
        return written

    def flush(self) -> None:
        self.inner.flush()


def test_stdout_replaced_during_the_run_is_not_captured_twice() -> None:
    inner = flow(name="inner")(lambda: print("inner"))

    @flow(name="outer")
    def outer() -> None:
        former, sys.stdout = sys.stdout, Tee(sys.stdout)  # type: ignore[assignment]
        try:
            print("one")
            inner()
            print("two")
        finally:
            sys.stdout = former
        print("three")

    with testing.mock() as recorder:
        outer()
        assert [run.logs for run in recorder.runs] == [["one", "two", "three"], ["inner"]]


def test_stdout_replaced_for_good_stays_replaced() -> None:
    original = sys.stdout
    tee = Tee(io.StringIO())

    def body() -> None:
        sys.stdout = tee  # type: ignore[assignment]

    try:
        in_task(body)
        assert sys.stdout is tee
        assert in_task(lambda: print("next run")).logs == ["next run"]
        assert tee.copy == "next run\n"
        assert sys.stdout is tee
    finally:
        sys.stdout = original


def test_a_replacement_that_keeps_the_stand_in_goes_on_working() -> None:
    original = sys.stdout

    def body() -> None:
        sys.stdout = Tee(sys.stdout)  # type: ignore[assignment]
        print("this run")

    try:
        assert in_task(body).logs == ["this run"]
        assert in_task(lambda: print("next run")).logs == ["next run"]
        print("no run")
        tee = sys.stdout
        assert isinstance(tee, Tee) and tee.copy.endswith("no run\n")
    finally:
        sys.stdout = original


def test_no_stdout_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under pythonw, or after `sys.stdout = None`."""
    monkeypatch.setattr(sys, "stdout", None)
    assert in_task(lambda: print("into nothing")).logs == ["into nothing"]
    assert sys.stdout is None


def test_the_stand_in_answers_like_the_stream() -> None:
    original = sys.stdout

    def body() -> None:
        assert sys.stdout.encoding == original.encoding
        assert sys.stdout.isatty() == original.isatty()
        assert not sys.stdout.closed
        assert sys.stdout.write("four") == 4
        with pytest.raises(AttributeError):
            sys.stdout.no_such_thing  # type: ignore[attr-defined]
        with pytest.raises(TypeError):
            sys.stdout.write(b"bytes")  # type: ignore[arg-type]

    in_task(body)


def test_a_stream_that_fails_fails_as_it_would_without_us(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError("reader has gone")

    monkeypatch.setattr(sys, "stdout", Broken())

    def body() -> None:
        with pytest.raises(BrokenPipeError):
            print("x")

    assert in_task(body).tasks[0].state == "COMPLETED"


def test_streams_are_restored_after_a_failure() -> None:
    original = sys.stdout, sys.stderr

    def body() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        in_task(body)
    assert (sys.stdout, sys.stderr) == original


# Threads


def test_several_flows_in_threads_keep_their_lines_apart() -> None:
    count, lines = 8, 200
    start = threading.Barrier(count)

    @task
    def talk(name: str) -> None:
        start.wait(20)
        for number in range(lines):
            print(name, number)
            print(name, "error", number, file=sys.stderr)
            logging.getLogger("talk").warning("%s logged %d", name, number)

    @flow
    def talker(name: str) -> None:
        talk(name)

    logging.getLogger("talk").propagate = False
    logging.getLogger("talk").addHandler(logging.NullHandler())
    with testing.mock() as recorder:
        threads = [threading.Thread(target=talker, args=(f"t{i}",)) for i in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        runs = recorder.runs
    assert len(runs) == count
    for run in runs:
        name = run.parameters["name"]
        expected = []
        for number in range(lines):
            expected += [f"{name} {number}", f"{name} error {number}"]
            expected += [f"talk: {name} logged {number}"]
        assert run.tasks[0].logs == expected


def test_threads_of_one_task_lose_nothing_and_mix_no_lines() -> None:
    count, lines = 8, 500

    def body() -> None:
        def write(name: str) -> None:
            for number in range(lines):
                print(name, number, sep="-", end="-end\n")

        threads = [threading.Thread(target=propagate(write), args=(f"t{i}",)) for i in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    logs = in_task(body).tasks[0].logs
    assert sorted(logs) == sorted(f"t{i}-{n}-end" for i in range(count) for n in range(lines))


def test_a_thread_of_the_run_prints_into_the_run() -> None:
    def body() -> None:
        thread = threading.Thread(target=lambda: print("from a thread"))
        thread.start()
        thread.join()

    assert in_task(body).logs == ["from a thread"]


def test_a_thread_from_before_the_run_does_not() -> None:
    go, done = threading.Event(), threading.Event()

    def elder() -> None:
        go.wait(20)
        print("not of the run")
        done.set()

    thread = threading.Thread(target=elder)
    thread.start()

    def body() -> None:
        go.set()
        done.wait(20)

    run = in_task(body)
    thread.join()
    assert run.logs == []


def test_what_is_propagated_outside_a_run_stays_as_it_is() -> None:
    def work() -> str:
        print("work")
        return "done"

    bound = propagate(work)

    def body() -> None:
        assert bound() == "done"

    assert bound.__name__ == "work"
    assert in_task(body).tasks[0].logs == ["work"]


# Logging


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.capture")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    handler = logging.NullHandler()
    logger.addHandler(handler)
    yield logger
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def test_records_reach_the_task_with_their_levels(logger: logging.Logger) -> None:
    def body() -> None:
        logger.debug("low")
        logger.info("with %s", "arguments")
        logger.error("two\nlines")
        try:
            raise ValueError("the cause")
        except ValueError:
            logger.exception("failed")

    step = task(name="step")(body)
    logging_flow = flow(name="logging")(lambda: step())
    with testing.mock() as recorder:
        logging_flow()
        lines = [
            (line.stream, line.level, line.text)
            for line in recorder._session.recorded or ()
            if isinstance(line, testing.LogLine)
        ]
    assert lines[:4] == [
        ("logging", "DEBUG", "tests.capture: low"),
        ("logging", "INFO", "tests.capture: with arguments"),
        ("logging", "ERROR", "tests.capture: two"),
        ("logging", "ERROR", "lines"),
    ]
    assert lines[4] == ("logging", "ERROR", "tests.capture: failed")
    assert lines[5][2] == "Traceback (most recent call last):"
    assert lines[-1] == ("logging", "ERROR", "ValueError: the cause")


def test_a_level_that_is_off_is_not_captured(logger: logging.Logger) -> None:
    logger.setLevel(logging.WARNING)
    assert in_task(lambda: logger.info("unheard")).logs == []


def test_stack_info_is_captured(logger: logging.Logger) -> None:
    logs = in_task(lambda: logger.warning("where", stack_info=True)).logs
    assert logs[0] == "tests.capture: where"
    assert logs[1] == "Stack (most recent call last):"


def test_a_message_that_does_not_fit_its_arguments_is_loggings_own_affair() -> None:
    done = script("""
        import logging
        from perfect import flow
        from perfect.testing import recorder

        @flow
        def run():
            logging.warning("%d rows", "many")
            print("goes on")

        run()
        assert recorder().run.logs == ["goes on"]
        """)
    assert (done.returncode, done.stdout) == (0, "goes on\n")
    assert "--- Logging error ---" in done.stderr and "not str" in done.stderr


class Printing(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print("handled:", self.format(record))


class Late(logging.StreamHandler[Any]):
    """Writes to the stream of the moment, as logging's last resort does."""

    @property  # type: ignore[override]
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        pass


@pytest.mark.parametrize("handler", [Printing, Late, lambda: logging.StreamHandler(sys.stdout)])
def test_a_record_that_a_handler_shows_is_captured_once(
    logger: logging.Logger, handler: Callable[[], logging.Handler]
) -> None:
    def body() -> None:
        logger.addHandler(handler())  # made inside: it holds the stand-in
        logger.warning("once")
        print("then a print")
        logger.warning("again")
        print("the last")

    assert in_task(body).logs == [
        "tests.capture: once",
        "then a print",
        "tests.capture: again",
        "the last",
    ]


def test_a_factory_that_wraps_ours_keeps_working(logger: logging.Logger) -> None:
    original = logging.getLogRecordFactory()

    def body() -> None:
        former = logging.getLogRecordFactory()

        def marking(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = former(*args, **kwargs)
            record.marked = True
            return record

        logging.setLogRecordFactory(marking)
        logger.warning("wrapped")

    try:
        assert in_task(body).logs == ["tests.capture: wrapped"]
        marking = logging.getLogRecordFactory()
        assert marking is not original
        assert in_task(lambda: logger.warning("next")).logs == ["tests.capture: next"]
        assert logging.getLogRecordFactory() is marking
    finally:
        logging.setLogRecordFactory(original)


def test_a_factory_that_replaces_ours_does_not_end_capturing(logger: logging.Logger) -> None:
    original = logging.getLogRecordFactory()

    def body() -> None:
        logging.setLogRecordFactory(logging.LogRecord)
        logger.warning("not heard: it was replaced")

    def replaced(*args: Any, **kwargs: Any) -> logging.LogRecord:
        return logging.LogRecord(*args, **kwargs)

    try:
        in_task(body)
        assert logging.getLogRecordFactory() is logging.LogRecord
        logging.setLogRecordFactory(replaced)
        assert in_task(lambda: logger.warning("heard")).logs == ["tests.capture: heard"]
        assert logging.getLogRecordFactory() is replaced
    finally:
        logging.setLogRecordFactory(original)


def test_a_record_made_anew_is_not_heard_twice(logger: logging.Logger) -> None:
    """QueueListener and SocketHandler make records of received ones."""

    def body() -> None:
        logging.makeLogRecord({"name": "far", "msg": "away"})
        logger.warning("here")

    assert in_task(body).logs == ["tests.capture: here"]


# Logging as the user set it up, in a process of its own


def test_the_last_resort_still_prints_and_root_stays_untouched() -> None:
    done = script("""
        import logging, sys
        root = logging.getLogger()
        before = [*root.handlers], root.level, logging.getLogRecordFactory(), logging.lastResort
        import perfect, perfect.sdk, perfect.testing
        assert ([*root.handlers], root.level, logging.getLogRecordFactory(), logging.lastResort) == before

        @perfect.flow
        def run():
            logging.getLogger("mine").warning("last resort")
            logging.getLogger("mine").info("not shown")
            assert [*root.handlers] == before[0] and root.level == before[1]

        run()
        assert ([*root.handlers], root.level, logging.getLogRecordFactory(), logging.lastResort) == before
        assert perfect.testing.recorder().run.logs == ["mine: last resort"]
        """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "last resort\n")


def test_basic_config_in_a_task_still_works() -> None:
    done = script("""
        import logging
        from perfect import flow, task
        from perfect.testing import recorder

        @task
        def setup():
            logging.basicConfig(level=logging.INFO, format="%(levelname)s|%(message)s")
            logging.info("in the task")

        @flow
        def run():
            setup()

        run()
        run()
        logging.info("after the runs")
        assert [run.logs for run in recorder().runs] == [["in the task"]] * 2, recorder().runs
        """)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "INFO|in the task\n" * 2 + "INFO|after the runs\n"


# LogCapture


def test_lines_of_a_block(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with LogCapture(lines.append):
        print("one")
        print("partial", end="")
    print("not this")
    assert lines == ["one", "partial"]
    assert capsys.readouterr().out == "one\npartialnot this\n"


def test_inside_a_run_the_run_gets_the_lines_too() -> None:
    lines: list[str] = []
    inner = task(name="inner")(lambda: print("from a task"))

    def body() -> None:
        with LogCapture(lines.append):
            print("both")
            inner()

    run = in_task(body)
    assert lines == ["both"]
    assert run.task("step").logs == ["both"]
    assert run.task("inner").logs == ["from a task"]


def test_other_threads_are_not_captured() -> None:
    lines: list[str] = []
    with LogCapture(lines.append):
        thread = threading.Thread(target=lambda: print("elsewhere"))
        thread.start()
        thread.join()
    assert lines == []


def test_a_function_that_raises_is_the_callers_and_everything_is_restored() -> None:
    def refuse(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="whole"):
        with LogCapture(refuse):
            print("whole")
    with pytest.raises(ValueError, match="partial"):
        with LogCapture(refuse):
            print("partial", end="")


def test_what_can_not_be_called_is_named() -> None:
    with pytest.raises(ConfigurationError, match="on_line=3"):
        LogCapture(3)  # type: ignore[arg-type]


# The live line of a terminal


def on_terminal(text: str) -> tuple[int, str]:
    """(exit code, all that the terminal got) of a script whose stdout and stderr are one."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(text)],
        stdout=slave,
        stderr=slave,
        stdin=slave,
        env={**os.environ, "PERFECT_MOCK": "1", "PYTHONPATH": os.getcwd(), "TERM": "xterm"},
    )
    os.close(slave)
    got = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:  # the other side has closed
            break
        if not data:
            break
        got += data
    os.close(master)
    return process.wait(30), got.decode()


ERASE = "\r\x1b[2K"


def test_a_terminal_shows_the_running_task_and_is_clean_afterwards() -> None:
    code, shown = on_terminal("""
        import threading
        from perfect import flow, task, watch_progress
        seen = threading.Event()

        @task(name="long\\x1b[31m task", estimated_time=60_000)
        def long_task():
            from perfect import terminal
            with terminal.lock:
                line = terminal.line
            while not line.shown:
                seen.wait(0.01)
            print("a line of the task")

        @flow(name="shown flow")
        def run():
            long_task()

        run()
        print("after")
        """)
    assert code == 0, shown
    assert "▶ shown flow · long·[31m task" in shown  # no control characters from names
    drawn, _, rest = shown.rpartition("a line of the task\r\n")
    assert drawn.endswith(ERASE)  # the line gave way to the print
    assert rest.rpartition(ERASE)[2] == "after\r\n" or rest == "after\r\n"


class Terminal(io.StringIO):
    """A terminal that may go away."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = False
        self.tried = threading.Event()

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("no descriptor")

    def write(self, text: str) -> int:
        self.tried.set()
        if self.gone:
            raise OSError("the terminal is gone")
        return super().write(text)


def test_a_terminal_that_goes_away_does_not_fail_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "__stderr__", shown)

    def body() -> None:
        assert shown.tried.wait(10)  # the line is drawn
        shown.gone = True
        print("still here")

    run = in_task(body)
    assert (run.state, run.logs) == ("COMPLETED", ["still here"])
    assert terminal.line is None


def test_a_line_that_comes_too_late_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ticker may be about to draw when the last run ends."""
    shown = Terminal()
    monkeypatch.setattr(sys, "__stderr__", shown)
    progress = Progress("id", "flow", 0, "task", 50, 1.0)
    terminal.attach()
    line = terminal.line
    assert line is not None
    line.draw(progress)
    assert "flow · task" in shown.getvalue() and " 50 %" in shown.getvalue()
    terminal.detach()
    ended = shown.getvalue()
    assert ended.endswith(ERASE)
    line._last = 0.0
    line.draw(progress)
    assert shown.getvalue() == ended


def test_no_line_where_stderr_is_no_terminal() -> None:
    done = script("""
        from perfect import flow, terminal
        @flow
        def run():
            assert terminal.line is None
            print("plain")
        run()
        """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain\n", "")


def test_a_thread_that_prints_while_the_run_ends_keeps_what_it_prints_to() -> None:
    """print() only borrows sys.stdout: were the stand-in let go of, the process would crash."""
    stand_ins = []

    @flow
    def run() -> None:
        stand_ins.append(weakref.ref(sys.stdout))

    with testing.mock():
        run()
        gc.collect()
        assert stand_ins[0]() is not None
        run()
        assert stand_ins[0]() is stand_ins[1]()  # there is no more than one for each stream
