"""What becomes of slots: the engine's jobs on a real database, with a clock of our own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, func, select

from perfect.schedules import CronSchedule
from perfect.server.engine import firing, registry, schedules, slots
from perfect.server.engine.context import Context
from perfect.server.engine.definitions import FlowDefinition
from perfect.server.engine.liveness import Liveness
from perfect.server.engine.refusals import Invalid, Unknown
from perfect.server.engine.speaker import Speaker
from perfect.server.settings import Limits
from perfect.server.store import Transaction, audit, lists, open_database, runs
from perfect.server.store import schedules as store
from perfect.server.store.records import Actor, RunRecord, ScheduleRecord
from perfect.server.store.tables import flow as flow_table
from perfect.server.store.tables import run as run_table
from perfect.server.store.tables import schedule_slot

GRACE = 60_000
MINUTE = 60_000
HOUR = 60 * MINUTE
START = round(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)  # a Thursday
BY = Actor("token", "127.0.0.1", None)


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> int:
        return self.time

    def monotonic(self) -> float:
        return self.time / 1000


class Engine:
    """What a backend does with schedules, without its threads."""

    def __init__(self, database: Any, clock: Clock) -> None:
        self.clock = clock
        self.woken = 0
        self.context = Context(
            clock=clock,
            limits=Limits(),
            liveness=Liveness(clock, 10),
            call=lambda flow_id: None,
            learn=lambda session, flow_id, waiting: None,
            interrupt=lambda session, run_id: None,
            present=(),
            reschedule=self._wake,
        )
        self.connection: Connection = database.connect_writer()

    def _wake(self) -> None:
        self.woken += 1

    def do(self, job: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a job as the writer does."""
        try:
            with self.connection.begin():
                tx = Transaction(self.connection)
                result = job(tx, self.context, *args, **kwargs)
        except BaseException:
            self.context.book.forget()
            raise
        tx.committed()
        return result

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.connection.begin():
            yield self.connection

    def register(self, schedule: Any, name: str = "nightly", **more: Any) -> str:
        definition = FlowDefinition.parse({"name": name, "schedule": schedule, **more}, Limits())
        speaker = Speaker("session", "client", native=True)
        return str(self.do(registry.register, speaker, definition).id)

    def fire(self) -> None:
        """Everything that is due."""
        while due := self._look(store.due, self.clock.now(), 100):
            for schedule_id in due:
                self.do(firing.fire, schedule_id, GRACE)

    def pass_time(self, until: int) -> None:
        """Fire each slot when it comes, as a backend does that is up all the time."""
        while (soonest := self._look(store.soonest)) is not None and soonest <= until:
            self.clock.time = max(self.clock.time, soonest)
            self.fire()
        self.clock.time = until

    def record(self) -> ScheduleRecord:
        ((record, _, _),) = self._look(store.listed)
        return record  # type: ignore[no-any-return]

    def slots(self) -> list[tuple[int, bool, str | None]]:
        """(ms since START, whether it was run, reason), oldest first."""
        rows = self._look(store.slots, self.record().id, 5_000)
        return [(row.slot - START, row.run_id is not None, row.reason) for row in rows[::-1]]

    def runs(self) -> int:
        count = self._look(
            lambda c: c.execute(
                select(func.count()).where(run_table.c.trigger == "schedule")
            ).scalar()
        )
        return int(count)

    def all_runs(self) -> list[RunRecord]:
        """The runs, newest first."""
        return self._look(lists.page, lists.Filter(), None, 1_000)  # type: ignore[no-any-return]

    def end_runs(self) -> None:
        """All that is active has completed."""
        with self.connection.begin():
            self.connection.execute(run_table.update().values(state="COMPLETED", settled=1))
        self.context.book.forget()

    def pause(self, paused: bool) -> Any:
        return self.do(schedules.set_paused, BY, self.record().id, paused)

    def _look(self, query: Callable[..., Any], *args: Any) -> Any:
        with self.reading() as connection:
            return query(connection, *args)


@pytest.fixture
def database(where: str) -> Iterator[Any]:
    opened = open_database(where)
    yield opened
    opened.close()


