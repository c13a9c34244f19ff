"""A pipeline's results kept from run to run, so that a failed one goes on where it stopped."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from time import monotonic
from typing import Any

from perfect.canonical import canonical
from perfect.errors import ConfigurationError, PerfectError
from perfect.graph.graph import Graph
from perfect.graph.node import Node
from perfect.graph.parameter import Parameter
from perfect.outcomes import Cached, Skipped, State
from perfect.store import StateManager

log = logging.getLogger("perfect")

WRITE_EVERY = 0.2  # s: a file is written whole, so not for every task of a thousand


class Resuming:
    """What one run takes from the store, and leaves there.

    Args:
        store: where the results are kept.
        name: the pipeline's; the keys are ``name/task``.
        parameters: what the run is given: results of another run with others are not its. The keys are
            ``name?<digest>/number task`` then, because a task may be there more than once.

    Raises:
        Unfit: nobody can tell whether a parameter is the same as another run's.
    """

    def __init__(
        self, store: StateManager, name: str, parameters: Mapping[str, Any] | None = None
    ) -> None:
        self._store = store
        self._name = name
        self._numbered = parameters is not None
        if parameters is not None:
            self._name += f"?{hashlib.sha256(canonical(dict(parameters))).hexdigest()[:32]}"
        self._names: list[str] = []
        self._values: dict[str, object] = {}
        self._skipped: list[str] = []
        self._written = monotonic()

    def states(self, graph: Graph) -> Mapping[Node, State]:
        """The nodes that need not run again.

        What comes after one that runs again does so too: it may be given something else.
        """
        self._names = [self._key(node) for node in graph.nodes]
        plan = graph.plan()
        kept: dict[int, State] = {}
        same: set[int] = set()  # the parameters
        for node in plan.order:
            key = self._key(node)
            if isinstance(node.task, Parameter):
                same.add(node.index)
                continue
            unchanged = all(
                before in kept or before in same for before in plan.upstream[node.index]
            )
            if unchanged and self._store.has(key):
                about = self._store.get_metadata(key) or {}
                if about.get("state") == "Skipped":
                    kept[node.index] = Skipped("not wanted in an earlier run")
                else:
                    value = self._store.get(key)
                    kept[node.index] = Cached("result of an earlier run, which failed later", value)
        return {graph.nodes[index]: state for index, state in kept.items()}

    def settled(self, node: Node, state: State) -> None:
        """A node has ended."""
        if isinstance(node.task, Parameter):
            return
        if state.is_skipped():
            self._skipped.append(self._key(node))
        elif state.is_successful():
            self._values[self._key(node)] = state.result
        else:
            return
        if monotonic() - self._written > WRITE_EVERY:
            self.write()

    def write(self) -> None:
        """Keep what has gathered; what can't be kept is run again, and said."""
        values, self._values = self._values, {}
        skipped, self._skipped = self._skipped, []
        self._written = monotonic()
        try:
            if values:
                self._store.update(values)
            if skipped:
                self._store.update(dict.fromkeys(skipped), metadata={"state": "Skipped"})
        except PerfectError:  # at least one of them: one by one
            for key, value in values.items():
                self._write_one(key, value)
            for key in skipped:
                self._store.set(key, None, metadata={"state": "Skipped"})

    def forget(self) -> None:
        """The pipeline has succeeded: the next run is a whole one."""
        for key in self._names:
            self._store.delete(key)

    def _write_one(self, key: str, value: object) -> None:
        try:
            self._store.set(key, value)
        except PerfectError as reason:
            log.warning("%s and what follows it will run again on resuming: %s", key, reason)

    def _key(self, node: Node) -> str:
        if self._numbered:
            return f"{self._name}/{node.index} {node.name}"
        return f"{self._name}/{node.name}"


def checked_store(resume: Any) -> StateManager | None:
    """What keeps the results, or None.

    Raises:
        ConfigurationError: it is something else.
    """
    if resume is not None and not isinstance(resume, StateManager):
        raise ConfigurationError("resume", resume, "is no StateManager")
    store: StateManager | None = resume
    return store
