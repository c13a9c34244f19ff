"""Daily Sales ETL: a shop's CSV exports become a clean SQLite warehouse.

Run it: ``python examples/workflows/daily_sales_etl.py``. The first run writes the exports it then
reads, as a shop's till would have: the same orders for a day whenever it is asked. Put files of
your own into the folder ``exports`` and they are read instead.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from perfect import CronSchedule, TaskResult, flow, progress, task

if TYPE_CHECKING or __package__:
    from .workspace import as_csv, euros, open_warehouse, put, warehouse_path, workspace
else:
    from workspace import as_csv, euros, open_warehouse, put, warehouse_path, workspace

COLUMNS = ["order_id", "ordered_at", "customer", "region", "product", "quantity", "unit_price"]
REGIONS = ("North", "South", "East", "West")
PRICES = {  # cents
    "Espresso machine": 34900,
    "Grinder": 12950,
    "Kettle": 5990,
    "Coffee beans 1 kg": 1890,
    "Filter papers": 450,
    "Travel mug": 2495,
}
MOST_REJECTED = 0.05  # a larger share of bad rows means that the export itself is broken

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    order_id TEXT PRIMARY KEY, day TEXT NOT NULL, customer TEXT NOT NULL, region TEXT NOT NULL,
    product TEXT NOT NULL, quantity INTEGER NOT NULL, cents INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS orders_by_day ON orders (day);
CREATE TABLE IF NOT EXISTS daily_totals (
    day TEXT, region TEXT, product TEXT, orders INTEGER, units INTEGER, cents INTEGER,
    PRIMARY KEY (day, region, product)
) WITHOUT ROWID;
"""


class Row(NamedTuple):
    """A line of an export, as it came."""

    file: str
    line: int
    day: str  # the day that the file is for
    values: list[str]


class Order(NamedTuple):
    """An order fit for the warehouse. `cents` is the price of all its units."""

    order_id: str
    day: str
    customer: str
    region: str
    product: str
    quantity: int
    cents: int


class Cleaned(NamedTuple):
    """What became of the rows."""

    days: list[str]
    orders: list[Order]
    repaired: int
    rejected: list[tuple[Row, str]]  # with the reason


@task(estimated_time=900)
def fetch_exports(folder: Path, until: date, days: int) -> list[Path]:
    """Fetch the daily CSV files of the shop"""
    exports = folder / "exports"
    files, new = [], 0
    for number in range(days):
        day = until - timedelta(days=days - 1 - number)
        path = exports / f"sales-{day}.csv"
        if not path.exists():
            put(path, as_csv([COLUMNS, *_orders_of(day)]))
            new += 1
        files.append(path)
        progress((number + 1) / days)
    size = sum(path.stat().st_size for path in files)
    print(f"{len(files)} exports in {exports}, {new} of them new, {size / 1e6:.1f} MB")
    return files


@task(estimated_time=300)
def read_exports(files: list[Path]) -> list[Row]:
    """Read every row of the exports"""
    rows: list[Row] = []
    for number, path in enumerate(files):
        day = path.stem.removeprefix("sales-")
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            if (header := next(reader, [])) != COLUMNS:
                raise ValueError(f"{path.name}: its columns are {header}, not {COLUMNS}")
            rows += (Row(path.name, reader.line_num, day, values) for values in reader)
        progress((number + 1) / len(files))
    print(f"Read {len(rows):,} rows, {files[0].name} to {files[-1].name}")
    return rows


@task(estimated_time=350)
def clean_orders(rows: list[Row]) -> Cleaned:
    """Repair what can be repaired, set the rest aside"""
    orders: dict[str, Order] = {}
    rejected: list[tuple[Row, str]] = []
    repaired = 0
    for row in rows:
        try:
            order, changed = _to_order(row)
            if order.order_id in orders:
                raise ValueError("order was there before")
        except ValueError as error:
            rejected.append((row, str(error)))
        else:
            orders[order.order_id] = order
            repaired += changed
    print(f"{len(orders):,} orders are clean, {repaired:,} of them repaired")
    print(f"{len(rejected):,} rows can't be used")
    return Cleaned(sorted({row.day for row in rows}), list(orders.values()), repaired, rejected)


