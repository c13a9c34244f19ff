"""A flow as a graph: drawn up first, then run, side by side where tasks don't wait for each other.

Run it: ``python examples/graph_flow.py``. Inside ``with Flow(…)`` a task that is called is not run: the
call says what the task is given, and what it returns stands for the result.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from perfect.core import Flow, Parameter, ThreadExecutor, task, triggers, unmapped

HOTTEST = {"Lima": 33.7, "Oslo": 34.6, "Rome": 40.7, "Tunis": 49.0}  # °C


@task
def make_folder() -> str:
    """Make a folder for the downloads"""
    return tempfile.mkdtemp(prefix="graph-flow-")


@task(max_retries=2, retry_delay=0.1, retry_on=ConnectionError)
def download(city: str, folder: str) -> float:
    """Download a city's record; the first try breaks off, the next one finds what is there"""
    file = Path(folder, city)
    if not file.exists():
        file.write_text(str(HOTTEST[city]))
        raise ConnectionError(f"the download of {city} broke off")
    return float(file.read_text())


@task
def pick_hottest(cities: list[str], records: list[float]) -> str:
    """Pick the city with the highest record"""
    return max(zip(records, cities, strict=True))[1]


@task(trigger=triggers.all_finished)  # also when something before it has failed
def remove(folder: str) -> str:
    """Remove the downloads"""
    shutil.rmtree(folder)
    return folder


with Flow("Hottest City", executor=ThreadExecutor(4), tags={"example": "graph"}) as flow:
    cities = Parameter("cities", default=list(HOTTEST))
    folder = make_folder()
    records = download.map(cities, unmapped(folder))  # one task run for each city
    hottest = pick_hottest(cities, records)
    flow.chain(hottest, remove(folder))  # nothing is handed over, it only comes later
flow.set_reference_tasks([hottest])  # cleaning up does not make a failed flow a good one

if __name__ == "__main__":
    for choice in (list(HOTTEST), ["Rome", "Atlantis"]):
        state = flow.run(parameters={"cities": choice})
        print(state, state.result[hottest].result, sep="\n  ")
