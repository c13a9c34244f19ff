"""State by name: in memory, in a file, and in a file that many use at once."""

from __future__ import annotations

import datetime as dt
import enum
import fcntl
import json
import logging
import math
import multiprocessing
import os
import pickle
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import perfect
from perfect import statefile
from perfect.errors import ConfigurationError, PerfectError
from perfect.errors import StorageError
from perfect.store import StateManager

HERE = str(Path(perfect.__file__).parents[1])


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a folder" / "and another" / "state.json"


@pytest.fixture(params=["memory", "file"])
def state(request: pytest.FixtureRequest, path: Path, clock: Clock) -> StateManager:
    return StateManager(path if request.param == "file" else None, clock=clock)


# What both do


def test_values_are_kept_by_name(state: StateManager) -> None:
    assert (state.get("rows"), state.get("rows", 7), state.has("rows")) == (None, 7, False)
    state.set("rows", [1, {"a": None}])
    state.set("none", None)
    state.set("", "no name")
    assert (state.get("rows"), state.has("rows")) == ([1, {"a": None}], True)
    assert (state.get("none", 7), state.has("none")) == (None, True)
    state.set("rows", 2.5)
    assert state.get_all() == {"rows": 2.5, "none": None, "": "no name"}
    assert (state.delete("rows"), state.delete("rows"), state.has("rows")) == (True, False, False)
    assert state.get_all() == {"none": None, "": "no name"}
    state.clear()
    assert state.get_all() == {}
    state.clear()
    assert state.delete("none") is False


def test_update_keeps_many(state: StateManager, clock: Clock) -> None:
    state.set("a", 0, metadata={"old": True})
    state.update({"a": 1, "b": 2}, ttl=10, metadata={"n": 1})
    state.update({})
    assert state.get_all() == {"a": 1, "b": 2}
    assert state.get_metadata("a") == state.get_metadata("b") == {"n": 1}
    clock.now += 10
    assert state.get_all() == {}


def test_metadata_comes_back_with_its_value(state: StateManager) -> None:
    facts = {"rows": 3, "from": ["here"]}
    state.set("a", 1, metadata=facts)
    state.set("b", 1)
    facts["rows"] = 4
    found = state.get_metadata("a")
    assert found == {"rows": 3, "from": ["here"]}
    assert found is not None
    found["rows"] = 5
    assert state.get_metadata("a") == {"rows": 3, "from": ["here"]}
    assert (state.get_metadata("b"), state.get_metadata("c")) == ({}, None)
    state.set("a", 1)
    assert state.get_metadata("a") == {}


def test_values_last_as_long_as_they_are_told_to(state: StateManager, clock: Clock) -> None:
    state.set("seconds", 1, ttl=10)
    state.set("delta", 2, ttl=dt.timedelta(seconds=20))
    state.set("for good", 3)
    state.set("endless", 4, ttl=math.inf)
    clock.now += 9.999
    assert len(state.get_all()) == 4
    clock.now += 0.001
    assert (state.get("seconds", "gone"), state.has("seconds")) == ("gone", False)
    assert state.get_metadata("seconds") is None
    assert state.delete("seconds") is False
    assert state.get_all() == {"delta": 2, "for good": 3, "endless": 4}
    clock.now += 1e15
    assert state.get_all() == {"for good": 3, "endless": 4}


def test_a_value_that_is_set_again_lasts_anew(state: StateManager, clock: Clock) -> None:
    state.set("a", 1, ttl=10)
    clock.now += 9
    state.set("a", 2, ttl=10)
    clock.now += 9
    assert state.get("a") == 2
    state.set("a", 3)
    clock.now += 1000
    assert state.get("a") == 3


def test_expired_values_are_counted_and_dropped(state: StateManager, clock: Clock) -> None:
    assert state.invalidate_expired() == 0
    for n in range(10):
        state.set(f"{n}", n, ttl=n + 1)
    assert state.invalidate_expired() == 0
    clock.now += 4
    assert (state.invalidate_expired(), state.invalidate_expired()) == (4, 0)
    assert list(state.get_all()) == ["4", "5", "6", "7", "8", "9"]


