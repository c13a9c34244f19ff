"""Perfect Core: flows as graphs of tasks, built by calling tasks or edge by edge.

``with Flow("etl") as flow: load(transform(extract()))``, then ``flow.run()``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from perfect import attempts
from perfect.attempts import first_argument
from perfect.definitions import check_configuration, check_parameters, get_registry
from perfect.driving import drive
from perfect.failures import state_after
from perfect.graph import parameter, triggers
from perfect.graph.arguments import accepts
from perfect.graph.building import not_building
from perfect.graph.definition import (
    GraphDefinition,
    given_parameters,
    tracked,
)
from perfect.graph.blueprint import Blueprint
from perfect.graph.executors.base import Executor, checked_executor
from perfect.graph.executors.local import LocalExecutor
from perfect.graph.executors.thread import ThreadExecutor
from perfect.graph.graph import Edge
from perfect.graph.node import Node, each
from perfect.graph.results import Results
from perfect.graph.resuming import Resuming
from perfect.graph.runner import GraphRun
from perfect.mapping import unmapped
from perfect.outcomes import (
    Cached,
    Cancelled,
    Failed,
    Finished,
    Mapped,
    Pending,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    State,
    Success,
    TriggerFailed,
)
from perfect.plain import Unfit
from perfect.running import execute, register
from perfect.schedules import CronSchedule, IntervalSchedule
from perfect.states import TaskState
from perfect.tasks import Task, task

if TYPE_CHECKING:

    def Parameter(name: str, default: Any = ..., required: bool | None = None) -> Any:
        """Stands for a value of any type: as an argument, for whatever the task's parameter wants."""

    from perfect.executor import FlowExecutor
    from perfect.graph.executors.dask import DaskExecutor, LocalDaskExecutor
    from perfect.graph.executors.process import ProcessExecutor

else:
    Parameter = parameter.Parameter

log = logging.getLogger("perfect")

# Loaded when they are asked for: multiprocessing takes 10 ms, Dask is an extra.
_LATE = {
    "DaskExecutor": "perfect.graph.executors.dask",
    "LocalDaskExecutor": "perfect.graph.executors.dask",
    "ProcessExecutor": "perfect.graph.executors.process",
}

__all__ = [
    "Cached",
    "Cancelled",
    "CronSchedule",
    "DaskExecutor",
    "Edge",
    "Executor",
    "Failed",
    "Finished",
    "Flow",
    "FlowRunner",
    "IntervalSchedule",
    "LocalDaskExecutor",
    "LocalExecutor",
    "Mapped",
    "Node",
    "Parameter",
    "Pending",
    "ProcessExecutor",
    "Retrying",
    "Running",
    "Scheduled",
    "Skipped",
    "State",
    "Success",
    "Task",
    "TaskRunner",
    "ThreadExecutor",
    "TriggerFailed",
    "task",
    "triggers",
    "unmapped",
]


class Flow(Blueprint):
    """A graph of tasks.

    Args:
        name: what it goes by.
        schedule: when the backend should trigger it, once it is registered.
        executor: where its tasks run; default: one after the other in the calling thread.
        tasks: tasks to begin with.
        state_handlers: called as ``handler(flow, old, new)`` when its state changes.
        on_failure: called as ``on_failure(flow, state)`` when it has failed.
        resume: keeps the results of the tasks that succeed; a run that follows a failed or cancelled one with the
            same parameters, like a retry from the dashboard, takes them from there and goes on with the rest.
            After a success they are forgotten.
        description, tags: for the dashboard.

    Raises:
        ConfigurationError: an argument can't be used; it says which and why.
    """

    def run(
        self,
        parameters: Mapping[str, Any] | None = None,
        executor: Executor | None = None,
        *,
        return_tasks: Iterable[Any] | None = None,
        configuration: str = "development",
        **values: Any,
    ) -> State:
        """Run it to the end, in this thread; never raises what a task raises.

        Args:
            parameters: values of its parameters by name; they may also be given as keyword arguments.
            executor: where the tasks run; default: the flow's.
            return_tasks: the tasks whose states are wanted; the results of others are let go as soon as
                nothing needs them. Default: all.
            configuration: "development", "debug", "release" or free text.

        Returns:
            Success or Failed; ``state.result[task]`` is a task's state, ``state.result[task].result``
            what it returned.

        Raises:
            ConfigurationError: a parameter is unknown or missing, or an argument can't be used.
            CycleError: its tasks wait for each other.
        """
        self.validate()
        given = given_parameters(self.graph, {**check_parameters(parameters), **values})
        check_configuration(configuration)
        chosen = checked_executor(executor) or self.executor
        definition = self._definition(chosen, _wanted(self, return_tasks))
        state: State = execute(definition, configuration, (), given, serve=False)
        return state

    def register(self) -> bool:
        """Make it known to the backend, with its graph and parameters, so that it can be triggered there.

        This process serves the runs, in the background and in `perfect.listen`: of the flow as it is
        now; after a change, register it again.

        Returns:
            Whether the backend has answered; if not, it is told as soon as it does.
        """
        definition = self.definition
        get_registry().register_flow(definition)
        return register(definition)

    @property
    def definition(self) -> GraphDefinition:
        """The flow as it is registered: as it is now.

        Raises:
            CycleError, GraphError: it can't run.
            ConfigurationError: its schedule gives what it does not take, or lacks what it needs.
        """
        self.validate()
        # Whoever triggers it gets no results; only a state handler may look at them.
        definition = self.copy()._definition(self.executor, None if self.state_handlers else [])
        definition.check_schedule()
        return definition

    def _definition(self, executor: Executor | None, wanted: list[Node] | None) -> GraphDefinition:
        def run_graph(run: FlowExecutor, parameters: dict[str, Any]) -> State:
            kept = self._resuming(parameters)
            graph_run = tracked(
                run,
                self.graph,
                executor=executor,
                parameters=parameters,
                keep=wanted if kept is None else None,
                given=None if kept is None else kept.states(self.graph),
                settled=None if kept is None else kept.settled,
            )
            try:
                state = _run_to_state(self, graph_run, wanted)
            finally:
                if kept is not None:
                    kept.write()
            if kept is not None and state.is_successful():
                kept.forget()
            if not state.is_successful():
                run.failure = state.message
            return state

        return GraphDefinition(
            *(self.graph, run_graph, self.name, self.description, self.tags, self.schedule),
            resumes=self.resume is not None,
        )

    def _resuming(self, parameters: Mapping[str, Any]) -> Resuming | None:
        if self.resume is None:
            return None
        try:
            return Resuming(self.resume, self.name, parameters)
        except Unfit as unfit:
            log.warning("flow %r keeps no results: %s", self.name, unfit.reason)
            return None