@pytest.fixture
def engine(database: Any) -> Iterator[Engine]:
    made = Engine(database, Clock())
    yield made
    made.connection.close()


def test_five_years_of_mondays(engine: Engine) -> None:
    engine.register({"cron": "0 9 * * MON", "timezone": "Europe/Berlin"})
    end = round(datetime(2031, 1, 1, tzinfo=UTC).timestamp() * 1000)
    engine.pass_time(end)
    found = engine.slots()
    assert len(found) == engine.runs() == 261
    berlin = ZoneInfo("Europe/Berlin")
    for slot, was_run, reason in found:
        there = datetime.fromtimestamp((START + slot) / 1000, berlin)
        assert (there.weekday(), there.hour, there.minute) == (0, 9, 0)
        assert was_run and reason is None


def test_a_fired_slot_is_a_queued_run_that_waits_for_a_client(engine: Engine) -> None:
    flow_id = engine.register("0 * * * *")
    engine.pass_time(START + HOUR)
    with engine.reading() as connection:
        (run,) = lists.page(connection, lists.Filter(), None, 10)
    assert (run.flow_id, run.trigger, run.state) == (flow_id, "schedule", "PENDING")
    assert (
        run.created == START + HOUR and run.session is None and run.configuration == "development"
    )


def test_nothing_is_run_before_its_time_or_at_the_time_of_registration(engine: Engine) -> None:
    engine.register("0 * * * *")
    engine.fire()
    engine.clock.time = START + HOUR - 1
    engine.do(firing.fire, engine.record().id, GRACE)
    assert engine.slots() == [] and engine.runs() == 0
    engine.clock.time += 1
    engine.fire()
    engine.fire()
    assert engine.slots() == [(HOUR, True, None)] and engine.runs() == 1


@pytest.mark.parametrize("late", [0, GRACE])
def test_a_slot_that_is_a_little_late_is_run(engine: Engine, late: int) -> None:
    engine.register("0 * * * *")
    engine.clock.time = START + HOUR + late
    engine.fire()
    assert engine.slots() == [(HOUR, True, None)]


def test_catchup_skip_leaves_out_what_was_missed(engine: Engine) -> None:
    engine.register("0 * * * *")
    engine.clock.time = START + 3 * HOUR + GRACE + 1
    engine.fire()
    found = engine.slots()
    assert [(slot, was_run) for slot, was_run, _ in found] == [(n * HOUR, False) for n in (1, 2, 3)]
    assert found[0][2] == "missed; noticed 7260 s late (catchup=skip)"
    engine.pass_time(START + 4 * HOUR)
    assert engine.slots()[-1] == (4 * HOUR, True, None) and engine.runs() == 1


def test_catchup_skip_runs_the_one_that_has_just_come(engine: Engine) -> None:
    engine.register("0 * * * *")
    engine.clock.time = START + 3 * HOUR + 1000
    engine.fire()
    assert [was_run for _, was_run, _ in engine.slots()] == [False, False, True]


def test_catchup_latest_runs_the_last_one(engine: Engine) -> None:
    engine.register({"cron": "0 * * * *", "catchup": "latest"})
    engine.clock.time = START + 4 * HOUR - 1
    engine.fire()
    later = schedules.LATER
    assert engine.slots() == [
        (HOUR, False, later),
        (2 * HOUR, False, later),
        (3 * HOUR, True, None),
    ]


def test_catchup_all_runs_each(engine: Engine) -> None:
    engine.register({"cron": "0 * * * *", "catchup": "all"})
    engine.clock.time = START + 120 * HOUR
    engine.fire()
    assert engine.slots() == [(n * HOUR, True, None) for n in range(1, 121)]
    assert engine.runs() == 120


def test_catchup_all_is_done_in_pieces(engine: Engine) -> None:
    engine.register({"cron": "0 * * * *", "catchup": "all"})
    engine.clock.time = START + 120 * HOUR
    engine.do(firing.fire, engine.record().id, GRACE)
    assert engine.runs() == firing.BATCH
    # killed here: what is left is still due
    assert engine.record().next == START + (firing.BATCH + 1) * HOUR
    engine.fire()
    assert engine.runs() == 120