@task(estimated_time=50)
def report_rejects(folder: Path, cleaned: Cleaned) -> TaskResult:
    """Write the rejected rows down for the people who can correct them"""
    path = folder / "rejected.csv"
    lines = [[row.file, row.line, reason, *row.values] for row, reason in cleaned.rejected]
    put(path, as_csv([["file", "line", "reason", *COLUMNS], *lines]))
    examples = {reason: f"{row.file}:{row.line}" for row, reason in reversed(cleaned.rejected)}
    reasons = Counter(reason for _, reason in cleaned.rejected).most_common()
    for reason, count in reasons:
        print(f"{count:6,}  {reason} (first: {examples[reason]})")
    share = len(cleaned.rejected) / max(1, len(cleaned.rejected) + len(cleaned.orders))
    return TaskResult(
        passed=share <= MOST_REJECTED,
        note=f"{share:.1%} of the rows rejected (at most {MOST_REJECTED:.0%} are tolerated): {path}",
        table=[
            {"reason": reason, "rows": count, "first": examples[reason]}
            for reason, count in reasons
        ],
    )


@task(estimated_time=250)
def load_warehouse(folder: Path, cleaned: Cleaned) -> int:
    """Replace the days of these exports in the warehouse, in one transaction"""
    with open_warehouse(folder, write=True) as database:
        for statement in SCHEMA.split(";"):
            database.execute(statement)
        days = [(day,) for day in cleaned.days]
        before = database.execute("SELECT count(*) FROM orders").fetchone()[0]
        for table in ("orders", "daily_totals"):
            database.executemany(f"DELETE FROM {table} WHERE day = ?", days)
        database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)", cleaned.orders)
        database.executemany(
            "INSERT INTO daily_totals SELECT day, region, product, count(*), sum(quantity),"
            " sum(cents) FROM orders WHERE day = ? GROUP BY day, region, product",
            days,
        )
        after: int = database.execute("SELECT count(*) FROM orders").fetchone()[0]
    print(f"{warehouse_path(folder)}: {before:,} orders before, {after:,} now")
    return after


@task(estimated_time=100)
def check_quality(folder: Path, cleaned: Cleaned) -> TaskResult:
    """Compare the warehouse with what was loaded"""
    window = (cleaned.days[0], cleaned.days[-1])
    with open_warehouse(folder) as database:

        def found(query: str) -> int:
            number: int = database.execute(f"{query} WHERE day BETWEEN ? AND ?", window).fetchone()[
                0
            ]
            return number

        cents = sum(order.cents for order in cleaned.orders)
        checks = [
            ("orders", len(cleaned.orders), found("SELECT count(*) FROM orders")),
            ("revenue (cents)", cents, found("SELECT ifnull(sum(cents), 0) FROM orders")),
            ("totals (cents)", cents, found("SELECT ifnull(sum(cents), 0) FROM daily_totals")),
            (
                "days with orders",
                len({order.day for order in cleaned.orders}),
                found("SELECT count(DISTINCT day) FROM orders"),
            ),
            (
                "orders without a value",
                0,
                found("SELECT count(nullif(quantity > 0 AND cents > 0, 1)) FROM orders"),
            ),
        ]
    failed = [name for name, expected, number in checks if expected != number]
    for name, expected, number in checks:
        print(f"{'ok' if expected == number else 'WRONG':5}  {name}: {number:,}")
    return TaskResult(
        passed=not failed,
        note=f"wrong: {', '.join(failed)}" if failed else f"{len(checks)} checks passed",
        table=[
            {"check": name, "expected": expected, "found": number, "passed": expected == number}
            for name, expected, number in checks
        ],
    )


@task(estimated_time=50, crucial_pass=False)
def show_revenue(folder: Path, cleaned: Cleaned) -> TaskResult:
    """Show what each region sold"""
    with open_warehouse(folder) as database:
        regions = database.execute(
            "SELECT region, sum(orders), sum(units), sum(cents) FROM daily_totals"
            " WHERE day BETWEEN ? AND ? GROUP BY region ORDER BY sum(cents) DESC",
            (cleaned.days[0], cleaned.days[-1]),
        ).fetchall()
    for region, orders, _, cents in regions:
        print(f"{region:6} {orders:7,} orders {euros(cents):>15} EUR")
    total = sum(cents for *_, cents in regions)
    return TaskResult(
        passed=True,
        note=f"{euros(total)} EUR from {cleaned.days[0]} to {cleaned.days[-1]}",
        table=[
            {"region": region, "orders": orders, "units": units, "revenue EUR": cents / 100}
            for region, orders, units, cents in regions
        ],
    )