class FlowRunner:
    """Runs a flow without telling anybody: the engine alone.

    Args:
        flow: what to run.
    """

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    def run(
        self,
        parameters: Mapping[str, Any] | None = None,
        executor: Executor | None = None,
        *,
        return_tasks: Iterable[Any] | None = None,
    ) -> State:
        """As `Flow.run`, but not tracked."""
        flow = self.flow
        flow.validate()
        wanted = _wanted(flow, return_tasks)
        graph_run = GraphRun(
            flow.graph,
            executor=checked_executor(executor) or flow.executor,
            parameters=given_parameters(flow.graph, check_parameters(parameters)),
            keep=wanted,
        )
        with not_building():
            return _run_to_state(flow, graph_run, wanted)


class TaskRunner:
    """Runs one task without a flow, with its retries and the rest of its options.

    Args:
        task: what to run.
    """

    def __init__(self, task: Task[..., Any]) -> None:
        self.task = task

    def run(self, /, *args: Any, **kwargs: Any) -> State:
        """Call it with these arguments, in this thread; the state that it ends in.

        Raises:
            GraphError: they don't fit what the task takes.
            KeyboardInterrupt and the like.
        """
        task = self.task
        accepts(task).check(task, len(args), kwargs)
        steps = attempts.course(task, args, kwargs, attempts.UNTOLD, first_argument(args, kwargs))
        with not_building():
            return drive(steps, task, task.body, args, kwargs)


def _run_to_state(flow: Flow, graph_run: GraphRun, wanted: list[Node] | None) -> State:
    """Run, and say what the flow has come to."""
    reference = flow.reference_tasks()
    state = attempts.changed(flow, Scheduled(), Running())
    if state.is_finished():  # a handler has decided
        return state
    try:
        states = graph_run.run()
    except BaseException as error:
        message = f"{type(error).__name__}: {error}"
        failed = state_after(error) is TaskState.FAILED
        attempts.changed(flow, state, (Failed if failed else Cancelled)(message, error))
        raise
    results = Results(flow.graph, graph_run.plan.nodes, states, wanted)
    decisive = [(node, states[node.index]) for node in reference]
    failed_ones = [(node, one) for node, one in decisive if one.blocks]
    if not failed_ones:
        return attempts.changed(flow, state, Success("all reference tasks succeeded", results))
    node, first = failed_ones[0]
    others = f" and {len(failed_ones) - 1} more" if len(failed_ones) > 1 else ""
    message = f"task {node.name!r} failed{others}: {first.message}"
    cause = graph_run.failure
    if first.is_trigger_failed() and cause is not None and cause is not node:
        why = states[cause.index].message
        message = f"task {node.name!r}{others} was not run; {cause.name!r} failed: {why}"
    return attempts.changed(flow, state, Failed(message, results))


def _wanted(flow: Flow, return_tasks: Iterable[Any] | None) -> list[Node] | None:
    if return_tasks is None:
        return None
    return [flow.graph.node_of(one) for one in each(return_tasks)]


def __getattr__(name: str) -> Any:
    """Load the executors that cost something when they are asked for (PEP 562)."""
    if name not in _LATE:
        raise AttributeError(f"module 'perfect.core' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATE[name]), name)
    return value