def test_catchup_all_has_a_bound(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firing, "MOST_CAUGHT_UP", 70)
    engine.register({"every_seconds": 60, "catchup": "all"})
    engine.clock.time = START + 10_000 * MINUTE
    engine.fire()
    first, *others = engine.slots()
    assert first == (9_930 * MINUTE, False, schedules.OLDER)
    assert others == [(n * MINUTE, True, None) for n in range(9_931, 10_001)]


def test_of_a_year_away_only_the_last_slots_are_recorded(engine: Engine) -> None:
    engine.register({"cron": "* * * * *", "catchup": "latest"})
    engine.clock.time = START + 365 * 24 * HOUR
    engine.fire()
    found = engine.slots()
    assert len(found) == schedules.MOST_LEFT_OUT and engine.runs() == 1
    assert found[0][2] == schedules.LATER + schedules.EARLIER
    assert {reason for _, _, reason in found[1:-1]} == {schedules.LATER}
    assert found[-1] == (365 * 24 * HOUR, True, None)


def test_overlap_skip_leaves_out_while_a_run_is_active(engine: Engine) -> None:
    engine.register({"cron": "0 * * * *", "overlap": "skip"})
    engine.pass_time(START + 3 * HOUR)
    active = schedules.ACTIVE
    assert engine.slots() == [
        (HOUR, True, None),
        (2 * HOUR, False, active),
        (3 * HOUR, False, active),
    ]
    engine.end_runs()
    engine.pass_time(START + 4 * HOUR)
    assert engine.slots()[-1] == (4 * HOUR, True, None)


def test_overlap_looks_at_runs_of_the_schedule_only(engine: Engine) -> None:
    flow_id = engine.register({"cron": "0 * * * *", "overlap": "skip"})
    other = engine.register({"cron": "30 * * * *", "overlap": "skip"}, "other")
    engine.do(registry.trigger, flow_id, "development")
    engine.pass_time(START + HOUR)
    assert flow_id != other and engine.runs() == 2


def test_overlap_allow_runs_all_the_same(engine: Engine) -> None:
    engine.register("0 * * * *")
    engine.pass_time(START + 3 * HOUR)
    assert engine.runs() == 3


def test_overlap_and_catchup_together_run_one(engine: Engine) -> None:
    engine.register({"cron": "0 * * * *", "overlap": "skip", "catchup": "all"})
    engine.clock.time = START + 3 * HOUR
    engine.fire()
    assert [was_run for _, was_run, _ in engine.slots()] == [True, False, False]


def test_paused_slots_are_recorded_and_never_run(engine: Engine) -> None:
    engine.register({"cron": "0 * * * *", "catchup": "all"})
    engine.pass_time(START + HOUR)
    woken = engine.woken
    assert engine.pause(True)["paused"] is True and engine.pause(True)["next"] == []
    engine.pass_time(START + 2 * HOUR)
    engine.clock.time = START + 4 * HOUR  # and then the backend was away
    shown = engine.pause(False)
    assert shown["paused"] is False and shown["next"][0] == "2026-01-01T05:00:00.000Z"
    assert engine.woken == woken + 2
    paused = schedules.PAUSED
    assert engine.slots() == [
        (HOUR, True, None),
        *((n * HOUR, False, paused) for n in (2, 3, 4)),
    ]
    engine.pass_time(START + 5 * HOUR)
    assert engine.slots()[-1] == (5 * HOUR, True, None) and engine.runs() == 2


def test_a_pause_is_noted_with_who_asked(engine: Engine) -> None:
    engine.register("0 * * * *")
    engine.pause(True)
    engine.pause(False)
    with engine.reading() as connection:
        entries = audit.page(connection, None, 10)
    assert [entry.action for entry in entries[:2]] == ["resumed", "paused"]
    assert {entry.peer for entry in entries[:2]} == {"127.0.0.1"}
    with pytest.raises(Unknown, match="no schedule 'nix'"):
        engine.do(schedules.set_paused, BY, "nix", True)


