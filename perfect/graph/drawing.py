"""A graph as text, as Mermaid and as DOT (Graphviz)."""

from __future__ import annotations

from perfect.errors import ConfigurationError
from perfect.graph.graph import Graph
from perfect.graph.node import Node

FORMATS = ("text", "mermaid", "dot")


def drawn(graph: Graph, name: str, form: str = "text") -> str:
    """The graph in one of the `FORMATS`.

    Raises:
        ConfigurationError: `form` is none of them.
        CycleError: its tasks wait for each other.
    """
    if form not in FORMATS:
        raise ConfigurationError("format", form, f"is none of {', '.join(FORMATS)}")
    labels = graph.labels()
    if form == "mermaid":
        return _mermaid(graph, labels)
    if form == "dot":
        return _dot(graph, labels, name)
    return _text(graph, labels, name)


def _text(graph: Graph, labels: list[str], name: str) -> str:
    """One line a task, in the order they can run, each with those it waits for."""
    plan = graph.plan()
    count = len(graph.nodes)
    lines = [f"{name} ({count} task{'' if count == 1 else 's'})"]
    width = max((len(label) for label in labels), default=0)
    for node in plan.order:
        before = ", ".join(labels[index] for index in plan.upstream[node.index])
        label = labels[node.index] + (" [mapped]" if node.mapped else "")
        lines.append(f"  {label.ljust(width)} ← {before}" if before else f"  {label}")
    return "\n".join(lines)


def _mermaid(graph: Graph, labels: list[str]) -> str:
    lines = ["flowchart TD"]
    lines += [f'    n{node.index}["{_entities(labels[node.index])}"]' for node in graph.nodes]
    lines += [f"    n{early} --> n{late.index}" for late in graph.nodes for early in _before(late)]
    return "\n".join(lines)


def _dot(graph: Graph, labels: list[str], name: str) -> str:
    lines = [f"digraph {_quoted(name)} {{"]
    lines += [f"    n{node.index} [label={_quoted(labels[node.index])}];" for node in graph.nodes]
    lines += [f"    n{early} -> n{late.index};" for late in graph.nodes for early in _before(late)]
    return "\n".join([*lines, "}"])


def _before(node: Node) -> tuple[int, ...]:
    return node.graph.plan().upstream[node.index]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _entities(text: str) -> str:
    """Text within a Mermaid label: what would end it, or be taken for markup, by its number."""
    return "".join(
        char if char.isalnum() or char in " _-.()" else f"#{ord(char)};" for char in text
    )