@pytest.mark.parametrize("given_path", [None, "file"])
def test_the_default_time_to_live(given_path: str | None, path: Path, clock: Clock) -> None:
    for default in (5, dt.timedelta(seconds=5)):
        state = StateManager(given_path and path, default, clock=clock)
        state.set("default", 1)
        state.set("longer", 2, ttl=6)
        state.set("endless", 3, ttl=math.inf)
        clock.now += 5
        assert state.get_all() == {"longer": 2, "endless": 3}
        clock.now += 1
        assert state.get_all() == {"endless": 3}


@pytest.mark.parametrize(
    "ttl", [0, -1, 0.0, math.nan, -math.inf, True, "3600", [1], dt.timedelta(0), dt.timedelta(-1)]
)
def test_a_time_to_live_is_positive(state: StateManager, ttl: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^ttl=.* neither seconds > 0 nor a timedelta"):
        state.set("a", 1, ttl=ttl)
    with pytest.raises(ConfigurationError, match="^ttl="):
        state.update({"a": 1}, ttl=ttl)
    with pytest.raises(ConfigurationError, match="^default_ttl="):
        StateManager(default_ttl=ttl)
    assert not state.has("a")


@pytest.mark.parametrize("key", [None, 1, b"a", ("a",), [], "\udc80"])
def test_keys_are_text(state: StateManager, key: Any) -> None:
    for call in (state.get, state.has, state.delete, state.get_metadata):
        with pytest.raises(ConfigurationError, match="^key="):
            call(key)
    with pytest.raises(ConfigurationError, match="^key="):
        state.set(key, 1)
    if key != []:
        with pytest.raises(ConfigurationError, match="^key="):
            state.update({"good": 1, key: 2})
    assert state.get_all() == {}


def test_mappings_are_mappings(state: StateManager) -> None:
    with pytest.raises(ConfigurationError, match="^values="):
        state.update([("a", 1)])  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="^metadata="):
        state.set("a", 1, metadata=["x"])  # type: ignore[arg-type]
    assert state.get_all() == {}


@pytest.mark.parametrize("given_path", ["", 7, b"state.json", "a\0b", ["x"]])
def test_a_path_is_a_path(given_path: Any) -> None:
    with pytest.raises(ConfigurationError, match="^storage_path="):
        StateManager(given_path)


def test_threads_share_one(state: StateManager) -> None:
    def work(thread: int) -> None:
        for n in range(20):
            state.set(f"{thread}.{n}", [thread] * n)
            state.set("same", thread)
            assert state.get(f"{thread}.{n}") == [thread] * n
            assert 0 <= state.get("same") < 8
            if n % 2:
                assert state.delete(f"{thread}.{n}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    expected = {f"{t}.{n}": [t] * n for t in range(8) for n in range(0, 20, 2)}
    found = state.get_all()
    found.pop("same")
    assert found == expected


def test_only_one_of_many_threads_deletes(state: StateManager) -> None:
    for _ in range(20):
        state.set("once", 1)
        barrier = threading.Barrier(4)

        def delete() -> bool:
            barrier.wait(30)
            return state.delete("once")

        with ThreadPoolExecutor(4) as pool:
            assert sorted(
                future.result() for future in [pool.submit(delete) for _ in range(4)]
            ) == [
                False,
                False,
                False,
                True,
            ]


def test_a_fork_does_not_inherit_a_lock_that_is_held(state: StateManager) -> None:
    state.set("a", 1)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with state._mutex:
            held.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)  # ends a child that waits for the lock
            state.set("b", 2)
            if state.get_all() == {"a": 1, "b": 2}:
                os._exit(42)
        finally:
            os._exit(3)
    release.set()
    thread.join(30)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


# In memory