def test_an_edit_keeps_the_history_and_runs_no_past_slot(engine: Engine) -> None:
    engine.register("0 * * * *")
    engine.pass_time(START + 2 * HOUR)
    before = engine.record()
    engine.pause(True)
    engine.clock.time = START + 2 * HOUR + 30 * MINUTE
    engine.register({"cron": "15 * * * *", "catchup": "all"})
    after = engine.record()
    assert after.id == before.id and after.created == before.created and after.paused
    assert after.next == START + 3 * HOUR + 15 * MINUTE
    engine.pause(False)
    engine.fire()
    assert engine.slots() == [(HOUR, True, None), (2 * HOUR, True, None)]
    engine.pass_time(START + 4 * HOUR)
    assert engine.slots()[-1] == (3 * HOUR + 15 * MINUTE, True, None)


def test_a_slot_that_an_edit_overtakes_is_recorded(engine: Engine) -> None:
    engine.register("0 * * * *")
    engine.clock.time = START + HOUR + 5
    engine.register("30 * * * *")
    engine.fire()
    assert engine.slots() == [(HOUR, False, schedules.CHANGED)]


def test_an_edit_of_what_is_caught_up_with_moves_nothing(engine: Engine) -> None:
    engine.register("0 * * * *")
    engine.clock.time = START + 3 * HOUR
    engine.register({"cron": "0 * * * *", "catchup": "all"})
    engine.fire()
    assert engine.runs() == 3


def test_registering_the_same_again_changes_nothing(engine: Engine) -> None:
    flow_id = engine.register("0 * * * *")
    engine.pause(True)
    before = engine.record()
    engine.clock.time += HOUR + 1
    assert engine.register("0  * * * *") == flow_id
    assert engine.record() == before


def test_a_schedule_that_is_taken_back_is_gone_and_its_runs_stay(engine: Engine) -> None:
    engine.register("0 * * * *")
    engine.pass_time(START + HOUR)
    engine.register(None)
    with engine.reading() as connection:
        assert store.listed(connection) == []
        assert connection.execute(select(schedule_slot)).all() == []
    engine.clock.time += 2 * HOUR
    engine.fire()
    assert engine.runs() == 1
    engine.register("0 * * * *")
    engine.fire()
    assert engine.slots() == []


def test_a_run_that_is_told_of_late_does_not_bring_back_an_old_schedule(engine: Engine) -> None:
    engine.register("0 * * * *")
    speaker = Speaker("session", "client", native=True)
    for schedule in ("5 * * * *", None):
        said = FlowDefinition.parse({"name": "nightly", "schedule": schedule}, Limits())
        record = engine.do(registry.register, speaker, said, by_run=True)
        assert record.schedule == '"0 * * * *"'
        assert engine.record().expression == "0 * * * *"
    new = FlowDefinition.parse({"name": "new", "schedule": "5 * * * *"}, Limits())
    engine.do(registry.register, speaker, new, by_run=True)
    with engine.reading() as connection:
        assert [name for _, name, _ in store.listed(connection)] == ["new", "nightly"]


def test_a_removed_flow_takes_its_schedule_along_and_a_removed_run_leaves_its_slot(
    engine: Engine,
) -> None:
    engine.register("0 * * * *")
    engine.pass_time(START + HOUR)
    with engine.connection.begin():
        (run,) = lists.page(engine.connection, lists.Filter(), None, 10)
        runs.delete(engine.connection, run.key)
    assert engine.slots() == [(HOUR, False, None)]
    engine.fire()
    assert engine.runs() == 0
    with engine.connection.begin():
        engine.connection.execute(flow_table.delete())
        assert store.listed(engine.connection) == []
        assert engine.connection.execute(select(schedule_slot)).all() == []


