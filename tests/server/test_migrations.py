"""Databases that released versions have made, brought up to date."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from perfect.errors import ConfigurationError
from perfect.server.store import migrations, open_database
from perfect.server.store.tables import SCHEMA_VERSION, metadata
from tests.server.conftest import Running

SCHEMAS = Path(__file__).parent / "schemas"
RELEASED = sorted(int(path.stem.removeprefix("schema_")) for path in SCHEMAS.glob("schema_*.sql"))


def made_by(version: int, where: Path) -> Path:
    """A database as the perfect of that schema made and filled it (its ``iterdump``)."""
    connection = sqlite3.connect(where)
    connection.executescript((SCHEMAS / f"schema_{version}.sql").read_text())
    connection.close()
    return where


def described(where: Path) -> dict[str, Any]:
    """Tables with their columns, keys and indexes, however they came about."""
    engine = sa.create_engine(f"sqlite:///{where}", poolclass=sa.NullPool)
    inspector = sa.inspect(engine)
    found: dict[str, Any] = {}
    for table in inspector.get_table_names():
        if table in ("alembic_version", "sqlite_sequence"):
            continue
        found[table] = {
            "columns": sorted(
                (c["name"], str(c["type"]), c["nullable"], c["default"])
                for c in inspector.get_columns(table)
            ),
            "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
            "foreign keys": sorted(
                (f["constrained_columns"], f["referred_table"], sorted(f["options"].items()))
                for f in inspector.get_foreign_keys(table)
            ),
            "unique": sorted(u["column_names"] for u in inspector.get_unique_constraints(table)),
            "indexes": sorted(
                (i["name"], i["column_names"], str(i["dialect_options"].get("sqlite_where")))
                for i in inspector.get_indexes(table)
            ),
        }
    engine.dispose()
    return found


def test_every_released_schema_is_here() -> None:
    assert RELEASED == list(range(1, SCHEMA_VERSION)), "dump a database of the schema before"


@pytest.mark.parametrize("version", RELEASED)
def test_an_older_database_becomes_what_a_new_one_is(version: int, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    open_database(new).close()
    old = made_by(version, tmp_path / "old.db")
    for _ in range(2):  # the second time there is nothing left to do
        opened = open_database(old)
        with opened.read() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        opened.close()
        assert described(old) == described(new)
    assert set(described(new)) == set(metadata.tables)


@pytest.mark.parametrize("version", RELEASED)
def test_what_an_older_database_holds_is_served(
    version: int, tmp_path: Path, launch: Callable[..., Running]
) -> None:
    peer = launch(db=made_by(version, tmp_path / "old.db")).peer("team")
    listed = peer.get("/api/engine/runs").ok()
    assert [(run["flowName"], run["state"]) for run in listed] == [
        ("old", "PENDING"),
        ("etl", "COMPLETED"),
    ]
    run = peer.run("22222222-2222-4222-8222-222222222222")
    assert [task["taskName"] for task in run["tasks"]] == ["load"] and run["logs"] == ["hello"]
    assert run["tasks"][0]["result"]["note"] == "ok" and run["tags"] == {"env": "prod"}
    flow = next(flow for flow in peer.get("/api/engine/flows").ok() if flow["name"] == "old")
    assert (flow["edges"] is None) is (version == 1)
    flow = peer.register("old", "a", "b", schedule="*/5 * * * *", edges=[[0, 1]])
    assert peer.poll(slots=1)["flow_name"] == "old"


@pytest.mark.parametrize("version", RELEASED)
def test_a_step_that_fails_leaves_the_database_as_it_was(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = made_by(version, tmp_path / "old.db")
    before = _dump(old)
    folder = Path(migrations.__file__).parent
    broken = tmp_path / "migrations"
    shutil.copytree(folder, broken)
    last = broken / "versions" / f"schema_{SCHEMA_VERSION}.py"
    last.write_text(last.read_text() + "    raise RuntimeError('no further')\n")
    monkeypatch.setattr(migrations, "__file__", str(broken / "__init__.py"))
    with pytest.raises(RuntimeError, match="no further"):
        open_database(old)
    assert _dump(old) == before
    monkeypatch.undo()
    open_database(old).close()
    assert _dump(old) != before


def _dump(where: Path) -> list[str]:
    connection = sqlite3.connect(where)
    lines = list(connection.iterdump())
    connection.close()
    return lines


def test_a_newer_schema_is_refused_and_not_touched(where: str) -> None:
    opened = open_database(where)
    with opened.connect_writer() as connection, connection.begin():
        connection.exec_driver_sql("update meta set value = '999' where name = 'schema_version'")
    opened.close()
    with pytest.raises(ConfigurationError, match=r"newer perfect \(schema 999, this one knows"):
        open_database(where)


@pytest.mark.parametrize("said", [None, "", "two"])
def test_a_database_that_does_not_say_its_schema_is_refused(where: str, said: str | None) -> None:
    opened = open_database(where)
    with opened.connect_writer() as connection, connection.begin():
        value = "null" if said is None else f"'{said}'"
        connection.exec_driver_sql(f"update meta set value = {value} where name = 'schema_version'")
    opened.close()
    with pytest.raises(ConfigurationError, match="does not say which schema"):
        open_database(where)


def test_a_database_of_another_program_is_left_alone(where: str) -> None:
    opened = open_database(where)
    with opened.connect_writer() as connection, connection.begin():
        metadata.drop_all(connection)
        connection.exec_driver_sql("create table theirs (name text)")
    opened.close()
    with pytest.raises(ConfigurationError, match="not perfect's \\(theirs\\)"):
        open_database(where)


@pytest.mark.postgres
def test_the_tables_are_the_same_on_both(tmp_path: Path, postgres: Any) -> None:
    url = postgres.database()
    open_database(url).close()
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert found == []
