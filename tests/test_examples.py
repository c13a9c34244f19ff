"""The examples do what they say: in memory with values checked, and as scripts against a backend."""

from __future__ import annotations

import ast
import asyncio
import csv
import email
import email.policy
import itertools
import json
import os
import re
import runpy
import shutil
import signal
import socketserver
import sqlite3
import subprocess
import sys
import tempfile
import threading
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import perfect
from examples import async_flow, dynamic_flow, graph_flow, parallel_flows
from examples.workflows import (
    churn_model,
    daily_sales_etl,
    example_flows,
    executive_report,
    infrastructure_health,
    simple_pdf,
    workspace,
)
from perfect import TaskFailed, get_registry
from perfect.flowkit import DAG, StateManager, Task, TaskExecutionError
from perfect.testing import Recorder, mock
from tests.support.backend import BackendProcess

EXAMPLES = Path(example_flows.__file__).parents[1]
PACKAGE = Path(perfect.__file__).parent

# Two ISO weeks that the end of the year lies in.
UNTIL, DAYS = "2026-01-11", 14
MONDAY = date(2026, 1, 5)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "work")


def etl(folder: str, days: int = DAYS) -> dict[str, Any]:
    return daily_sales_etl.daily_sales_etl(folder=folder, until=UNTIL, days=days)


def query(folder: str, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(Path(folder, "warehouse.db"))) as database:
        return database.execute(sql).fetchall()


def exported(folder: str) -> Iterator[tuple[str, dict[str, str]]]:
    for path in sorted(Path(folder, "exports").glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                yield path.stem.removeprefix("sales-"), row


def good_orders(folder: str) -> dict[str, tuple[str, str, Decimal]]:
    """Day, region and price of the good orders, told from the files by other means than the flow's."""
    good: dict[str, tuple[str, str, Decimal]] = {}
    for day, row in exported(folder):
        price = re.fullmatch(r"(?:EUR )?(\d+)[.,](\d\d)", row["unit_price"])
        if (
            price
            and re.fullmatch(r"[1-9]\d*", row["quantity"])
            and row["customer"]
            and row["ordered_at"][:10] == day
            and row["region"].strip().lower() in ("north", "south", "east", "west")
        ):
            amount = Decimal(f"{price[1]}.{price[2]}") * int(row["quantity"])
            good.setdefault(row["order_id"], (day, row["region"].strip().title(), amount))
    return good


# All four


def test_the_four_flows_are_the_documented_ones() -> None:
    assert {flow.name: str(flow.definition.schedule) for flow in example_flows.FLOWS} == {
        "Daily Sales ETL": "0 2 * * *",
        "Churn Model Retraining": "0 3 * * SUN",
        "Infrastructure Health Check": "*/5 * * * *",
        "Weekly Executive Report": "0 7 * * MON",
    }
    for flow in example_flows.FLOWS:
        definition = flow.definition
        assert definition.description and {"team", "domain", "version"} <= definition.tags.keys()
        assert len(definition.tasks) >= 5
        assert all(task.description for task in definition.tasks)
        assert get_registry().get_flow(flow.name) is definition
    # Registered in the order in which they are called: the dashboard shows them so beforehand.
    assert [task.name for task in example_flows.FLOWS[0].definition.tasks][:3] == [
        "fetch_exports",
        "read_exports",
        "clean_orders",
    ]


def test_the_examples_need_nothing_but_perfect_and_the_standard_library() -> None:
    files = [path for path in EXAMPLES.rglob("*.py") if path.name != "testing_a_flow.py"]
    neighbours = {path.stem for path in files} | {"workflows"}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )
            tops = {name.partition(".")[0] for name in names}
            assert tops <= sys.stdlib_module_names | neighbours | {"perfect"}, path


