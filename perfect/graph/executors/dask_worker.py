"""What a Dask worker does of `perfect.graph.executors.dask`, and how attempts and outcomes are pickled."""

from __future__ import annotations

import json
import pickle
import signal
import threading
from functools import partial
from io import BytesIO
from typing import Any

from perfect.errors import NotSendable
from perfect.graph import away, remote
from perfect.graph.executors.base import Work
from perfect.graph.remote import Errand, Outcome, Said
from perfect.tasks import Task

# bytes: such an outcome also goes home as an event. That is there before it could be fetched, and so less is
# lost with the worker.
SMALL = 16_384
_cancelled: set[str] = set()  # topics of runs that are to end
# What only the side that runs the graph uses of a task; it may hold locks and files.
_AT_HOME = ("cache", "trigger", "state_handlers", "wires", "accepts")


def dask_setup(worker: Any) -> None:
    """In a process of a cluster of ours, as it comes up: Ctrl+C is for the one that made it."""
    if threading.current_thread() is threading.main_thread():
        # A handler, because to ignore it would be inherited by what tasks start.
        signal.signal(signal.SIGINT, lambda number, frame: None)


def carry_out(topic: str, number: int, heard: bool, name: str, sent: bytes) -> bytes:
    """Make an attempt on a worker; what it is to do and what came of it are pickled.

    Args:
        heard: whether home wants to know what the task says.
    """
    import distributed

    worker = distributed.get_worker()

    def tell(what: str, said: str | bytes) -> None:
        worker.log_event(topic, [number, what, said])

    def send(said: list[Said]) -> None:
        tell("said", json.dumps(said))  # as ASCII: a line may hold what UTF-8 can't

    here = f"worker {worker.address}"
    try:
        errand: Errand = pickle.loads(sent)
    except Exception as error:
        problem = f"task {name!r} was sent to {here}, but can't be read there: {_said(error)}"
        return _packed(away.not_carried_out(name, problem, here))
    begun = partial(tell, "begun", worker.address)
    cancelled = partial(_cancelled.__contains__, topic)
    outcome = away.carry_out(errand, send if heard else None, here, begun, _packed, cancelled)
    packed = _packed_outcome(name, outcome)
    if len(packed) <= SMALL:
        tell("returned", packed)
    return packed


def _packed_outcome(name: str, outcome: Outcome) -> bytes:
    try:
        return _packed(outcome)
    except Exception as error:
        kind = type(outcome.result).__name__
        problem = f"the result of task {name!r} (a {kind}) can't be sent home: {_said(error)}"
        failed = away.not_carried_out(name, problem, outcome.worker)
        return _packed(failed._replace(said=outcome.said))


def cancel(topic: str) -> None:
    """Let the tasks of a run that are at work here know that it is cancelled."""
    _cancelled.add(topic)


def forget(topic: str, dask_scheduler: Any) -> None:
    """On the scheduler: drop the events that it keeps of a run that is over."""
    dask_scheduler._broker._topics.pop(topic, None)


def packed_errand(work: Work) -> bytes:
    """An attempt as bytes.

    Raises:
        NotSendable: something of it can't be pickled; it says what.
    """
    task = work.task
    errand = Errand(
        *(task.name, None, None, task.func, work.args, work.kwargs, task.timeout),
        remote.about_run(work),
    )
    if task.func is None or getattr(task, "__module__", None) != "__main__":
        try:
            errand = remote.errand_of(work)
        except NotSendable:  # it goes by value
            pass
    try:
        return _packed(errand)
    except Exception as error:
        culprit = "it"
        for name, value in (*enumerate(work.args, 1), *work.kwargs.items()):
            try:
                _packed(value)
            except Exception as reason:
                kind = type(value).__name__
                culprit, error = f"its argument {name!r} (a {kind})", reason
                break
        raise NotSendable(
            task.name,
            f"task {task.name!r} can't be sent to a worker: {culprit} can't be pickled: {_said(error)}; hand "
            "over what it can be made from there (a path, an address), or run the task in threads",
        ) from None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _packed(value: Any) -> bytes:
    """Pickled; by value what another process would not find by its name."""
    try:
        packed = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        if b"__main__" not in packed:
            return packed
    except Exception:
        pass
    import cloudpickle  # type: ignore[import-untyped]  # comes with Dask

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, Task) and value.func is not None and not _is_found(value):
                facts = {name: fact for name, fact in vars(value).items() if name not in _AT_HOME}
                return object.__new__, (type(value),), facts
            return super().reducer_override(value)

    target = BytesIO()
    Pickler(target, pickle.HIGHEST_PROTOCOL).dump(value)
    return target.getvalue()


def _is_found(task: Task[..., Any]) -> bool:
    """Whether a task stands where another process would look for it."""
    if getattr(task, "__module__", None) == "__main__":
        return False
    try:
        pickle.dumps(task)
        return True
    except Exception:
        return False


def unpacked(task: str, outcome: bytes) -> Outcome:
    try:
        made: Outcome = pickle.loads(outcome)
        return made
    except Exception as error:
        problem = (
            f"the result of task {task!r} was sent home, but can't be read here: {_said(error)}"
        )
        return away.not_carried_out(task, problem, "home")
