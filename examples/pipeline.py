"""A pipeline wired with ``>>``; after a failure it goes on where it stopped.

Run it: ``python examples/pipeline.py``. A result goes to the parameter that has the name of its task;
what no name claims fills the remaining parameters in order.
"""

from __future__ import annotations

from perfect.flowkit import DAG, StateManager, TaskExecutionError, task

CSV = "3,mug,8\n1,lamp,45\n2,desk,480\n"
locked = True


@task
def extract() -> list[str]:
    """Read the orders"""
    print("reading the orders")
    return CSV.splitlines()


@task
def total(extract: list[str]) -> int:
    """Add the orders up"""
    rows = [line.split(",") for line in extract]
    return sum(int(count) * int(price) for count, _, price in rows)


@task(when=lambda total: total > 1000)
def approve(total: int) -> str:
    """Have a large total approved; a small one skips this task"""
    return "approved"


@task(when=lambda total: total <= 1000)
def wave_through(total: int) -> str:
    """Let a small total pass"""
    return "no questions asked"


@task
def load(total: int, approve: str | None, wave_through: str | None) -> str:
    """Put the total into the warehouse, with the word of whoever was asked"""
    if locked:
        raise PermissionError("the warehouse is locked")
    return f"{total} is in: {approve or wave_through}"


extract >> total >> [approve, wave_through] >> load

if __name__ == "__main__":
    state = StateManager()  # StateManager("pipeline.json") lets another process go on
    try:
        DAG("Order Total").run(resume=state)
    except TaskExecutionError as error:
        print(f"stopped: {error}")
    locked = False
    print(DAG("Order Total").run(resume=state))  # the orders are not read again
