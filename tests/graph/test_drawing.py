"""Pictures of graphs: text, Mermaid, DOT."""

from __future__ import annotations

from typing import Any

import pytest

from perfect.core import Flow, Parameter, task
from perfect.errors import ConfigurationError


@task
def extract(source: str) -> list[int]:
    return []


@task(name='odd "name"\\ [x] <b>;\n--> ä')
def odd(x: Any) -> Any:
    return x


@pytest.fixture
def flow() -> Flow:
    with Flow('a "flow"') as made:
        source = Parameter("source")
        first = extract(source)
        second = extract("b", upstream_tasks=[first])
        odd.map([first, second])
    return made


def test_text(flow: Flow) -> None:
    label = 'odd "name"\\ [x] <b>;\n--> ä'
    assert flow.visualize() == "\n".join(
        [
            'a "flow" (4 tasks)',
            "  source",
            f"  {'extract'.ljust(len(label))} ← source",
            f"  {'extract (2)'.ljust(len(label))} ← extract",
            f"  {label} [mapped] ← extract, extract (2)",
        ]
    )


def test_text_stands_in_the_order_of_running() -> None:
    flow = Flow("reversed")
    flow.bind(odd, (extract,))
    flow.bind(extract, ("x",))
    flow_of_one = Flow("single", tasks=[extract])
    flow_of_one.bind(extract, ("x",))

    assert [line.split()[0] for line in flow.visualize().splitlines()[1:3]] == ["extract", "odd"]
    assert flow_of_one.visualize().splitlines()[0] == "single (1 task)"
    assert Flow("empty").visualize() == "empty (0 tasks)"


def test_mermaid_is_broken_by_no_name(flow: Flow) -> None:
    lines = flow.visualize("mermaid").splitlines()

    assert lines[0] == "flowchart TD"
    assert lines[1:4] == ['    n0["source"]', '    n1["extract"]', '    n2["extract (2)"]']
    label = lines[4].strip().removeprefix('n3["').removesuffix('"]')
    assert not set(label) & set('"[]<>\\|{}')
    assert label.startswith("odd #34;name#34;#92;")
    assert lines[5:] == ["    n0 --> n1", "    n1 --> n2", "    n1 --> n3", "    n2 --> n3"]


def test_dot_is_broken_by_no_name(flow: Flow) -> None:
    lines = flow.visualize("dot").splitlines()

    assert lines[0] == 'digraph "a \\"flow\\"" {'
    assert lines[4] == '    n3 [label="odd \\"name\\"\\\\ [x] <b>;\\n--> ä"];'
    assert lines[5:] == ["    n0 -> n1;", "    n1 -> n2;", "    n1 -> n3;", "    n2 -> n3;", "}"]


def test_other_formats_are_refused(flow: Flow) -> None:
    with pytest.raises(ConfigurationError, match="text, mermaid, dot"):
        flow.visualize("svg")