def test_the_workspace_is_in_perfects_home(tmp_path: Path, perfect_mock: Recorder) -> None:
    assert workspace.workspace() == tmp_path / "home" / "examples"
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert workspace.workspace(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"


def test_a_file_is_put_in_place_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    workspace.put(path, "first")
    with pytest.raises(UnicodeEncodeError):
        workspace.put(path, "half \ud800")
    assert (path.read_text(), [entry.name for entry in path.parent.iterdir()]) == (
        "first",
        ["file"],
    )


# Daily Sales ETL


def test_the_warehouse_holds_what_the_exports_say(folder: str, perfect_mock: Recorder) -> None:
    result = etl(folder)

    good = good_orders(folder)
    rows = list(exported(folder))
    assert len(good) > 10_000 and len(rows) > len(good)
    revenue = sum(amount for *_, amount in good.values())
    assert (result["rows"], result["loaded"]) == (len(rows), len(good))
    assert result["rejected"] == len(rows) - len(good) > 0
    assert result["revenue"] == float(revenue)
    regions: dict[str, Decimal] = {}
    for _, region, amount in good.values():
        regions[region] = regions.get(region, Decimal()) + amount
    cents = {region: int(amount * 100) for region, amount in regions.items()}
    assert dict(query(folder, "SELECT region, sum(cents) FROM orders GROUP BY 1")) == cents
    assert dict(query(folder, "SELECT region, sum(cents) FROM daily_totals GROUP BY 1")) == cents
    assert {id for (id,) in query(folder, "SELECT order_id FROM orders")} == good.keys()

    run = perfect_mock.run
    assert run.state == "COMPLETED"
    rejects = run.task("report_rejects").result
    assert rejects and sum(row["rows"] for row in rejects["table"]) == result["rejected"]
    quality = run.task("check_quality").result
    assert quality and [row["found"] for row in quality["table"]][:2] == [
        len(good),
        int(revenue * 100),
    ]
    with Path(folder, "rejected.csv").open(newline="", encoding="utf-8") as file:
        reasons = Counter(row["reason"] for row in csv.DictReader(file))
    assert reasons == {row["reason"]: row["rows"] for row in rejects["table"]}
    assert len(reasons) == 6


def test_loading_again_doubles_nothing_and_follows_corrections(
    folder: str, perfect_mock: Recorder
) -> None:
    first = etl(folder)
    before = query(folder, "SELECT * FROM orders")
    assert etl(folder) == first
    assert query(folder, "SELECT * FROM orders") == before

    # A correction of one day replaces that day, and leaves the others alone.
    path = Path(folder, "exports", f"sales-{UNTIL}.csv")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-300]))
    etl(folder, days=1)
    good = good_orders(folder)
    assert len(good) < len(before)
    assert Counter(day for (day,) in query(folder, "SELECT day FROM orders")) == Counter(
        day for day, *_ in good.values()
    )
    totals = query(folder, "SELECT sum(orders) FROM daily_totals")
    assert totals == [(len(good),)]


def test_the_exports_are_the_same_wherever_they_are_made(
    tmp_path: Path, perfect_mock: Recorder
) -> None:
    for name in ("one", "other"):
        etl(str(tmp_path / name), days=2)
    one, other = (list(exported(str(tmp_path / name))) for name in ("one", "other"))
    assert one == other and len({day for day, _ in one}) == 2


def test_a_broken_export_leaves_the_warehouse_as_it_was(
    folder: str, perfect_mock: Recorder
) -> None:
    etl(folder, days=2)
    before = query(folder, "SELECT * FROM orders")
    path = Path(folder, "exports", f"sales-{UNTIL}.csv")
    lines = path.read_text().splitlines(keepends=True)

    path.write_text("id,price\n1,2\n")
    with pytest.raises(ValueError, match=rf"{path.name}: its columns are \['id', 'price'\]"):
        etl(folder, days=2)
    path.write_text(lines[0] + "".join(line.replace("2026", "1999", 2) for line in lines[1:]))
    with pytest.raises(TaskFailed, match="rejected"):
        etl(folder, days=2)
    assert perfect_mock.run.state == "FAILED"
    assert query(folder, "SELECT * FROM orders") == before


def test_a_load_that_fails_halfway_is_undone(folder: str, perfect_mock: Recorder) -> None:
    etl(folder, days=2)
    before = query(folder, "SELECT * FROM orders")
    order = daily_sales_etl.Order("1", UNTIL, "C", "North", "Kettle", 1, 5990)
    twice = daily_sales_etl.Cleaned([UNTIL], [order, order], 0, [])
    with pytest.raises(sqlite3.IntegrityError):
        daily_sales_etl.load_warehouse(Path(folder), twice)
    assert query(folder, "SELECT * FROM orders") == before


def test_the_quality_check_sees_a_lost_order(folder: str, perfect_mock: Recorder) -> None:
    etl(folder, days=2)

    def load_and_lose(path: Path, cleaned: daily_sales_etl.Cleaned) -> int:
        daily_sales_etl.load_warehouse.run(path, cleaned)
        with closing(sqlite3.connect(path / "warehouse.db")) as database, database:
            database.execute(
                "DELETE FROM orders WHERE order_id = (SELECT max(order_id) FROM orders)"
            )
        return 0

    perfect_mock.stub("load_warehouse", load_and_lose)
    with pytest.raises(TaskFailed, match=r"wrong: orders, revenue \(cents\)"):
        etl(folder, days=2)


@pytest.mark.parametrize(
    ("price", "cents"),
    [("349.00", 34900), ("349,05", 34905), ("EUR 349.00", 34900), ("349", 34900), ("0.01", 1)],
)
def test_prices_that_can_be_read(price: str, cents: int) -> None:
    assert daily_sales_etl._to_cents(price) == cents


@pytest.mark.parametrize(
    "price", ["", ".", "1.2.3", "n/a", "-1.00", "0.00", "1.5", "1,000.00", "²"]
)
def test_prices_that_can_not(price: str) -> None:
    with pytest.raises(ValueError, match="price"):
        daily_sales_etl._to_cents(price)


# Churn Model Retraining


