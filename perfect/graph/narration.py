"""The lines that tell of a pipeline's tasks, once `perfect.flowkit.configure_logging` was called."""

from __future__ import annotations

from perfect.context import current
from perfect.graph.executors.base import Tracker
from perfect.logs import LogLevel, get_logger, is_configured
from perfect.records import TaskRun
from perfect.states import TaskState
from perfect.tasks import Task


class Narrated:
    """Tells a tracker what it is told, and the flowkit logger in words.

    Args:
        tracker: the one that is told beside.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.run = tracker.run
        self._tracker = tracker
        self._log = get_logger()

    @staticmethod
    def by(tracker: Tracker) -> Tracker:
        """The tracker itself as long as nobody has asked for the lines."""
        return Narrated(tracker) if is_configured() else tracker

    def reserve(self, count: int) -> None:
        self._tracker.reserve(count)

    def open(
        self,
        task: Task[..., object],
        index: int | None = None,
        upstream: tuple[int, ...] | None = None,
        map_index: int | None = None,
        begun: bool = True,
    ) -> TaskRun:
        entry = self._tracker.open(task, index, upstream, map_index, begun)
        if begun:
            self._say(entry, LogLevel.INFO, f'Starting task "{task.name}"...')
        return entry

    def close(self, entry: TaskRun, state: TaskState) -> None:
        name = entry.task.name
        if state is TaskState.COMPLETED:
            self._say(entry, LogLevel.SUCCESS, f'Task "{name}" completed successfully.')
        elif state is TaskState.FAILED:
            error = entry.error or {"type": "", "message": entry.reason or "did not pass"}
            said = f"{error['type']}: {error['message']}" if error["type"] else error["message"]
            self._say(entry, LogLevel.ERROR, f'Task "{name}" failed: {said}')
        else:
            self._say(entry, LogLevel.WARNING, f'Task "{name}" {state.lower()}: {entry.reason}')
        self._tracker.close(entry, state)

    def _say(self, entry: TaskRun, level: LogLevel, text: str) -> None:
        token = current.set(entry)  # so that the line stands in the task's log
        try:
            self._log.log(level, text)
        finally:
            current.reset(token)
