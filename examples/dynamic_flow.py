"""A flow whose tasks are only known while it runs: loops and conditions are plain Python.

Run it: ``python examples/dynamic_flow.py``. Every call of a task is a task run of its own; a task
that is not called is not in the run.
"""

from __future__ import annotations

import json
from collections import Counter

from perfect.sdk import flow, task

# What three systems would answer; two of them have sent a record twice.
SOURCES = {
    "sales": '[{"id": 1, "amount": 40}, {"id": 2, "amount": 25}, {"id": 2, "amount": 25}]',
    "inventory": '[{"id": 7, "amount": 300}]',
    "customers": '[{"id": 4, "amount": 1}, {"id": 4, "amount": 1}]',
}

Record = dict[str, int]


@task(estimated_time=20)
def extract_data(source: str) -> list[Record]:
    """Read the records of one source"""
    records: list[Record] = json.loads(SOURCES[source])
    print(f"{source}: read {len(records)}")
    return records


@task(estimated_time=20)
def cleanup_data(records: list[Record]) -> list[Record]:
    """Keep one record of each id"""
    unique = {record["id"]: record for record in records}
    print(f"kept {len(unique)} of {len(records)}")
    return list(unique.values())


@task(estimated_time=20)
def load_to_warehouse(warehouse: dict[str, int], source: str, records: list[Record]) -> None:
    """Add a source's records up"""
    warehouse[source] = sum(record["amount"] for record in records)
    print(f"{source}: loaded, {warehouse[source]} in all")


@flow(name="Dynamic ETL", tags={"example": "dynamic"})
def dynamic_etl(sources: list[str] | None = None) -> dict[str, int]:
    """Load the sources, cleaning up those that need it"""
    warehouse: dict[str, int] = {}
    for source in sources or list(SOURCES):
        records = extract_data(source)  # three sources, three task runs
        most = max(Counter(record["id"] for record in records).values())
        if most > 1:  # where nothing is to be cleaned up, there is no such task run
            records = cleanup_data(records)
        load_to_warehouse(warehouse, source, records)
    return warehouse


if __name__ == "__main__":
    print(dynamic_etl())