def retrain(folder: str) -> dict[str, Any]:
    return churn_model.churn_model(folder=folder, customers=1500)


def test_the_model_beats_the_baseline_and_is_deployed(folder: str, perfect_mock: Recorder) -> None:
    result = retrain(folder)

    assert perfect_mock.run.state == "COMPLETED"
    assert (result["deployed"], result["previous auc"], result["customers"]) == (True, None, 1500)
    assert result["auc"] > result["baseline auc"] + 0.03 > 0.55
    assert result["accuracy"] > 0.7

    # The same from the files alone: the deployed numbers, and every pair of the examined compared.
    deployed = json.loads(Path(result["model"]).read_text())["model"]
    with Path(folder, "customers.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    scores: dict[bool, list[float]] = {True: [], False: []}
    for row in rows:
        if zlib.crc32(row["customer_id"].encode()) % 5:
            continue
        raw = [
            float(row[name] or fill)
            for name, fill in zip(churn_model.NUMBERS, deployed["fill"], strict=True)
        ]
        raw += [float(row["contract"] == "yearly"), float(row["contract"] == "two-year")]
        scores[row["churned"] == "1"].append(
            deployed["bias"]
            + sum(
                weight * (value - mean) / spread
                for weight, value, mean, spread in zip(
                    deployed["weights"], raw, deployed["mean"], deployed["spread"], strict=True
                )
            )
        )
    pairs = [(a > b) + (a == b) / 2 for a in scores[True] for b in scores[False]]
    assert result["auc"] == pytest.approx(sum(pairs) / len(pairs))
    assert 0.1 < len(scores[True] + scores[False]) / len(rows) < 0.3


def test_training_ends_where_the_slope_is_flat(folder: str, perfect_mock: Recorder) -> None:
    retrain(folder)
    model = churn_model.load_model(Path(folder, "churn_model.json"))
    assert model is not None
    learned, _ = churn_model.split(churn_model.load_customers(Path(folder), 0))
    errors = [
        chance - customer.churned
        for chance, customer in zip(model.score(learned), learned, strict=True)
    ]
    inputs = [model.inputs(customer) for customer in learned]
    for position, weight in enumerate(model.weights):
        slope = sum(e * x[position] for e, x in zip(errors, inputs)) / len(learned)
        assert slope + churn_model.PENALTY * weight == pytest.approx(0, abs=2e-3)


def test_a_model_that_is_no_better_is_not_deployed(folder: str, perfect_mock: Recorder) -> None:
    first = retrain(folder)
    path = Path(first["model"])
    content = path.read_bytes()

    second = retrain(folder)
    assert (second["deployed"], second["previous auc"]) == (False, first["auc"])
    assert path.read_bytes() == content
    names = [task.name for task in perfect_mock.run.tasks]
    assert "deploy" not in names and names[-1] == "verify_deployment"

    body = json.loads(content)
    body["model"]["weights"] = [-weight for weight in body["model"]["weights"]]
    path.write_text(json.dumps(body))
    third = retrain(folder)
    assert third["deployed"] and third["previous auc"] == pytest.approx(1 - first["auc"])


@pytest.mark.parametrize("content", ["", "[]", "{", '{"model": {}}', '{"model": {"features": []}}'])
def test_a_deployed_file_that_is_no_model_is_replaced(
    folder: str, perfect_mock: Recorder, content: str
) -> None:
    path = Path(folder, "churn_model.json")
    workspace.put(path, content)
    assert retrain(folder)["deployed"]
    assert churn_model.load_model(path) is not None


def test_a_model_of_other_features_is_replaced(folder: str, perfect_mock: Recorder) -> None:
    first = retrain(folder)
    path = Path(first["model"])
    body = json.loads(path.read_text())
    body["model"]["weights"].pop()
    path.write_text(json.dumps(body))
    assert retrain(folder)["previous auc"] is None


def test_a_model_worse_than_none_fails_the_flow(folder: str, perfect_mock: Recorder) -> None:
    def upside_down(customers: list[churn_model.Customer]) -> churn_model.Model:
        model = churn_model.train.run(customers)
        model.weights = [-weight for weight in model.weights]
        return model

    perfect_mock.stub("train", upside_down)
    with pytest.raises(TaskFailed, match="NOT above the baseline"):
        retrain(folder)
    assert perfect_mock.run.state == "FAILED"
    assert not Path(folder, "churn_model.json").exists()


def test_a_deployment_that_did_not_happen_is_noticed(folder: str, perfect_mock: Recorder) -> None:
    perfect_mock.stub("deploy")
    with pytest.raises(TaskFailed, match="no model can be read"):
        retrain(folder)


def test_too_few_customers_to_learn_from(folder: str, perfect_mock: Recorder) -> None:
    with pytest.raises(TaskFailed, match="50 of each kind are the least"):
        churn_model.churn_model(folder=folder, customers=60)


def test_auc_of_ties_and_extremes() -> None:
    labels = [True, False, True, False]
    assert churn_model.auc([0.9, 0.1, 0.8, 0.2], labels) == 1.0
    assert churn_model.auc([0.1, 0.9, 0.2, 0.8], labels) == 0.0
    assert churn_model.auc([0.5] * 4, labels) == 0.5
    assert churn_model.auc([0.5, 0.5, 0.8, 0.2], labels) == 3.5 / 4
    assert (churn_model.sigmoid(0), churn_model.sigmoid(1e4), churn_model.sigmoid(-1e4)) == (
        0.5,
        1.0,
        0.0,
    )


# Infrastructure Health Check


def test_without_a_backend_the_probe_fails_and_the_flow_does_not(
    folder: str, perfect_mock: Recorder
) -> None:
    result = infrastructure_health.infrastructure_health(folder=folder)

    assert {"backend", "warehouse"} <= set(result["failed"])
    run = perfect_mock.run
    assert run.state == "COMPLETED"
    assert run.task("probe_backend").state == "FAILED"
    probe = run.task("probe_backend").result
    assert probe and [row["answer"] for row in probe["table"]] == ["none, Connection refused"] * 2
    assert "Connection refused" in probe["note"]
    disks = run.task("probe_disks").result
    usage = shutil.disk_usage("/")
    assert disks and disks["table"][0]["disk of"] == "/"
    assert disks["table"][0]["total GB"] == round(usage.total / 1e9, 1)
    writing = run.task("probe_writing").result
    assert writing and writing["passed"] and writing["table"][0]["write MB/s"] > 0
    assert os.listdir(folder) == ["health.csv"]
    summary = run.task("record_check").result
    assert summary and len(summary["table"]) == result["probes"] == 5
    assert {row["probe"] for row in summary["table"] if not row["passed"]} == set(result["failed"])


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server that gives the same answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "passed"), [(200, True), (302, True), (404, True), (500, False), (503, False)]
)
def test_any_answer_but_a_server_error_is_good(status: int, passed: bool) -> None:
    with answering(status) as url:
        result = infrastructure_health.probe_backend(url, "a-key")
    assert result.passed is passed
    assert [row["answer"] for row in result.table] == [str(status)] * 2
    assert all(0 < row["median ms"] <= row["slowest ms"] for row in result.table)


