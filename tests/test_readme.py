"""The README's Python runs as it stands there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import perfect.running
from perfect.testing import Recorder
from tests.support.markdown import Block, python_blocks

README = Path(__file__).parents[1] / "README.md"
BLOCKS = list(python_blocks(README))

# What the blocks leave to their reader: data, and what an earlier block has defined.
BEFORE = """
import os
os.environ["DB_PASSWORD"] = "hunter2-and-more"
from perfect import flow, task

@task
def extract():
    return [3, 1, 2]

@task
def load(rows):
    return f"{len(rows)} rows"

@flow(name="Daily ETL")
def etl():
    return load(extract())
"""


@pytest.mark.parametrize("block", BLOCKS, ids=[f"line {block.line}" for block in BLOCKS])
def test_block(
    block: Block,
    perfect_mock: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)  # where the state of the pipeline goes
    # It would wait for Ctrl+C.
    monkeypatch.setattr(perfect.running, "listen", lambda concurrency: None)
    space: dict[str, Any] = {"__name__": "readme"}
    exec(BEFORE, space)
    space = {**space, "__name__": "readme"}
    exec(compile(block.source, str(README), "exec"), space)
    # What they define is used: flows are called, tests are run.
    for name in ("parallel_etl", "etl"):
        if f"def {name}(" in block.source:
            space[name]()
            assert perfect_mock.run.state == "COMPLETED", perfect_mock.run
    if "def check(" in block.source:
        assert space["check"]([1, 2]).note == "all good"
    if "def test_etl(" in block.source:
        space["test_etl"](perfect_mock)
    if "perfect.core" in block.source:
        assert space["state"].is_successful(), space["state"]
        mapped = [one.map_index for one in perfect_mock.run.tasks if one.name == "fetch"]
        assert mapped == [None, 0]
    if "perfect.flowkit" in block.source:
        assert space["results"] == {"extract": None, "transform": None}