def test_memory_holds_the_objects_themselves() -> None:
    state = StateManager()
    thing, rows = object(), [1]
    state.set("thing", thing, metadata={"lock": thing})
    state.set("rows", rows)
    rows.append(2)
    assert state.get("thing") is thing and state.get("rows") is rows
    assert state.get_metadata("thing") == {"lock": thing}
    assert repr(state) == "StateManager()"


def test_memory_does_not_grow_with_what_has_expired(clock: Clock) -> None:
    state = StateManager(clock=clock)
    for n in range(10_000):
        state.set(f"{n}", n, ttl=10)
        clock.now += 1
    assert len(state.get_all()) == 9  # the one set 10 s ago has just expired
    assert len(state._entries) < 200


def test_what_is_dropped_may_ask_for_something() -> None:
    state = StateManager()
    found = []

    class Asks:
        def __del__(self) -> None:
            found.append(state.has("other"))

    state.set("other", 1)
    state.set("a", Asks())
    state.set("a", None)
    assert found == [True]


# In a file


def content_of(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def names_beside(path: Path) -> set[str]:
    return set(os.listdir(path.parent))


def test_the_file_appears_at_the_first_write(path: Path) -> None:
    state = StateManager(path)
    assert not state.has("a") and state.get_all() == {} and state.get_metadata("a") is None
    assert not state.delete("a") and state.invalidate_expired() == 0
    state.clear()
    state.update({})
    assert not path.parent.exists() and os.listdir(path.parents[2]) == []
    state.set("a", 1)
    assert names_beside(path) == {"state.json", "state.json.lock"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((path.parent / "state.json.lock").stat().st_mode) == 0o600


def test_the_file_can_be_read(path: Path, clock: Clock) -> None:
    state = StateManager(path, clock=clock)
    state.set("größe", [1, {"b": "ü"}])
    state.set("b", None, ttl=5, metadata={"n": 1})
    assert path.read_text(encoding="utf-8") == (
        '{"version": 1, "entries": {\n'
        '"größe": {"value": [1, {"b": "ü"}], "expires": null, "metadata": {}},\n'
        '"b": {"value": null, "expires": 1000005.0, "metadata": {"n": 1}}\n'
        "}}\n"
    )
    state.clear()
    assert content_of(path) == {"version": 1, "entries": {}}


def test_who_edits_the_file_is_heard(path: Path) -> None:
    state = StateManager(path)
    state.set("a", 1)
    pretty = content_of(path)
    pretty["entries"]["a"]["value"] = {"edited": True}
    path.write_text(json.dumps(pretty, indent=4))
    assert state.get("a") == {"edited": True}
    path.unlink()
    assert state.get_all() == {}
    state.set("b", 1)
    assert state.get_all() == {"b": 1}


def test_another_manager_sees_every_change(path: Path) -> None:
    one, other = StateManager(path), StateManager(str(path))
    for n in range(
        300
    ):  # fast enough for inodes and times of the file system's clock to come again
        one.set("n", n % 10)
        assert other.get("n") == n % 10
        other.set("n", -n % 10)
        assert one.get("n") == -n % 10


def test_each_file_is_younger_than_the_former(path: Path) -> None:
    """Its inode and size may be the same, and the file system's clock may stand still or be set back."""
    state = StateManager(path)
    state.set("a", 1)
    future = path.stat().st_mtime_ns + 10**15
    os.utime(path, ns=(future, future))
    for n in range(3):
        StateManager(path).set("a", n)
        assert path.stat().st_mtime_ns == future + n + 1
        assert state.get("a") == n


def test_what_has_not_changed_is_not_read_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateManager(path)
    state.set("a", 1)
    StateManager(path).set("b", 2)
    reads: list[int] = []
    real = statefile._parsed
    monkeypatch.setattr(statefile, "_parsed", lambda data: reads.append(1) or real(data))
    for _ in range(5):
        assert state.get_all() == {"a": 1, "b": 2}
    assert len(reads) == 1
    state.set("c", 3)
    assert len(state.get_all()) == 3
    assert len(reads) == 1


def test_update_is_one_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateManager(path)
    real, replaced = os.replace, []

    def replace(*names: str) -> None:
        replaced.append(names)
        real(*names)

    monkeypatch.setattr(os, "replace", replace)
    state.update({f"{n}": n for n in range(100)})
    assert replaced == [(f"{path}.new", str(path))]
    assert len(StateManager(path).get_all()) == 100


def test_a_write_lets_no_other_thread_look_at_what_it_changes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateManager(path)
    real, free = os.replace, []

    def replace(*names: str) -> None:
        with ThreadPoolExecutor(1) as pool:
            free.append(pool.submit(state._mutex.acquire, False).result())
        real(*names)

    monkeypatch.setattr(os, "replace", replace)
    state.set("a", 1)
    state.delete("a")
    state.set("a", 1)
    state.clear()
    assert free == [False] * 4


def test_what_a_reader_changes_is_its_own(path: Path) -> None:
    state = StateManager(path)
    rows = [[1], {"a": [2]}]
    state.set("rows", rows)
    rows.clear()
    state.get("rows").append("mine")
    state.get_all()["rows"][0].append("mine")
    state.set("other", 1)
    assert state.get("rows") == [[1], {"a": [2]}]
    assert content_of(path)["entries"]["rows"]["value"] == [[1], {"a": [2]}]


def test_expired_values_leave_the_file_at_the_next_write(path: Path, clock: Clock) -> None:
    state = StateManager(path, clock=clock)
    state.set("a", 1, ttl=10)
    state.set("b", 1, ttl=20)
    clock.now += 10
    assert state.get_all() == {"b": 1} and set(content_of(path)["entries"]) == {"a", "b"}
    state.set("c", 1)
    assert set(content_of(path)["entries"]) == {"b", "c"}
    clock.now += 10
    assert state.invalidate_expired() == 1
    assert set(content_of(path)["entries"]) == {"c"}


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    state = StateManager(".flowkit/state.json", default_ttl=3600)
    monkeypatch.chdir(tmp_path / "elsewhere")
    state.set("a", 1)
    assert (tmp_path / ".flowkit" / "state.json").exists()
    assert repr(state) == f"StateManager({str(tmp_path / '.flowkit' / 'state.json')!r})"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert StateManager("~/.flowkit/state.json").get("a") == 1


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "real" / "state.json")
    state = StateManager(tmp_path / "link.json")
    state.set("a", 1)
    assert (tmp_path / "link.json").is_symlink()
    assert StateManager(tmp_path / "real" / "state.json").get("a") == 1
    assert sorted(os.listdir(tmp_path)) == ["link.json", "real"]


# Values that JSON does not give back


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    pass


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


CIRCLE: list[Any] = [1]
CIRCLE.append({"again": CIRCLE})

UNFIT: list[tuple[Any, str, str]] = [
    ((1, 2), "value", "a tuple"),
    ({"rows": [1, 2, (3,)]}, "value['rows'][2]", "a tuple"),
    ({"a": {"it's": [{"x": {1}}]}}, """value['a']["it's"][0]['x']""", "a set"),
    ([b"bytes"], "value[0]", "bytes"),
    ({1: "a"}, "value[1]", "int is not text"),
    ([{None: "a"}], "value[0][None]", "NoneType is not text"),
    ({Text("a"): 1}, "value['a']", "Text is not text"),
    (math.nan, "value", "NaN"),
    ([1.5, -math.inf], "value[1]", "infinity"),
    (dt.date(2026, 1, 2), "value", "datetime.date"),
    (Level.HIGH, "value", "Level"),
    (Text("a"), "value", "Text"),
    (OrderedDict(a=1), "value", "OrderedDict"),
    (Counter("a"), "value", "Counter"),
    (object(), "value", "object"),
    (print, "value", "builtin_function"),
    (10**5000, "value", "digits"),
    (CIRCLE, "value[1]['again']", "contains itself"),
    (nested(101), "value" + "[0]" * 100, "deeper than 100"),
    (["ok", "\ud83d\ude00"], "value[1]", "surrogate"),
    ({"\udc80": 1}, r"value['\udc80']", "surrogate"),
]


@pytest.mark.parametrize("value, argument, reason", UNFIT, ids=[case[1][:40] for case in UNFIT])
def test_what_json_would_change_is_refused_by_name(
    path: Path, value: Any, argument: str, reason: str
) -> None:
    state = StateManager(path)
    with pytest.raises(ConfigurationError, match="'the key'") as caught:
        state.set("the key", value)
    assert caught.value.argument == argument and reason in caught.value.reason
    with pytest.raises(ConfigurationError) as caught:
        state.update({"good": 1, "bad": value})
    assert caught.value.argument == "values['bad']" + argument.removeprefix("value")
    with pytest.raises(ConfigurationError) as caught:
        state.set("a", 1, metadata={"fact": value})
    assert caught.value.argument.startswith("metadata['fact']") or "deeper" in reason
    assert state.get_all() == {} and not path.exists()


def test_what_is_refused_leaves_what_was_there(path: Path) -> None:
    state = StateManager(path)
    state.set("a", 1)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError):
        state.update({"a": 2, "b": {3}})
    assert path.read_bytes() == before and state.get_all() == {"a": 1}