def test_the_history_grows_and_is_compared_with(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(200) as url:
        monkeypatch.setenv("PERFECT_BACKEND_URL", url)
        with mock() as recorder:
            etl(folder, days=2)
            for _ in range(3):
                result = infrastructure_health.infrastructure_health(folder=folder)
            lines = recorder.run.task("record_check").logs
    assert not {"backend", "writing", "warehouse"} & set(result["failed"])
    with Path(folder, "health.csv").open(newline="", encoding="utf-8") as file:
        history = list(csv.DictReader(file))
    assert len(history) == 3
    assert all(float(row["backend ms"]) > 0 and float(row["write MB/s"]) > 0 for row in history)
    assert any(line.startswith("backend ms") and "of 2 checks" in line for line in lines)


def test_a_probe_that_raises_is_a_failed_probe(folder: str, perfect_mock: Recorder) -> None:
    workspace.put(Path(folder, "warehouse.db"), "this is no database " * 100)
    result = infrastructure_health.infrastructure_health(folder=folder)
    assert "warehouse" in result["failed"]
    task = perfect_mock.run.task("probe_warehouse")
    assert task.error and task.error["type"] == "DatabaseError"
    assert perfect_mock.run.state == "COMPLETED"


# Weekly Executive Report


def pdf_objects(content: bytes) -> dict[int, bytes]:
    """The objects of a PDF by number, found through its cross-reference table alone.

    What ISO 32000-1 7.5 asks of a file's structure is asserted on the way.
    """
    assert re.match(rb"%PDF-1\.\d\n", content) and content.endswith(b"%%EOF\n")
    found = re.search(rb"trailer\n<< (.+) >>\nstartxref\n(\d+)\n%%EOF\n$", content)
    assert found
    start = int(found[2])
    table = content[start : found.start()]
    first, *entries = re.findall(rb"(\d{10}) (\d{5}) ([nf]) \n", table)
    assert table == b"xref\n0 %d\n" % (len(entries) + 1) + b"".join(
        b"%s %s %s \n" % entry for entry in (first, *entries)
    )
    assert first == (b"0" * 10, b"65535", b"f")
    assert b"/Size %d " % (len(entries) + 1) in found[1]
    objects = {}
    for number, (offset, _, kind) in enumerate(entries, start=1):
        assert kind == b"n"
        body = re.compile(rb"%d 0 obj\n(.*?)\nendobj\n" % number, re.DOTALL).match(
            content, int(offset)
        )
        assert body
        objects[number] = body[1]
        if stream := re.match(
            rb"<< /Length (\d+) >>\nstream\n(.*)\nendstream$", body[1], re.DOTALL
        ):
            assert int(stream[1]) == len(stream[2])
    for reference in re.findall(rb"(\d+) 0 R", b" ".join(objects.values()) + found[1]):
        assert int(reference) in objects
    assert objects[1].startswith(b"<< /Type /Catalog") and b"/Root 1 0 R" in found[1]
    return objects


def pdf_text(content: bytes) -> list[str]:
    """The texts of a PDF in the order they are drawn."""
    found = re.findall(rb"\(((?:[^()\\]|\\.)*)\) Tj", b"\n".join(pdf_objects(content).values()))
    return [re.sub(rb"\\(.)", rb"\1", text).decode("cp1252") for text in found]


def test_the_report_says_what_the_warehouse_holds(folder: str, perfect_mock: Recorder) -> None:
    etl(folder)
    result = executive_report.executive_report(folder=folder)

    assert perfect_mock.run.state == "COMPLETED"
    assert (result["week"], result["sent"]) == ("2026-W02", False)
    week = {str(MONDAY + timedelta(days=number)) for number in range(7)}
    orders = list(good_orders(folder).values())
    inside = [order for order in orders if order[0] in week]
    assert 0 < len(inside) < len(orders)
    revenue, before = (
        sum((amount for day, _, amount in orders if (day in week) is this), Decimal())
        for this in (True, False)
    )
    assert (result["orders"], result["revenue"]) == (len(inside), float(revenue))

    texts = pdf_text(Path(result["report"]).read_bytes())
    assert texts[:2] == ["Weekly Executive Report", "Week 2026-W02: 05 Jan - 11 Jan 2026"]
    change = f"{(revenue - before) / before:+.1%}"
    assert texts[2:5] == ["Revenue", f"{revenue:,}", f"{change} to the week before"]
    regions: dict[str, Decimal] = {}
    for _, region, amount in inside:
        regions[region] = regions.get(region, Decimal()) + amount
    strongest = max(regions, key=lambda region: regions[region])
    place = texts.index("Sales by region")
    assert texts[place + 6] == strongest
    assert texts[place + 9] == f"{regions[strongest]:,}"
    assert {*daily_sales_etl.REGIONS, *daily_sales_etl.PRICES} <= set(texts)

    check = perfect_mock.run.task("check_figures").result
    assert check and {row["revenue EUR"] for row in check["table"]} == {float(revenue)}

    mail: Any = email.message_from_bytes(
        Path(result["mail"]).read_bytes(), policy=email.policy.default
    )
    assert mail["Subject"] == f"Weekly sales 2026-W02: {revenue:,} EUR"
    assert mail["To"] == "board@example.com"
    (attachment,) = mail.iter_attachments()
    assert attachment.get_filename() == "weekly-report-2026-W02.pdf"
    assert attachment.get_content() == Path(result["report"]).read_bytes()
    text = mail.get_body().get_content()
    assert f"{revenue:,} EUR ({change})" in text and f"{strongest} is the strongest" in text


def test_without_a_warehouse_the_report_has_it_built(
    folder: str, perfect_mock: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = lambda folder: etl(folder)  # noqa: E731
    monkeypatch.setattr(executive_report, "daily_sales_etl", short)
    assert executive_report.executive_report(folder=folder)["week"] == "2026-W02"
    report, sales = perfect_mock.runs
    assert (report.flow, report.state) == ("Weekly Executive Report", "COMPLETED")
    assert (sales.flow, sales.state, sales.parent) == ("Daily Sales ETL", "COMPLETED", report.id)


def test_a_week_of_ones_own_choice(folder: str, perfect_mock: Recorder) -> None:
    etl(folder)
    result = executive_report.executive_report(
        folder=folder, week="2026-W01", recipients=["a@example.com", "b@example.com"]
    )
    assert result["week"] == "2026-W01"
    texts = pdf_text(Path(result["report"]).read_bytes())
    assert texts[1] == "Week 2026-W01: 29 Dec - 04 Jan 2026"
    assert texts[4] == "n/a to the week before"
    assert b"To: a@example.com, b@example.com\r\n" in Path(result["mail"]).read_bytes()

    with pytest.raises(LookupError, match="of 2026-W30; complete: 2026-W02, 2026-W01$"):
        executive_report.executive_report(folder=folder, week="2026-W30")
    with pytest.raises(ValueError, match="week='last' is not written like 2026-W14"):
        executive_report.executive_report(folder=folder, week="last")
    assert perfect_mock.run.state == "FAILED"


def test_no_week_is_complete(folder: str, perfect_mock: Recorder) -> None:
    etl(folder, days=6)
    with pytest.raises(LookupError, match="any week; complete: none"):
        executive_report.executive_report(folder=folder)


def test_sums_that_differ_fail_the_report(folder: str, perfect_mock: Recorder) -> None:
    etl(folder)
    with closing(sqlite3.connect(Path(folder, "warehouse.db"))) as database, database:
        database.execute("UPDATE daily_totals SET cents = cents + 1 WHERE day = ?", (UNTIL,))
    with pytest.raises(TaskFailed, match="the sums do not agree"):
        executive_report.executive_report(folder=folder)
    assert not Path(folder, "outbox").exists()


class MailHandler(socketserver.StreamRequestHandler):
    """As much of SMTP (RFC 5321) as takes one mail."""

    def handle(self) -> None:
        self.wfile.write(b"220 test\r\n")
        for line in self.rfile:
            verb = line[:4].lower()
            if verb == b"quit":
                self.wfile.write(b"221 bye\r\n")
                return
            if verb != b"data":
                self.wfile.write(b"250 ok\r\n")
                continue
            self.wfile.write(b"354 go on\r\n")
            got = list(itertools.takewhile(lambda part: part != b".\r\n", self.rfile))
            getattr(self.server, "mails").append(b"".join(got))
            self.wfile.write(b"250 ok\r\n")


def test_the_mail_is_sent_where_a_server_is_named(
    folder: str, perfect_mock: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    etl(folder)
    with socketserver.TCPServer(("127.0.0.1", 0), MailHandler) as server:
        mails: list[bytes] = []
        setattr(server, "mails", mails)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        monkeypatch.setenv("SMTP_HOST", "127.0.0.1")
        monkeypatch.setenv("SMTP_PORT", str(server.server_address[1]))
        result = executive_report.executive_report(folder=folder)
        thread.join(20)
    assert result["sent"] is True
    (mail,) = mails
    assert mail.rstrip() == Path(result["mail"]).read_bytes().rstrip()

    # The server is gone: the mail is still in the outbox and the report still made.
    result = executive_report.executive_report(folder=folder)
    assert result["sent"] is False and Path(result["mail"]).exists()
    run = perfect_mock.run
    assert (run.state, run.task("send_mail").state) == ("COMPLETED", "FAILED")


def test_a_pdf_of_several_pages_and_awkward_text() -> None:
    pdf = simple_pdf.Pdf("a (title) \\")
    awkward = ["(", "))", "\\", "a\\(b", "12.50 €", "naïve", "日"]
    for text in awkward:
        pdf.text(10, 10, text)
        pdf.new_page()
    content = pdf.to_bytes()
    assert pdf_text(content) == [*awkward[:-1], "?"]
    assert pdf_objects(content)[2].endswith(b"/Count 8 >>")
    assert b"<< /Title (a \\(title\\) \\\\) >>" in content


def test_numbers_end_where_they_should() -> None:
    assert simple_pdf.text_width("1,234.50", 10) == pytest.approx(6 * 5.56 + 2 * 2.78)
    assert simple_pdf.text_width("", 10) == 0
    assert len(simple_pdf._WIDTHS) == ord("~") - ord(" ") + 1
    pdf = simple_pdf.Pdf("")
    pdf.text(100, 20, "00", size=10, right=True)
    assert b" 88.88 20 Td (00) Tj" in pdf.to_bytes()


# One script for each way of writing a flow


def test_dynamic(perfect_mock: Recorder) -> None:
    assert dynamic_flow.dynamic_etl() == {"sales": 65, "inventory": 300, "customers": 1}
    assert [task.name for task in perfect_mock.run.tasks] == [
        "extract_data",
        "cleanup_data",
        "load_to_warehouse",
        "extract_data",
        "load_to_warehouse",
        "extract_data",
        "cleanup_data",
        "load_to_warehouse",
    ]
    assert dynamic_flow.dynamic_etl(["inventory"]) == {"inventory": 300}
    assert len(perfect_mock.run.tasks) == 2


def test_parallel(perfect_mock: Recorder) -> None:
    parallel_flows.main()
    runs = {run.flow: run for run in perfect_mock.runs}
    assert {flow: [task.name for task in run.tasks] for flow, run in runs.items()} == {
        "Compress Text": ["compress"],
        "Count Words": ["count_words"],
        "Digest Text": ["digest"],
    }
    assert all(run.state == "COMPLETED" and len(run.logs) == 1 for run in runs.values())
    assert runs["Count Words"].logs == ["300,000 words, 12 of them different"]
    assert runs["Digest Text"].logs[0].startswith("SHA-256 ")


def test_async(perfect_mock: Recorder) -> None:
    answer = asyncio.run(async_flow.version_survey())
    assert answer.startswith(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}")
    tasks = perfect_mock.run.tasks
    assert [task.name for task in tasks] == ["ask", "ask", "ask", "summarise"]
    assert [len(task.logs) for task in tasks] == [1, 1, 1, 0]


def test_graph(perfect_mock: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    state = graph_flow.flow.run()
    assert state.is_successful(), state
    results = state.result
    assert results[graph_flow.hottest].result == "Tunis"
    assert results[graph_flow.records].result == list(graph_flow.HOTTEST.values())
    run = perfect_mock.run
    assert (run.flow, run.state) == ("Hottest City", "COMPLETED")
    # One for the whole and one for each city, which was tried again.
    names = ["make_folder", *["download"] * 5, "pick_hottest", "remove"]
    assert sorted(task.name for task in run.tasks) == sorted(names)
    attempts = [task.attempt for task in run.tasks if task.name == "download"]
    assert sorted(attempts) == [1, 2, 2, 2, 2]
    assert [task.state for task in run.tasks] == ["COMPLETED"] * 8
    assert not any(tmp_path.glob("graph-flow-*"))  # it has cleaned up


def test_a_failed_graph_cleans_up_and_stays_failed(
    perfect_mock: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    state = graph_flow.flow.run(parameters={"cities": ["Rome", "Atlantis"]})
    assert state.is_failed() and state.result[graph_flow.hottest].is_trigger_failed()
    rome, atlantis = state.result[graph_flow.records].map_states
    assert rome.is_successful() and repr(atlantis.result) == "KeyError('Atlantis')"
    assert state.result[graph_flow.remove].is_successful()
    assert not any(tmp_path.glob("graph-flow-*"))
    assert perfect_mock.run.state == "FAILED"
    assert perfect_mock.run.task("remove").state == "COMPLETED"
    # What is no ConnectionError is not tried again.
    downloads = [task for task in perfect_mock.run.tasks if task.name == "download"]
    assert [(task.state, task.attempt) for task in downloads if task.error] == [("FAILED", 1)] * 2
    assert [task.attempt for task in downloads if not task.error] == [2]


@pytest.fixture
def pipeline() -> Iterator[dict[str, Any]]:
    """The names of examples/pipeline.py; afterwards no DAG has its tasks."""
    yield runpy.run_path(str(EXAMPLES / "pipeline.py"))
    Task.clear_registry()


def test_pipeline(
    pipeline: dict[str, Any], perfect_mock: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    dag = DAG("Order Total", tasks=[pipeline["load"]])
    state = StateManager()
    with pytest.raises(TaskExecutionError, match="'load' failed.*the warehouse is locked"):
        dag.run(resume=state)
    assert perfect_mock.run.state == "FAILED"
    pipeline["load"].func.__globals__["locked"] = False
    results = dag.run(resume=state)
    assert results.pop("extract") == ["3,mug,8", "1,lamp,45", "2,desk,480"]
    assert results == {"total": 1029, "approve": "approved", "load": "1029 is in: approved"}
    assert capsys.readouterr().out.count("reading the orders") == 1
    first, second = perfect_mock.runs
    assert {task.name: task.state for task in first.tasks} == {
        "extract": "COMPLETED",
        "total": "COMPLETED",
        "approve": "COMPLETED",
        "wave_through": "SKIPPED",
        "load": "FAILED",
    }
    assert (second.state, second.task("load").state) == ("COMPLETED", "COMPLETED")


def test_a_small_total_is_waved_through(pipeline: dict[str, Any], perfect_mock: Recorder) -> None:
    pipeline["load"].func.__globals__.update(locked=False, CSV="1,mug,1000")
    results = DAG("Order Total", tasks=[pipeline["load"]]).run()
    assert results["load"] == "1000 is in: no questions asked"
    assert perfect_mock.run.task("approve").state == "SKIPPED"


# As scripts, in processes of their own


def environment(home: Path, **settings: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in os.environ if not name.startswith("SMTP_")}
    paths = [str(PACKAGE.parent), kept.get("PYTHONPATH", "")]
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return kept | {"PERFECT_HOME": str(home)} | settings


def run_python(
    *arguments: str, cwd: Path, env: dict[str, str], stderr: int = subprocess.STDOUT
) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", *arguments],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0 and "Traceback" not in done.stdout, done.stdout
    return done.stdout


def test_the_tests_of_the_example_pass(tmp_path: Path) -> None:
    out = run_python(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "testing_a_flow.py")),
        cwd=tmp_path,
        env=environment(tmp_path / "home"),
    )
    assert "4 passed" in out


def test_in_an_installed_package_they_are_perfects_own(tmp_path: Path) -> None:
    """Where a wheel puts them nothing is written, and no module of theirs is left at the top level."""
    site = tmp_path / "site"
    ignore = shutil.ignore_patterns("__pycache__", "server")
    shutil.copytree(PACKAGE, site / "perfect", ignore=ignore)
    shutil.copytree(EXAMPLES, site / "perfect" / "_examples", ignore=ignore)
    before = sorted(site.rglob("*"))
    code = """
import sys
from perfect._examples.workflows.example_flows import FLOWS
from perfect._examples import client_example
for flow in FLOWS:
    flow()
    assert flow.function.__module__.startswith("perfect._examples.workflows."), flow
assert not {"workspace", "workflows", "churn_model", "simple_pdf"} & sys.modules.keys()
"""
    run_python(
        *("-B", "-c", code),
        cwd=tmp_path,
        env=environment(tmp_path / "home", PERFECT_MOCK="1", PYTHONPATH=str(site)),
    )
    assert sorted(site.rglob("*")) == before
    made = {path.name for path in (tmp_path / "home" / "examples").iterdir()}
    assert {"exports", "warehouse.db", "churn_model.json", "health.csv", "outbox"} <= made


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        (
            "graph_flow.py",
            [
                "<Success: 'all reference tasks succeeded'>",
                "  Tunis",
                "<Failed: .*pick_hottest.*",
                "  not run: .*",
            ],
        ),
        (
            "pipeline.py",
            [
                "reading the orders",
                "stopped: .*the warehouse is locked",
                "{'extract': .*'load': '1029 is in: approved'}",
            ],
        ),
    ],
)
def test_a_graph_script_without_a_backend(script: str, lines: list[str], tmp_path: Path) -> None:
    env = environment(tmp_path / "home", TMPDIR=str(tmp_path))
    # On stderr stands what the client says of attempts, and of the backend that it can't reach.
    output = run_python(str(EXAMPLES / script), cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
    said = output.splitlines()
    assert len(said) == len(lines), output
    for line, pattern in zip(said, lines):
        assert re.fullmatch(pattern, line), output
    assert not any(tmp_path.glob("graph-flow-*"))


def runs_of(backend: BackendProcess, client_id: str) -> list[dict[str, Any]]:
    """A client's runs, oldest first, without those that the clock has started meanwhile."""
    return [
        run
        for run in reversed(backend.runs())
        if run["clientId"] == client_id and run["trigger"] != "schedule"
    ]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("script", "flows"),
    [
        ("workflows/daily_sales_etl.py", ["Daily Sales ETL"]),
        ("workflows/churn_model.py", ["Churn Model Retraining"]),
        ("workflows/infrastructure_health.py", ["Infrastructure Health Check"]),
        ("workflows/executive_report.py", ["Daily Sales ETL", "Weekly Executive Report"]),
        ("dynamic_flow.py", ["Dynamic ETL"]),
        ("parallel_flows.py", ["Compress Text", "Count Words", "Digest Text"]),
        ("async_flow.py", ["Version Survey"]),
        ("graph_flow.py", ["Hottest City", "Hottest City"]),
        ("pipeline.py", ["Order Total", "Order Total"]),
    ],
)
def test_a_script_alone(
    script: str, flows: list[str], backend: BackendProcess, tmp_path: Path
) -> None:
    client_id = f"examples-{uuid.uuid4()}"
    settings = {"PERFECT_BACKEND_URL": backend.url, "PERFECT_CLIENT_ID": client_id}
    run_python(str(EXAMPLES / script), cwd=tmp_path, env=environment(tmp_path / "home", **settings))
    runs = runs_of(backend, client_id)
    assert sorted(run["flowName"] for run in runs) == flows
    # The two that show what becomes of a failure have one run that fails.
    fails = script in ("graph_flow.py", "pipeline.py")
    assert (
        sorted(run["state"] for run in runs)
        == ["COMPLETED"] * (len(runs) - fails) + ["FAILED"] * fails
    )


@pytest.mark.e2e
@pytest.mark.parametrize("script", ["client_example.py", "workflows/example_flows.py"])
def test_the_four_as_a_client(script: str, backend: BackendProcess, tmp_path: Path) -> None:
    client_id = f"examples-{uuid.uuid4()}"
    settings = {"PERFECT_BACKEND_URL": backend.url, "PERFECT_CLIENT_ID": client_id}
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLES / script)],
        cwd=tmp_path,
        env=environment(tmp_path / "home", **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if "Ctrl+C ends" in line:
                    break
            assert process.poll() is None, "".join(lines)

            # It listens: what is triggered is executed.
            health = backend.wait_for_run(
                lambda run: run["clientId"] == client_id
                and run["flowName"] == "Infrastructure Health Check"
            )
            status, answer = backend.request(
                "POST", f"/api/engine/trigger/{health['flowId']}", {"configuration": "debug"}
            )
            assert status == 200
            backend.wait_for_run(
                lambda run: run["id"] == answer["runId"] and run["state"] == "COMPLETED"
            )
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0 and "Traceback" not in "".join(lines) + rest, lines + [rest]
    runs = runs_of(backend, client_id)
    assert [(run["flowName"], run["state"]) for run in runs] == [
        ("Daily Sales ETL", "COMPLETED"),
        ("Churn Model Retraining", "COMPLETED"),
        ("Infrastructure Health Check", "COMPLETED"),
        ("Weekly Executive Report", "COMPLETED"),
        ("Infrastructure Health Check", "COMPLETED"),
    ]
    for run in runs:
        assert run["progress"] == 100
        assert {task["state"] for task in run["tasks"]} == {"COMPLETED"}, run
    (sales,) = [run for run in runs if run["flowName"] == "Daily Sales ETL"]
    (loading,) = [task for task in sales["tasks"] if task["taskName"] == "check_quality"]
    assert loading["result"]["note"] == "5 checks passed"
    assert any("orders are clean" in line for line in backend.lines(sales["id"]))