def test_two_engines_on_one_database_run_a_slot_once(database: Any, engine: Engine) -> None:
    other = Engine(database, engine.clock)
    try:
        engine.register("0 * * * *")
        stale = engine.record()
        engine.pass_time(START + 2 * HOUR)
        # the other one has read the schedule before these slots were dealt with: the key alone stops it
        for slot in (HOUR, 2 * HOUR):
            other.do(firing.settle, stale, START + slot, None)
        assert engine.runs() == 2
        # and likewise where the cursor says that nothing has happened
        with other.connection.begin():
            store.save(other.connection, stale)
        other.fire()
        assert engine.runs() == 2
        other.pass_time(START + 3 * HOUR)
        engine.fire()
        assert engine.slots() == [(n * HOUR, True, None) for n in (1, 2, 3)]
    finally:
        other.connection.close()


@pytest.mark.parametrize("locked", [True, False], ids=["locked", "by the key alone"])
def test_two_engines_at_once_run_each_slot_once(
    database: Any, engine: Engine, locked: bool
) -> None:
    other = Engine(database, engine.clock)
    engine.register({"cron": "0 * * * *", "catchup": "all"})
    engine.clock.time = START + 100 * HOUR
    stale = engine.record()
    begin = threading.Barrier(2)

    def work(each: Engine) -> None:
        begin.wait(20)
        if locked:
            each.fire()
        else:
            for hour in range(1, 101):
                each.do(firing.settle, stale, START + hour * HOUR, None)

    try:
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(work, each) for each in (engine, other)]:
                done.result(50)
    finally:
        other.connection.close()
    assert engine.runs() == 100
    assert engine.slots() == [(n * HOUR, True, None) for n in range(1, 101)]


def test_a_job_that_breaks_off_leaves_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.register("0 * * * *")
    engine.clock.time = START + HOUR
    with monkeypatch.context() as patch:

        def break_off(*args: Any) -> None:
            raise OSError("no space left")

        patch.setattr(store, "save", break_off)
        with pytest.raises(OSError, match="no space"):
            engine.fire()
    assert engine.runs() == 0 and engine.slots() == []
    engine.fire()
    assert engine.runs() == 1