def test_the_limits_are_taken(path: Path) -> None:
    state = StateManager(path)
    values = [nested(99), 2**13_999, -0.0, 5e-324, 1.7976931348623157e308, "\0\u2028\x7f"]
    state.set("values", values)
    found = StateManager(path).get("values")
    assert found == values and math.copysign(1, found[2]) == -1


TEXT = st.text()  # hypothesis makes no lone surrogates unless it is asked to
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.none(), inner)
    ),
    max_leaves=20,
)


def alike(one: Any, other: Any) -> bool:
    """Equal in value and in the types of all parts."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, dict):
        return all(map(alike, one, other)) and all(map(alike, one.values(), other.values()))
    return not isinstance(one, list) or all(map(alike, one, other))


@settings(deadline=None)
@given(st.dictionaries(TEXT, JSON), st.dictionaries(TEXT, JSON))
def test_what_json_can_hold_comes_back(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any], facts: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("any") / "state.json"
    StateManager(path).update(values, metadata=facts)
    found = StateManager(path)
    assert alike(found.get_all(), values)
    assert all(found.get_metadata(key) == facts for key in values)


@settings(deadline=None)
@given(ANYTHING)
def test_a_value_comes_back_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    path = tmp_path_factory.mktemp("any") / "state.json"
    try:
        StateManager(path).set("key", value)
    except ConfigurationError:
        assert not path.exists()
    else:
        assert alike(StateManager(path).get("key"), value)


class Model(RuleBasedStateMachine):
    """Two managers of one file and one in memory do as a dict does."""

    KEYS = st.sampled_from(["a", "b", "c"])

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, "state.json")
        self.managers = [
            StateManager(path, clock=self.clock),
            StateManager(path, clock=self.clock),
        ]
        self.memory = StateManager(clock=self.clock)
        self.expected: dict[str, tuple[Any, float]] = {}

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(which=st.booleans(), key=KEYS, value=JSON, ttl=st.none() | st.integers(1, 5))
    def set(self, which: bool, key: str, value: Any, ttl: int | None) -> None:
        for manager in (self.managers[which], self.memory):
            manager.set(key, value, ttl)
        self.expected[key] = (value, math.inf if ttl is None else self.clock.now + ttl)

    @rule(which=st.booleans(), values=st.dictionaries(KEYS, JSON))
    def update(self, which: bool, values: dict[str, Any]) -> None:
        for manager in (self.managers[which], self.memory):
            manager.update(values)
        self.expected.update({key: (value, math.inf) for key, value in values.items()})

    @rule(which=st.booleans(), key=KEYS)
    def delete(self, which: bool, key: str) -> None:
        there = key in self.current()
        for manager in (self.managers[which], self.memory):
            assert manager.delete(key) is there
        self.expected.pop(key, None)

    @rule(which=st.booleans())
    def clear(self, which: bool) -> None:
        self.managers[which].clear()
        self.memory.clear()
        self.expected.clear()

    @rule(seconds=st.integers(0, 3))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule(which=st.booleans())
    def invalidate(self, which: bool) -> None:
        self.managers[which].invalidate_expired()
        assert self.managers[not which].invalidate_expired() == 0

    def current(self) -> dict[str, Any]:
        return {
            key: value for key, (value, until) in self.expected.items() if until > self.clock.now
        }

    @invariant()
    def agree(self) -> None:
        for manager in (*self.managers, self.memory):
            assert manager.get_all() == self.current()
            for key in "abc":
                assert manager.has(key) is (key in self.current())


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


# Damage


WHOLE = b'{"version": 1, "entries": {"a": {"value": 1, "expires": null, "metadata": {}}}}'
DAMAGE = {
    "empty": b"",
    "half": WHOLE[: len(WHOLE) // 2],
    "binary": bytes(range(256)),
    "zeros": bytes(100),
    "utf-16": WHOLE.decode().encode("utf-16"),
    "list": b"[1, 2]",
    "null": b"null",
    "number": b"1",
    "foreign": b'{"name": "somebody else\'s"}',
    "version": WHOLE.replace(b"1", b'"1"', 1),
    "version 0": WHOLE.replace(b"1", b"0", 1),
    "entries": b'{"version": 1, "entries": []}',
    "entry": b'{"version": 1, "entries": {"a": 1}}',
    "no value": WHOLE.replace(b"value", b"valve"),
    "expires": WHOLE.replace(b"null", b'"soon"'),
    "metadata": WHOLE.replace(b"{}}", b"[]}"),
    "NaN": WHOLE.replace(b": 1,", b": NaN,").replace(b"NaN", b"1", 1),
    "infinite": WHOLE.replace(b'"value": 1', b'"value": 1e999'),
    "surrogate": WHOLE.replace(b'"value": 1', b'"value": "\\ud800"'),
    "surrogate key": WHOLE.replace(b'"a"', b'"\\ud800"'),
    "endless": WHOLE.replace(b"null", b"-1e999"),
    "digits": WHOLE.replace(b'"value": 1', b'"value": ' + b"9" * 5000),
    "deep": b"[" * 100_000,
    "two": WHOLE + WHOLE,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_set_aside(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(DAMAGE[damage])
    state = StateManager(path)
    assert (state.get("a"), state.has("a"), state.get_all()) == (None, False, {})
    assert state.delete("a") is False
    aside = path.parent / "state.json.damaged-1"
    assert aside.read_bytes() == DAMAGE[damage]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("perfect", logging.WARNING)
    assert str(path) in record.getMessage() and str(aside) in record.getMessage()
    state.set("a", 2)
    assert StateManager(path).get_all() == {"a": 2}


def test_nothing_that_was_set_aside_is_lost(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = StateManager(path)
    for n in range(3):
        state.set("a", 1)  # also a damage that comes later, and one that a write finds
        path.write_bytes(b"damage %d" % n)
        state.set("b", n)
        assert state.get_all() == {"b": n}
    found = [(path.parent / f"state.json.damaged-{n + 1}").read_bytes() for n in range(3)]
    assert found == [b"damage 0", b"damage 1", b"damage 2"]
    assert len(caplog.records) == 3


def test_a_file_is_set_aside_under_the_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damage")
    real, locked = os.rename, []

    def rename(*names: str) -> None:
        with open(f"{path}.lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                locked.append(names)
        real(*names)

    monkeypatch.setattr(os, "rename", rename)
    assert StateManager(path).get("a") is None
    assert locked == [(str(path), f"{path}.damaged-1")]


def test_a_newer_file_is_set_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir(parents=True)
    newer = b'{"version": 2, "tables": "something new"}'
    path.write_bytes(newer)
    state = StateManager(path)
    state.set("a", 1)
    assert (path.parent / "state.json.newer-1").read_bytes() == newer
    assert "newer version 2" in caplog.text
    assert state.get_all() == {"a": 1}


def test_a_good_file_is_not_set_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b" " + WHOLE.replace(b"1,", b'1, "more": 2,', 1).replace(b"null", b"4e12"))
    assert StateManager(path).get_all() == {"a": 1}
    assert not caplog.records


# Trouble with the disk; as root, too


def refused(call: Callable[[], object]) -> StorageError:
    with pytest.raises(StorageError) as caught:
        call()
    assert isinstance(caught.value, PerfectError)
    return caught.value


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "below" / "state.json"
    state = StateManager(path)
    error = refused(lambda: state.set("a", 1))
    assert error.path == str(path) and str(path) in str(error)
    refused(lambda: state.get("a"))
    assert refused(lambda: state.update({"a": 1})).reason in str(error)


def test_a_path_that_is_a_folder_is_named(tmp_path: Path) -> None:
    state = StateManager(tmp_path)
    assert str(tmp_path) in str(refused(lambda: state.get("a")))
    refused(lambda: state.set("a", 1))


def test_after_a_write_that_failed_all_is_as_it_was(path: Path) -> None:
    state = StateManager(path)
    state.set("a", 1)
    before = path.read_bytes()
    (path.parent / "state.json.new").mkdir()  # what is written first can't be
    assert refused(lambda: state.set("b", 2)).path == str(path)
    assert state.get_all() == {"a": 1} and path.read_bytes() == before
    (path.parent / "state.json.new").rmdir()
    state.set("b", 2)
    assert state.get_all() == {"a": 1, "b": 2}


def test_a_full_disk_leaves_no_half_file(path: Path) -> None:
    state = StateManager(path)
    state.set("a", 1)
    script = f"""
        import resource, signal
        from perfect.errors import StorageError
        from perfect.store import StateManager
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        state = StateManager({str(path)!r})
        try:
            state.set("b", "x" * 100_000)
        except StorageError as error:
            assert state.get_all() == {{"a": 1}}
            print(error)
    """
    assert f"{path} can't be written" in in_a_process(script).stdout
    assert names_beside(path) == {"state.json", "state.json.lock"}
    assert state.get_all() == {"a": 1}


def test_the_storage_error_is_pickled_as_it_was(tmp_path: Path) -> None:
    error = refused(lambda: StateManager(tmp_path).get("a"))
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.path, copied.reason) == (str(error), error.path, error.reason)


# Processes


def in_a_process(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": HERE},
    )


HAMMER = """
import sys, threading
from perfect.store import StateManager
path, me = sys.argv[1], sys.argv[2]
state = StateManager(path)
print("ready", flush=True)
sys.stdin.readline()
def work(thread):
    for n in range(25):
        state.set(f"{me}.{thread}.{n}", n)
        assert state.get(f"{me}.{thread}.{n}") == n
        if n:
            assert state.delete(f"{me}.{thread}.{n - 1}")
threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def start(script: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": HERE},
    )


def test_processes_lose_nothing_of_each_other(path: Path) -> None:
    processes = [start(HAMMER, str(path), f"{n}") for n in range(6)]
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, err = process.communicate(timeout=100)
        assert (process.returncode, out, err) == (0, "", "")
    expected = {f"{p}.{t}.24": 24 for p in range(6) for t in range(2)}
    assert StateManager(path).get_all() == expected
    assert names_beside(path) == {"state.json", "state.json.lock"}


def _spawned(path: str, me: int) -> dict[str, Any]:
    state = StateManager(path)
    for n in range(20):
        state.update({f"{me}.{n}": [n], f"last {me}": n})
    return state.get_all()


def test_spawned_workers_share_a_file(path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        seen = pool.starmap(_spawned, [(str(path), n) for n in range(4)])
    everything = StateManager(path).get_all()
    assert len(everything) == 4 * 21
    for me, found in enumerate(seen):
        assert {f"{me}.{n}": [n] for n in range(20)}.items() <= found.items()  # type: ignore[operator]


WRITER = """
import sys
from perfect.store import StateManager
state = StateManager(sys.argv[1])
n = 0
while True:
    state.update({"n": n, "rows": [n] * 20_000})
    n += 1
    print(n, flush=True)
"""


def test_a_killed_writer_leaves_a_whole_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reader = StateManager(path)
    last = -1
    for round_ in range(8):
        process = start(WRITER, str(path))
        assert process.stdout
        for _ in range(round_ + 2):
            told = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read().split()
        process.communicate(timeout=30)
        told = int(rest[-1]) if rest and rest[-1].isdigit() else told
        found = reader.get_all()
        assert found["rows"] == [found["n"]] * 20_000
        assert found["n"] >= told - 2  # what was told of is there; the last number may be cut
        last = found["n"]
    assert last >= 0 and not caplog.records
    reader.set("after", 1)
    assert names_beside(path) == {"state.json", "state.json.lock"}


def test_a_writer_that_is_killed_with_half_a_file_written_is_followed_by_the_next(
    path: Path,
) -> None:
    StateManager(path).set("a", 1)
    script = """
        import os, signal, sys
        from perfect import statefile
        from perfect.store import StateManager
        real = os.fsync
        def killed(descriptor):
            os.truncate(descriptor, 10)
            os.kill(os.getpid(), signal.SIGKILL)
        os.fsync = killed
        StateManager(sys.argv[1]).set("b", 2)
    """
    process = start(textwrap.dedent(script), str(path))
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert "state.json.new" in names_beside(path)
    state = StateManager(path)
    assert state.get_all() == {"a": 1}
    state.set("c", 3)
    assert state.get_all() == {"a": 1, "c": 3}
    assert names_beside(path) == {"state.json", "state.json.lock"}


def test_many_find_damage_at_once_and_one_sets_it_aside(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damage")
    script = """
import sys
from perfect.store import StateManager
state = StateManager(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
state.get("a")
state.set(sys.argv[2], 1)
"""
    processes = [start(script, str(path), f"{n}") for n in range(6)]
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 6
    assert sum("damaged-1" in error for error in errors) == 1
    assert StateManager(path).get_all() == {f"{n}": 1 for n in range(6)}
    assert names_beside(path) == {"state.json", "state.json.lock", "state.json.damaged-1"}


def test_a_child_forked_during_a_write_does_not_keep_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateManager(path)
    real, children = os.fsync, []

    def fork(descriptor: int) -> None:
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(theirs)
            os.read(ours, 1)  # until the parent is done; it holds what was open
            os._exit(0)
        os.close(ours)
        children.append((child, theirs))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fork)
    state.set("a", 1)
    done = in_a_process(f"""
        import signal
        from perfect.store import StateManager
        signal.alarm(30)
        StateManager({str(path)!r}).set("b", 2)
        print("written")
    """)
    for child, pipe in children:
        os.close(pipe)
        os.waitpid(child, 0)
    assert done.stdout == "written\n"


def test_what_it_imports_is_cheap() -> None:
    done = in_a_process("""
        import sys
        before = set(sys.modules)
        import perfect.store, perfect.caching
        heavy = "inspect dataclasses asyncio sqlite3 urllib decimal uuid fractions pathlib datetime"
        print(sorted(set(heavy.split()) & (set(sys.modules) - before)))
    """)
    assert done.stdout == "[]\n"
