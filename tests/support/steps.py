"""Tasks as a user keeps them: in a module and in classes, for tests that look them up by name."""

from __future__ import annotations

from perfect.sdk import flow, task


@task
def extract() -> int:
    """Read the rows."""
    return 1


@task
def load(rows: int = 0) -> int:
    return rows


@task
def ok() -> None:
    """Beside one named `look`, whose name contains its own."""


@task
def look() -> None:
    pass


@task
def only_named() -> None:
    pass


class Steps:
    @task
    def clean(self, rows: int = 0) -> int:
        return rows + 1

    @staticmethod
    @task
    def check() -> str:
        return "checked"

    @classmethod
    @task
    def name_of(cls) -> str:
        return cls.__name__


class MoreSteps(Steps):
    pass


@flow
def another_flow() -> None:
    ok()