def test_a_flow_that_refuses_to_be_run_is_a_slot_left_out(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> str:
        raise Invalid("parameters.day: is missing")

    monkeypatch.setattr(registry, "trigger", refuse)
    engine.register("0 * * * *")
    engine.pass_time(START + HOUR)
    assert engine.slots() == [(HOUR, False, "it can't be run: parameters.day: is missing")]


def test_a_flow_that_needs_values_is_a_slot_left_out(engine: Engine) -> None:
    schema = {"type": "object", "properties": {"day": {}, "n": {}}, "required": ["day"]}
    engine.register("0 * * * *", parameters=schema)
    engine.pass_time(START + HOUR)
    assert engine.slots() == [
        (HOUR, False, f"{schedules.UNFIT}parameters.day: is required and not given")
    ]
    engine.register("0 * * * *", parameters={**schema, "required": []})
    engine.pass_time(START + 2 * HOUR)
    assert engine.runs() == 1


PARAMETERS = {
    "type": "object",
    "properties": {"region": {"type": "string"}},
    "additionalProperties": False,
}


def test_runs_have_the_configuration_and_parameters_of_their_schedule(engine: Engine) -> None:
    given = {"cron": "0 * * * *", "configuration": "release", "parameters": {"region": "eu"}}
    engine.register(given, parameters=PARAMETERS)
    engine.pass_time(START + HOUR)
    (run,) = engine.all_runs()
    assert (run.configuration, run.parameters) == ("release", '{"region":"eu"}')
    engine.register("0 * * * *", parameters=PARAMETERS)
    engine.pass_time(START + 2 * HOUR)
    assert (engine.all_runs()[0].configuration, engine.all_runs()[0].parameters) == (
        *("development", None),
    )


def test_an_edit_of_what_runs_are_given_doubles_and_loses_no_slot(engine: Engine) -> None:
    plain = {"cron": "0 * * * *"}
    engine.register(plain)
    engine.pass_time(START + HOUR)
    before = engine.record()
    engine.register({**plain, "parameters": {"region": "eu"}})
    engine.fire()
    assert engine.record().id == before.id and engine.record().next == before.next
    assert engine.runs() == 1
    # due, and not run yet
    engine.clock.time = START + 2 * HOUR
    engine.register({**plain, "parameters": {"region": "us"}, "configuration": "release"})
    engine.fire()
    assert [was_run for _, was_run, _ in engine.slots()] == [True, True]
    run = engine.all_runs()[0]
    assert (run.configuration, run.parameters) == ("release", '{"region":"us"}')


def test_a_flow_that_does_not_take_any_more_what_its_schedule_gives_says_so(
    engine: Engine,
) -> None:
    given = {"cron": "0 * * * *", "parameters": {"region": "eu"}}
    engine.register(given, parameters=PARAMETERS)
    # a later version of the flow, told of by a run
    renamed = {"type": "object", "properties": {"area": {}}, "additionalProperties": False}
    body = {"name": "nightly", "schedule": given, "parameters": renamed}
    definition = FlowDefinition.parse(body, Limits())
    engine.do(registry.register, Speaker("session", "client", native=True), definition, by_run=True)
    engine.pass_time(START + HOUR)
    ((slot, was_run, reason),) = engine.slots()
    assert (slot, was_run) == (HOUR, False)
    assert reason is not None and reason.startswith("it can't be run: parameters.region: ")
    with pytest.raises(Invalid, match=r"schedule\.parameters\.region: "):
        registry.check_schedule(definition, Limits())


def test_what_a_schedule_gives_is_looked_at_before_the_writer_is_asked(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.register({"cron": "0 * * * *", "parameters": {"region": "eu"}}, parameters=PARAMETERS)
    schedules.unfit.cache_clear()
    engine.clock.time += HOUR
    loop = _Loop(engine)
    assert loop.loop._look()[0] == [engine.record().id]
    before = schedules.unfit.cache_info()
    engine.fire()
    after = schedules.unfit.cache_info()
    assert after.misses == before.misses and after.hits > before.hits and engine.runs() == 1


def test_a_pause_in_the_midst_of_catching_up_leaves_out_the_rest(engine: Engine) -> None:
    engine.register({"cron": "0 * * * *", "catchup": "all"})
    engine.clock.time = START + 120 * HOUR
    engine.do(firing.fire, engine.record().id, GRACE)
    engine.pause(True)
    engine.fire()
    found = engine.slots()
    assert [was_run for _, was_run, _ in found] == [True] * firing.BATCH + [False] * 70
    assert {reason for _, was_run, reason in found if not was_run} == {schedules.PAUSED}
    engine.pause(False)
    engine.fire()
    assert engine.runs() == firing.BATCH
    engine.pass_time(START + 121 * HOUR)
    assert engine.slots()[-1] == (121 * HOUR, True, None)


@pytest.mark.parametrize(
    ("catchup", "ran"),
    [("skip", [False, False, False]), ("latest", [False, False, True]), ("all", [True] * 3)],
)
def test_a_backend_that_was_away_for_three_slots(
    engine: Engine, catchup: str, ran: list[bool]
) -> None:
    engine.register({"cron": "0 * * * *", "catchup": catchup})
    engine.pass_time(START + HOUR)
    engine.clock.time = START + 4 * HOUR + 30 * MINUTE
    engine.fire()
    first, *missed = engine.slots()
    assert first == (HOUR, True, None)
    assert [(slot, was_run) for slot, was_run, _ in missed] == [
        (n * HOUR, was_run) for n, was_run in zip((2, 3, 4), ran, strict=True)
    ]
    assert all((reason is None) is was_run for _, was_run, reason in missed)
    engine.pass_time(START + 5 * HOUR)
    assert engine.slots()[-1] == (5 * HOUR, True, None)


def test_a_run_that_lasts_for_hours_and_the_slots_it_overlaps(engine: Engine) -> None:
    engine.register({"cron": "*/20 * * * *", "overlap": "skip"})
    engine.pass_time(START + 3 * HOUR)
    found = engine.slots()
    assert len(found) == 9 and engine.runs() == 1
    assert {reason for _, _, reason in found[1:]} == {schedules.ACTIVE}
    engine.end_runs()
    engine.pass_time(START + 3 * HOUR + 20 * MINUTE)
    assert engine.runs() == 2


def test_a_leap_day_is_waited_for(engine: Engine) -> None:
    engine.register("0 0 29 2 *")
    shown = engine.pause(False)["next"]
    assert [text[:10] for text in shown] == [
        f"{year}-02-29" for year in (2028, 2032, 2036, 2040, 2044)
    ]
    engine.pass_time(round(datetime(2032, 12, 31, tzinfo=UTC).timestamp() * 1000))
    assert engine.runs() == 2


def test_the_longest_interval(engine: Engine) -> None:
    engine.register({"every_seconds": 366 * 86400})
    due = engine.record().next
    assert due is not None and START < due <= START + 366 * 24 * HOUR
    engine.pass_time(due)
    assert engine.runs() == 1 and engine.record().next == due + 366 * 24 * HOUR


def test_schedules_due_at_once_all_get_their_turn(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2 * firing._AT_ONCE + 20):
        # the first ones have much to catch up with
        catchup = "all" if number < 10 else "skip"
        engine.register({"cron": "0 * * * *", "catchup": catchup}, f"flow {number:03}")
    engine.clock.time = START + 200 * HOUR
    loop = _Loop(engine)
    turns = 0
    while loop.step(monkeypatch) == 0:
        turns += 1
        if turns == 4:  # nobody has waited for the long ones to be done
            with engine.reading() as connection:
                fired = connection.execute(
                    select(func.count(schedule_slot.c.schedule.distinct()))
                ).scalar()
            assert fired == 2 * firing._AT_ONCE + 20
    assert engine.runs() == 10 * 200 + 2 * firing._AT_ONCE + 10


def test_who_has_much_to_catch_up_with_does_not_keep_others_from_being_on_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(firing._AT_ONCE + 10):
        engine.register({"cron": "0 * * * *", "catchup": "all"}, f"long {number}")
    engine.clock.time = START + 100 * HOUR + 59 * MINUTE
    punctual = engine.register("0 * * * *", "punctual")
    engine.clock.time += MINUTE
    assert _Loop(engine).step(monkeypatch) == 0
    with engine.reading() as connection:
        assert lists.page(connection, lists.Filter(flows=[punctual]), None, 10)


def test_a_clock_that_is_set_back_runs_nothing_twice(engine: Engine) -> None:
    engine.register("0 * * * *")
    engine.pass_time(START + 2 * HOUR)
    engine.clock.time = START + 30 * MINUTE
    engine.fire()
    engine.register("*/30 * * * *")  # an edit: counts from what the clock says now
    engine.pass_time(START + 2 * HOUR)
    assert [slot // (30 * MINUTE) for slot, was_run, _ in engine.slots() if was_run] == [2, 3, 4]
    assert engine.runs() == 3


def test_old_slots_are_forgotten(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firing, "KEPT_SLOTS", 5)
    engine.register("0 * * * *")
    engine.pass_time(START + 12 * HOUR)
    assert [slot // HOUR for slot, _, _ in engine.slots()] == [8, 9, 10, 11, 12]


def test_a_zone_that_is_gone_is_put_off_and_the_rest_is_shown(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.register("0 * * * *")
    record = engine.record()
    record.zone = "Gone/Zone"
    with engine.connection.begin():
        store.save(engine.connection, record)
    engine.clock.time = START + HOUR
    engine.do(firing.fire, record.id, GRACE)
    assert "Gone/Zone" in caplog.text and engine.runs() == 0
    assert engine.record().next == START + HOUR + MINUTE
    with engine.reading() as connection:
        (shown,) = schedules.listed(connection, engine.clock.now())
    assert shown["timezone"] == "Gone/Zone" and shown["next"] == []


# --- what is registered ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("registered", "kept"),
    [
        ("0 0 * * *", "0 0 * * *"),
        ("every 90 s", "every 90 s"),
        ({"cron": "0  0 * * *"}, "0 0 * * *"),
        ({"every_seconds": 90, "surplus": 1}, "every 90 s"),
        (
            {"cron": "0 0 * * *", "timezone": "Europe/Berlin"},
            {
                "cron": "0 0 * * *",
                "timezone": "Europe/Berlin",
                "catchup": "skip",
                "overlap": "allow",
            },
        ),
        (
            {"every_seconds": 90, "overlap": "skip", "catchup": "all", "timezone": "UTC"},
            {"every_seconds": 90, "timezone": "UTC", "catchup": "all", "overlap": "skip"},
        ),
    ],
)
def test_a_registered_schedule(registered: Any, kept: Any) -> None:
    parsed = schedules.parse(registered)
    assert isinstance(parsed, CronSchedule)
    assert parsed.to_wire() == kept
    assert schedules.parse(kept) == parsed


@pytest.mark.parametrize(
    ("registered", "said"),
    [
        (5, "schedule=5: expression: is not text"),
        ([], "schedule=[]: a flow has one schedule"),
        ("61 * * * *", "minute: 61 is outside 0-59"),
        ("every 0 s", "interval"),
        ("every 1.5 s", "has 3 fields"),
        ("every 9999999999 s", "has 3 fields"),
        ("every ٣ s", "has 3 fields"),
        ({}, "has not either of cron and every_seconds"),
        ({"cron": "* * * * *", "every_seconds": 5}, "has not either of"),
        ({"cron": None}, "is not text"),
        ({"every_seconds": True}, "interval"),
        ({"every_seconds": "5"}, "interval"),
        ({"every_seconds": 1e300}, "interval"),
        ({"cron": "* * * * *", "timezone": "../../etc/passwd"}, "schedule.timezone="),
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "is not an IANA time zone"),
        ({"cron": "* * * * *", "timezone": None}, "schedule.timezone=None"),
        ({"cron": "* * * * *", "timezone": "a\x00b"}, "schedule.timezone="),
        ({"cron": "* * * * *", "timezone": "\ud800"}, "schedule.timezone="),
        ({"cron": "* * * * *", "catchup": "some"}, "schedule.catchup='some'"),
        ({"cron": "* * * * *", "overlap": ["skip"]}, "schedule.overlap="),
    ],
)
def test_a_schedule_that_is_refused(registered: Any, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        schedules.parse(registered)
    assert said in refused.value.message


# --- the loop ----------------------------------------------------------------------------------------


class _Loop:
    """A loop on an engine; everything in this thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.failing = False
        self.loop = firing.Firing(
            *(engine.clock, engine.reading, self._write, GRACE / 1000, Limits())
        )

    async def _write(self, job: Callable[..., Any], *args: Any) -> None:
        if self.failing:
            raise OSError("no space left")
        self.engine.do(job, *args)

    def step(self, monkeypatch: pytest.MonkeyPatch) -> float:
        async def at_once(look: Callable[[], Any]) -> Any:
            return look()

        monkeypatch.setattr(asyncio, "to_thread", at_once)
        return asyncio.run(self.loop.step())


def test_the_loop_sleeps_until_the_next_slot(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = _Loop(engine)
    assert loop.step(monkeypatch) == firing._LONGEST_WAIT  # there is no schedule
    engine.register({"every_seconds": 60, "catchup": "all"})
    assert loop.step(monkeypatch) == firing._LONGEST_WAIT  # clocks may be set meanwhile
    engine.clock.time += MINUTE - 1500
    assert loop.step(monkeypatch) == 1.5
    engine.clock.time += 1500
    assert loop.step(monkeypatch) == 0 and engine.runs() == 1
    engine.clock.time += MINUTE
    loop.failing = True
    assert loop.step(monkeypatch) == firing._WAIT_AFTER_FAILURE and engine.runs() == 1
    assert "no space left" in caplog.text
    loop.failing = False
    assert loop.step(monkeypatch) == 0 and engine.runs() == 2


def test_slots_are_of_the_schedule_that_is_kept(engine: Engine) -> None:
    engine.register({"cron": "0 0 * * *", "timezone": "Australia/Lord_Howe"})
    kept = schedules.schedule_of(engine.record())
    assert slots.following(kept, START, 1) == [engine.record().next]
    assert engine.record().next == START + 13 * HOUR  # midnight at +11