@flow(
    name="Daily Sales ETL",
    description="Extract sales data, clean it and load it into the warehouse",
    tags={"team": "data-eng", "domain": "sales", "version": "v1.0"},
    schedule=CronSchedule("0 2 * * *"),
)
def daily_sales_etl(
    folder: str | None = None, until: str | None = None, days: int = 84
) -> dict[str, Any]:
    """Load the last days' orders; loading a day again replaces it.

    Args:
        folder: where exports and warehouse are; default: ``examples`` in perfect's home.
        until: the last day, as 2026-03-31; default: yesterday.
        days: how many.
    """
    if days < 1:
        raise ValueError(f"days={days}: there is no export to load")
    path = workspace(folder)
    last = date.fromisoformat(until) if until else date.today() - timedelta(days=1)
    files = fetch_exports(path, last, days)
    rows = read_exports(files)
    cleaned = clean_orders(rows)
    report_rejects(path, cleaned)
    total = load_warehouse(path, cleaned)
    check_quality(path, cleaned)
    show_revenue(path, cleaned)
    return {
        "rows": len(rows),
        "loaded": len(cleaned.orders),
        "repaired": cleaned.repaired,
        "rejected": len(cleaned.rejected),
        "revenue": sum(order.cents for order in cleaned.orders) / 100,
        "orders in warehouse": total,
        "warehouse": str(warehouse_path(path)),
    }


def _to_order(row: Row) -> tuple[Order, bool]:
    """The order that a row stands for, and whether it had to be repaired.

    Raises:
        ValueError: with the reason why the row can't be used.
    """
    if len(row.values) != len(COLUMNS):
        raise ValueError("wrong number of columns")
    order_id, ordered_at, customer, region, product, quantity, price = map(str.strip, row.values)
    if not order_id:
        raise ValueError("no order number")
    if not customer:
        raise ValueError("no customer")
    if not ordered_at.startswith(row.day):
        raise ValueError("date is not of this export")
    if region.capitalize() not in REGIONS:
        raise ValueError("unknown region")
    if product not in PRICES:
        raise ValueError("unknown product")
    if not (quantity.isascii() and quantity.isdigit()) or quantity == "0":
        raise ValueError("quantity is not a positive number")
    cents = int(quantity) * _to_cents(price)
    order = Order(order_id, row.day, customer, region.capitalize(), product, int(quantity), cents)
    repaired = [order.region, product, quantity] != row.values[3:6] or "," in price or " " in price
    return order, repaired


def _to_cents(price: str) -> int:
    """``349.00``, ``349,00`` and ``EUR 349.00`` are 34900."""
    whole, point, fraction = price.removeprefix("EUR ").replace(",", ".").partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdigit()) or (point and len(fraction) != 2):
        raise ValueError("price is unreadable")
    cents = int(digits) if point else int(digits) * 100
    if cents == 0:
        raise ValueError("price is zero")
    return cents


def _orders_of(day: date) -> list[list[object]]:
    """The orders of a day as a till would export them, with its usual mistakes."""
    chance = random.Random(f"sales of {day}")
    weekend = 1.35 if day.weekday() >= 5 else 1.0
    rows: list[list[object]] = []
    for number in range(round(chance.gauss(1000, 90) * weekend)):
        product = chance.choices(list(PRICES), (2, 4, 6, 30, 25, 10))[0]
        cents = PRICES[product] * chance.choice((100, 100, 100, 95, 90)) // 100
        seconds = int(chance.triangular(0, 86399, 64000))
        row: list[object] = [
            f"{day:%Y%m%d}-{number:05}",
            f"{day}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}",
            f"C{chance.randrange(4000):05}",
            chance.choices(REGIONS, (5, 3, 2, 4))[0],
            product,
            chance.choices((1, 2, 3, 4), (70, 20, 7, 3))[0],
            f"{cents // 100}.{cents % 100:02}",
        ]
        if chance.random() < 0.03:
            _spoil(row, rows, chance)
        rows.append(row)
    return rows


def _spoil(row: list[object], earlier: list[list[object]], chance: random.Random) -> None:
    mistake = chance.randrange(9)
    if mistake == 0:
        row[2] = ""
    elif mistake == 1:
        row[3] = chance.choice(("Nrth", "?", "Overseas"))
    elif mistake == 2:
        row[5] = chance.choice(("-1", "0", "two"))
    elif mistake == 3:
        row[6] = chance.choice(("n/a", "", "1.2.3"))
    elif mistake == 4:
        row[1] = "1970-01-01T00:00:00"
    elif mistake == 5 and earlier:
        row[:] = earlier[-1]
    elif mistake == 6:
        row[3] = f" {str(row[3]).upper()} "
    elif mistake == 7:
        row[6] = str(row[6]).replace(".", ",")
    else:
        row[6] = f"EUR {row[6]}"


if __name__ == "__main__":
    print(daily_sales_etl())
