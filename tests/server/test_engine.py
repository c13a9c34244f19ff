"""The engine's rules, with a clock of our own and nothing else."""

from __future__ import annotations

import statistics as stdlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as some

from perfect.server.engine import progress, values
from perfect.server.engine.clock import iso
from perfect.server.engine.definitions import FlowDefinition
from perfect.server.engine.clients import Clients
from perfect.server.engine.dispatch import Offer, Request, Waiter, WaitingRoom, check_claim, choose
from perfect.server.engine.liveness import Liveness
from perfect.server.engine.refusals import Conflict, Invalid
from perfect.server.engine.speaker import Speaker
from perfect.server.engine.statistics import Durations
from perfect.server.engine.trends import percentile
from perfect.server.settings import Limits


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now(self) -> int:
        return round(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


# --- progress ------------------------------------------------------------------------------------


def test_shares_are_weights_if_every_task_has_one() -> None:
    assert progress.shares([1.0, 3.0], [1000, 1000]) == [0.25, 0.75]


def test_shares_are_estimates_if_one_task_has_no_weight() -> None:
    assert progress.shares([1.0, None], [1000, 3000]) == [0.25, 0.75]


def test_shares_are_equal_where_there_is_nothing_to_go_by() -> None:
    assert progress.shares([0.0, 0.0], [5, 7]) == [0.5, 0.5]


@given(
    some.lists(some.tuples(some.none() | some.floats(0, 1e9), some.integers(0, 10**9)), min_size=1)
)
def test_shares_sum_to_one(tasks: list[tuple[float | None, int]]) -> None:
    assert sum(progress.shares([w for w, _ in tasks], [e for _, e in tasks])) == pytest.approx(1)


@pytest.mark.parametrize(
    ("state", "reported", "started", "estimate", "until", "expected"),
    [
        ("PENDING", None, None, 1000, 500, 0),
        ("RUNNING", None, 0, 1000, 500, 50),
        ("RUNNING", None, 0, 1000, 5_000, 99),
        ("RUNNING", None, 0, 0, 0, 99),
        ("RUNNING", None, 1_000, 1000, 500, 0),
        ("RUNNING", 40.0, 0, 1000, 990, 40),
        ("RUNNING", 100.0, 0, 1000, 990, 99),
        ("FAILED", None, 0, 1000, 300, 30),
        ("COMPLETED", 3.0, None, 1000, 0, 100),
        ("SKIPPED", None, None, 1000, 0, 100),
        ("RETRYING", 40.0, 0, 1000, 500, 0),
    ],
)
def test_progress_of_a_task(
    state: str,
    reported: float | None,
    started: int | None,
    estimate: int,
    until: int,
    expected: float,
) -> None:
    assert progress.of_task(state, reported, started, estimate, until) == expected


def test_a_run_is_at_100_only_when_completed() -> None:
    assert progress.of_run("RUNNING", 100.0) == 99
    assert progress.of_run("COMPLETED", 12.0) == 100


# --- statistics ----------------------------------------------------------------------------------


@given(
    some.lists(
        some.lists(some.integers(0, 10**7), min_size=1, max_size=30), min_size=1, max_size=10
    )
)
def test_summaries_merge_to_that_of_all_samples(runs: list[list[int]]) -> None:
    merged = Durations()
    for run in runs:
        squares = float(sum(duration * duration for duration in run))
        merged = merged.merged(Durations.of_sums(len(run), sum(run), squares))
    samples = [duration for run in runs for duration in run]
    assert merged.samples == len(samples)
    assert merged.runs == len(runs)
    assert merged.mean == pytest.approx(stdlib.fmean(samples))
    if len(samples) > 1:
        assert merged.deviation == pytest.approx(stdlib.stdev(samples), rel=1e-3, abs=0.5)


@given(some.lists(some.integers(0, 10**7), min_size=1, max_size=300))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(values: list[int]) -> None:
    found = percentile(values, 0.95)
    assert found is not None and found in values
    assert sum(value <= found for value in values) >= 0.95 * len(values)
    assert sum(value < found for value in values) < 0.95 * len(values)
    assert percentile([], 0.95) is None


def _summary(durations: Iterable[int]) -> Durations:
    merged = Durations()
    for duration in durations:
        merged = merged.merged(Durations.of_sums(1, duration, float(duration**2)))
    return merged


def test_an_estimate_is_learned_from_two_runs() -> None:
    assert _summary([100]).learned is None
    assert _summary([100, 300]).learned == 200
    assert _summary([0, 0]).learned == 1


def test_unusual_is_5_sigma_for_few_samples_and_3_3_for_many() -> None:
    assert _summary([100]).unusual is None
    few, many = _summary([90, 110]), _summary([90, 110] * 10)
    assert few.unusual == pytest.approx(100 + 5 * few.deviation)
    assert many.unusual == pytest.approx(100 + 3.3 * many.deviation)


# --- liveness ------------------------------------------------------------------------------------


def _listen(liveness: Liveness, clock: Clock, seconds: float) -> list[tuple[str, list[str]]]:
    """Look once a second, as the backend does, and return what was found last."""
    found = []
    for _ in range(round(seconds)):
        clock.seconds += 1
        found = liveness.silent()
    return found


def test_silence_fails_the_runs_of_that_session_only() -> None:
    clock = Clock()
    liveness = Liveness(clock, silence=10)
    for session in ("a", "b"):
        liveness.seen(session, monitored=True)
        liveness.started(session, f"run of {session}")
    assert _listen(liveness, clock, 9) == []
    liveness.seen("b", monitored=True)
    assert _listen(liveness, clock, 1) == [("a", ["run of a"])]


def test_the_next_look_is_due_when_somebody_may_have_fallen_silent() -> None:
    clock = Clock()
    liveness = Liveness(clock, silence=10)
    assert liveness.soonest() == 10
    for session in ("a", "b"):
        liveness.seen(session, monitored=True)
    liveness.started("a", "run")
    clock.seconds += 4
    assert liveness.soonest() == 6
    clock.seconds += 40
    assert liveness.soonest() == 0


def test_there_is_no_silence_to_punish_before_the_first_heartbeat() -> None:
    clock = Clock()
    liveness = Liveness(clock, silence=10)
    assert liveness.seen("@a", monitored=False) is False
    liveness.started("@a", "run")
    assert _listen(liveness, clock, 100) == []
    assert liveness.seen("@a", monitored=True) is True
    assert liveness.seen("@a", monitored=True) is False
    assert _listen(liveness, clock, 10) == [("@a", ["run"])]


def test_a_run_that_ended_is_not_missed() -> None:
    clock = Clock()
    liveness = Liveness(clock, silence=10)
    liveness.seen("a", monitored=True)
    liveness.started("a", "run")
    liveness.ended("a", "run")
    assert _listen(liveness, clock, 60) == []


def test_time_in_which_the_backend_itself_stood_still_is_not_held_against_clients() -> None:
    clock = Clock()
    liveness = Liveness(clock, silence=10)
    liveness.seen("a", monitored=True)
    liveness.started("a", "run")
    assert _listen(liveness, clock, 5) == []
    clock.seconds += 3600
    assert liveness.silent() == []
    assert _listen(liveness, clock, 4) == []
    assert _listen(liveness, clock, 1) == [("a", ["run"])]


def test_sessions_without_runs_are_forgotten() -> None:
    clock = Clock()
    liveness = Liveness(clock, silence=10)
    liveness.seen("a", monitored=True)
    _listen(liveness, clock, 200)
    assert liveness.sessions() == []


# --- dispatch ------------------------------------------------------------------------------------


def _request(
    key: int, state: str = "queued", session: str | None = None, until: int = 0, offers: int = 1
) -> Request:
    lease = None if state == "queued" else "lease"
    return Request(key, key, "flow", state, session, lease, until, offers)


def test_requests_are_served_first_in_first_out() -> None:
    chosen = choose([_request(1), _request(2)], "a", (), now=0, lease_ms=15)
    assert chosen is not None and chosen.key == 1


def test_a_leased_request_is_not_given_twice() -> None:
    assert choose([_request(1, "leased", "a", until=15)], "b", (), now=14, lease_ms=15) is None
    assert choose([_request(1, "claimed", "a", until=15)], "b", (), now=99, lease_ms=15) is None


def test_an_unclaimed_request_goes_to_another_session_first() -> None:
    waiting = [_request(1, "leased", "a", until=15)]
    assert choose(waiting, "b", (), now=15, lease_ms=15) is not None
    assert choose(waiting, "a", ("flow",), now=15, lease_ms=15) is None
    assert choose(waiting, "a", (), now=15, lease_ms=15) is not None
    assert choose(waiting, "a", ("flow",), now=30, lease_ms=15) is not None


def test_a_request_is_offered_three_times() -> None:
    waiting = [_request(1, "leased", "a", until=15, offers=offers) for offers in (3, 2)]
    chosen = choose(waiting, "b", (), now=15, lease_ms=15)
    assert chosen is waiting[1]


def test_a_claim_needs_the_lease() -> None:
    leased = _request(1, "leased", "a")
    assert check_claim(leased, "a", "lease", ended=False) is True
    for session, lease in (("b", "lease"), ("a", "other")):
        with pytest.raises(Conflict):
            check_claim(leased, session, lease, ended=False)
    with pytest.raises(Conflict):
        check_claim(None, "a", "lease", ended=False)


def test_a_claim_whose_answer_was_lost_may_be_said_again_while_the_run_is_not_over() -> None:
    claimed = _request(1, "claimed", "a")
    assert check_claim(claimed, "a", "lease", ended=False) is False
    with pytest.raises(Conflict):
        check_claim(claimed, "a", "lease", ended=True)
    with pytest.raises(Conflict):
        check_claim(claimed, "b", "lease", ended=False)


def test_one_call_wakes_the_poller_that_has_waited_longest() -> None:
    room = WaitingRoom()
    other, first, second = (
        Waiter(name, frozenset({flow}))
        for name, flow in (("a", "other"), ("b", "flow"), ("c", "flow"))
    )
    for waiter in (other, first, second):
        room.enter(waiter)
    room.call("flow")
    assert [w.wake.is_set() for w in (other, first, second)] == [False, True, False]
    room.call("flow")
    assert second.wake.is_set() and not other.wake.is_set()
    assert "flow" in room.others("b") and "other" in room.others("b")
    assert "other" not in room.others("a") and "third" not in room.others("a")


def test_a_request_is_handed_to_the_poller_that_a_call_would_wake() -> None:
    room = WaitingRoom()
    busy, old, first = (Waiter(name, {"flow"}) for name in ("busy", "old", "first"))
    first.claims = True
    old.idle = first.idle = True
    for waiter in (busy, old, first):
        room.enter(waiter)
    assert room.idle("other") is None
    assert room.idle("flow") is None  # "old" was there first, and what it is handed it has started
    room.leave(old)
    assert room.idle("flow") is first
    assert room.idle("flow") is None  # it is being looked after
    offers = [Offer({"run_id": str(number)}, _request(number)) for number in (1, 2)]
    assert room.hand(first, offers[0]) and first.wake.is_set() and not first.called
    assert not room.hand(first, offers[1]) and first.handed is offers[0]
    room.call("flow")
    room.call("flow")
    assert first.called  # a call is not lost beside what was handed
    assert not room.hand(old, offers[1])


# --- values --------------------------------------------------------------------------------------


def test_times_are_written_in_utc_with_milliseconds() -> None:
    assert iso(1_700_000_000_007) == "2023-11-14T22:13:20.007Z"
    assert iso(None) is None


@given(some.text(max_size=300), some.integers(8, 200))
def test_a_cut_line_says_how_much_is_missing(line: str, longest: int) -> None:
    kept = values.cut(line, longest)
    if len(line.encode()) <= longest:
        assert kept == line
    else:
        head, marker = kept.rsplit("… [cut, ", 1)
        assert line.startswith(head) and len(head.encode()) <= longest
        assert len(head.encode()) + int(marker.removesuffix(" bytes]")) == len(line.encode())


def test_depth_is_limited() -> None:
    deep: object = "bottom"
    for _ in range(64):
        deep = [deep]
    values.depth("it", deep, 64)
    with pytest.raises(Invalid, match="deeper than 64"):
        values.depth("it", {"x": deep}, 64)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "flow"),
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 10_000}, "name"),
        ({"name": 7}, "name"),
        ({"name": "f", "tags": [1]}, "tags"),
        ({"name": "f", "tags": {"a": 1}}, "tags"),
        ({"name": "f", "tags": {str(i): "" for i in range(51)}}, "tags"),
        ({"name": "f", "tags": {"a": "x" * 201}}, "tags"),
        ({"name": "f", "tasks": {"name": "t"}}, "tasks"),
        ({"name": "f", "tasks": [{"name": "ok"}, {"name": 1}]}, r"tasks\[1\].name"),
        ({"name": "f", "tasks": [{"name": "t", "estimatedTime": -1}]}, "estimatedTime"),
        ({"name": "f", "tasks": [{"name": "t", "estimatedTime": True}]}, "estimatedTime"),
        ({"name": "f", "tasks": [{"name": "t", "crucialPass": "yes"}]}, "crucialPass"),
        ({"name": "f", "tasks": [{"name": "t", "weight": "5"}]}, "weight"),
        ({"name": "f", "schedule": "every now and then"}, "schedule"),
        ({"name": "f", "schedule": "61 * * * *"}, "schedule"),
        ({"name": "f", "autoTrigger": "yes"}, "autoTrigger"),
        ({"name": "f", "parameters": [1]}, "parameters"),
        ({"name": "f", "edges": 1}, "edges"),
        ({"name": "f", "tasks": [{"name": "t"}], "edges": [0, 0]}, r"edges\[0\]"),
        ({"name": "f", "tasks": [{"name": "t"}], "edges": [[0, 0], [0]]}, r"edges\[1\]"),
        ({"name": "f", "tasks": [{"name": "t"}], "edges": [[0, 1]]}, r"edges\[0\]"),
        ({"name": "f", "tasks": [{"name": "t"}], "edges": [[-1, 0]]}, r"edges\[0\]"),
        ({"name": "f", "tasks": [{"name": "t"}], "edges": [[0.0, 0]]}, r"edges\[0\]"),
        ({"name": "f", "tasks": [{"name": "t"}], "edges": [[False, 0]]}, r"edges\[0\]"),
        ({"name": "f", "tasks": [{"name": "t"}], "edges": [[0, 0]] * 1_000_001}, "more than"),
    ],
)
def test_a_wrong_registration_is_refused_naming_the_field(body: object, field: str) -> None:
    with pytest.raises(Invalid, match=field):
        FlowDefinition.parse(body, Limits())


def test_a_registration_may_leave_out_all_but_the_name() -> None:
    flow = FlowDefinition.parse({"name": "f", "tasks": None, "schedule": None}, Limits())
    assert (flow.tasks, flow.tags, flow.schedule, flow.auto_trigger) == ((), {}, None, None)
    assert FlowDefinition.parse({"name": "f", "schedule": "every 90 s"}, Limits()).schedule


# --- who is connected ----------------------------------------------------------------------------


def test_between_two_polls_a_client_is_connected() -> None:
    clock = Clock()
    liveness = Liveness(clock, silence=10)
    clients = Clients(clock, liveness, 10)
    liveness.seen("s", monitored=True)
    with clients.polling(Speaker("s", "team", native=True), 1):
        clock.seconds += 30
        assert clients.connected() == {"s"}
    assert clients.connected() == {"s"}
    clock.seconds += 9
    assert clients.connected() == {"s"}
    clock.seconds += 2
    assert clients.connected() == set()
