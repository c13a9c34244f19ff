"""Weekly Executive Report: one page of last week's sales, as a PDF in the mail.

Run it: ``python examples/workflows/executive_report.py``. It reads the warehouse of Daily Sales ETL
and builds it first if it is not there. The mail is written to the folder ``outbox``; it is sent as
well if ``SMTP_HOST`` says where to (``SMTP_PORT``, default 25).
"""

from __future__ import annotations

import email
import email.policy
import os
import re
import smtplib
import sqlite3
from dataclasses import dataclass, field
from datetime import date, timedelta
from email.message import EmailMessage
from email.utils import format_datetime, localtime, make_msgid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfect import CronSchedule, TaskResult, flow, task

if TYPE_CHECKING or __package__:
    from .daily_sales_etl import daily_sales_etl
    from .simple_pdf import Pdf
    from .workspace import euros, open_warehouse, put, warehouse_path, workspace
else:
    from daily_sales_etl import daily_sales_etl
    from simple_pdf import Pdf
    from workspace import euros, open_warehouse, put, warehouse_path, workspace

SENDER = "reports@example.com"
RECIPIENTS = ("board@example.com",)

INK, GREY, PALE = (0.12, 0.16, 0.22), (0.45, 0.49, 0.55), (0.93, 0.94, 0.96)
STRONG, WEAK = (0.13, 0.42, 0.72), (0.75, 0.82, 0.9)
LEFT, RIGHT = 50, 545  # margins of the page, points

COMPLETE_WEEKS = """
SELECT min(day) FROM daily_totals GROUP BY date(day, 'weekday 0')  -- its Sunday
HAVING count(DISTINCT day) = 7 ORDER BY 1 DESC
"""


@dataclass
class Part:
    """What one region, product or day sold, and its revenue the week before, in cents."""

    name: str
    orders: int
    units: int
    cents: int
    before: int


@dataclass
class Figures:
    """A week's sales. `earlier` are the orders of the week before; 0 if it is not known."""

    monday: date
    orders: int
    customers: int
    cents: int
    before: int
    earlier_orders: int
    earlier_customers: int
    parts: dict[str, list[Part]] = field(default_factory=dict)

    @property
    def week(self) -> str:
        """As ISO 8601 counts weeks: 2026-W14."""
        year, week, _ = self.monday.isocalendar()
        return f"{year}-W{week:02}"

    @property
    def span(self) -> str:
        """The first and the last day."""
        return f"{self.monday:%d %b} - {self.monday + timedelta(days=6):%d %b %Y}"


@task(estimated_time=20)
def choose_week(folder: Path, week: str | None) -> date:
    """Choose the week: the last one of which the warehouse has every day"""
    with open_warehouse(folder) as database:
        complete = [date.fromisoformat(day) for (day,) in database.execute(COMPLETE_WEEKS)]
    wanted = date.fromisocalendar(*_year_and_week(week), 1) if week else None
    if not complete or (wanted and wanted not in complete):
        known = ", ".join("{}-W{:02}".format(*monday.isocalendar()) for monday in complete)
        raise LookupError(
            f"the warehouse has not every day of {week or 'any week'}; complete: {known or 'none'}"
        )
    monday = wanted or complete[0]
    print(f"The week of {monday:%A, %d %B %Y}; {len(complete)} complete weeks in the warehouse")
    return monday


@task(estimated_time=200)
def gather_figures(folder: Path, monday: date) -> Figures:
    """Add up the week and the one before"""
    with open_warehouse(folder) as database:
        orders, customers, cents = _totals(database, monday)
        earlier_orders, earlier_customers, before = _totals(database, monday - timedelta(days=7))
        figures = Figures(
            monday, orders, customers, cents, before, earlier_orders, earlier_customers
        )
        for column in ("region", "product", "day"):
            figures.parts[column] = _parts(database, column, monday)
    print(f"{figures.week}: {euros(cents)} EUR from {orders:,} orders of {customers:,} customers")
    print(f"Revenue {_change(cents, before)} to the week before")
    return figures


@task(estimated_time=20)
def check_figures(figures: Figures) -> TaskResult:
    """Check that every way of adding up comes to the same"""
    table = [
        {
            "added up by": column,
            "parts": len(parts),
            "orders": sum(part.orders for part in parts),
            "revenue EUR": sum(part.cents for part in parts) / 100,
        }
        for column, parts in figures.parts.items()
    ]
    table.insert(
        0,
        {
            "added up by": "order",
            "parts": figures.orders,
            "orders": figures.orders,
            "revenue EUR": figures.cents / 100,
        },
    )
    passed = len({(row["orders"], row["revenue EUR"]) for row in table}) == 1
    passed = passed and len(figures.parts["day"]) == 7
    note = "all sums agree" if passed else "the sums do not agree"
    print(f"{euros(figures.cents)} EUR: {note}")
    return TaskResult(passed=passed, note=note, table=table)


@task(estimated_time=50)
def write_pdf(folder: Path, figures: Figures) -> Path:
    """Set the report as a page"""
    pdf = Pdf(f"Weekly Executive Report {figures.week}")
    pdf.box(0, 772, 595, 70, INK)
    pdf.text(LEFT, 806, "Weekly Executive Report", size=22, bold=True, colour=(1, 1, 1))
    pdf.text(LEFT, 786, f"Week {figures.week}: {figures.span}", size=11, colour=WEAK)
    _draw_headlines(pdf, figures)
    _draw_days(pdf, figures.parts["day"])
    y = _draw_table(pdf, 415, "Sales by region", figures.parts["region"])
    _draw_table(pdf, y - 30, "Sales by product", figures.parts["product"])
    pdf.box(LEFT, 58, RIGHT - LEFT, 0.5, GREY)
    pdf.text(
        LEFT, 44, f"Source: {warehouse_path(folder).name}, revenue in EUR.", size=8, colour=GREY
    )
    path = folder / "reports" / f"weekly-report-{figures.week}.pdf"
    put(path, pdf.to_bytes())
    print(f"Wrote {path} ({path.stat().st_size:,} bytes)")
    return path


@task(estimated_time=20)
def write_mail(folder: Path, figures: Figures, pdf: Path, recipients: list[str]) -> Path:
    """Put the mail with the report into the outbox"""
    mail = EmailMessage()
    mail["Subject"] = f"Weekly sales {figures.week}: {euros(figures.cents)} EUR"
    mail["From"] = SENDER
    mail["To"] = ", ".join(recipients)
    mail["Date"] = format_datetime(localtime())
    mail["Message-ID"] = make_msgid(domain=SENDER.partition("@")[2])
    best = max(figures.parts["day"], key=lambda part: part.cents)
    mail.set_content(
        f"Week {figures.week} ({figures.span})\n\n"
        f"Revenue    {euros(figures.cents)} EUR ({_change(figures.cents, figures.before)})\n"
        f"Orders     {figures.orders:,} ({_change(figures.orders, figures.earlier_orders)})\n"
        f"Customers  {figures.customers:,}"
        f" ({_change(figures.customers, figures.earlier_customers)})\n\n"
        f"The best day was {date.fromisoformat(best.name):%A} with {euros(best.cents)} EUR.\n"
        f"{figures.parts['region'][0].name} is the strongest region,"
        f" {figures.parts['product'][0].name} the strongest product.\n"
        "The page attached has the rest.\n"
    )
    mail.add_attachment(pdf.read_bytes(), maintype="application", subtype="pdf", filename=pdf.name)
    path = folder / "outbox" / f"{pdf.stem}.eml"
    put(path, mail.as_bytes(policy=email.policy.SMTP))
    print(f"Wrote {path} to {mail['To']}")
    return path


@task(estimated_time=50)
def check_mail(path: Path, pdf: Path) -> TaskResult:
    """Read the mail as its recipients will"""
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    attached = [part.get_content() for part in mail.iter_attachments()]
    passed = attached == [pdf.read_bytes()] and attached[0].startswith(b"%PDF-")
    headers = {name: str(mail[name]) for name in ("Subject", "To", "Date")}
    for name, value in headers.items():
        print(f"{name}: {value}")
    return TaskResult(
        passed=passed,
        note=f"{pdf.name} is {'attached' if passed else 'NOT attached'} to {path.name}",
        table=[{"header": name, "value": value} for name, value in headers.items()],
    )


@task(estimated_time=500, crucial_pass=False)
def send_mail(path: Path, host: str, port: int) -> TaskResult:
    """Hand the mail to the mail server"""
    # Not crucial: the mail stays in the outbox, whatever the server says.
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.SMTP)
    with smtplib.SMTP(host, port, timeout=10) as server:
        refused = server.send_message(mail)
    print(f"{host}:{port} took the mail")
    return TaskResult(
        passed=not refused,
        note=f"refused: {', '.join(refused)}" if refused else f"sent through {host}:{port}",
    )


@flow(
    name="Weekly Executive Report",
    description="Generate the PDF report of last week's sales and email it",
    tags={"team": "analytics", "domain": "sales", "audience": "executives", "version": "v1.0"},
    schedule=CronSchedule("0 7 * * MON"),
)
def executive_report(
    folder: str | None = None, week: str | None = None, recipients: list[str] | None = None
) -> dict[str, Any]:
    """Write the report of a week and mail it.

    Args:
        folder: where the warehouse is; default: ``examples`` in perfect's home.
        week: as 2026-W14; default: the last complete one.
        recipients: default: board@example.com.
    """
    path = workspace(folder)
    if not warehouse_path(path).exists():
        print("There is no warehouse yet: running Daily Sales ETL first")
        daily_sales_etl(folder=str(path))
    monday = choose_week(path, week)
    figures = gather_figures(path, monday)
    check_figures(figures)
    pdf = write_pdf(path, figures)
    mail = write_mail(path, figures, pdf, recipients or list(RECIPIENTS))
    check_mail(mail, pdf)
    host = os.environ.get("SMTP_HOST")
    sent = send_mail(mail, host, int(os.environ.get("SMTP_PORT", "25"))) if host else None
    if not host:
        print("SMTP_HOST is not set: the mail stays in the outbox")
    return {
        "week": figures.week,
        "revenue": figures.cents / 100,
        "orders": figures.orders,
        "report": str(pdf),
        "mail": str(mail),
        "sent": sent is not None and sent.passed,
    }


def _year_and_week(week: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{4})-W(\d\d)", week)
    if found is None:
        raise ValueError(f"week={week!r} is not written like 2026-W14")
    return int(found[1]), int(found[2])


def _week_of(monday: date) -> tuple[str, str]:
    return str(monday), str(monday + timedelta(days=6))


def _totals(database: sqlite3.Connection, monday: date) -> tuple[int, int, int]:
    """Orders, customers and cents of a week."""
    orders, customers, cents = database.execute(
        "SELECT count(*), count(DISTINCT customer), ifnull(sum(cents), 0) FROM orders"
        " WHERE day BETWEEN ? AND ?",
        _week_of(monday),
    ).fetchone()
    return orders, customers, cents


def _parts(database: sqlite3.Connection, column: str, monday: date) -> list[Part]:
    """The week by region or product, strongest first, or by day in order."""
    days = _week_of(monday)
    key = f"date({column}, '+7 days')" if column == "day" else column
    before = dict(
        database.execute(
            f"SELECT {key}, sum(cents) FROM daily_totals WHERE day BETWEEN ? AND ? GROUP BY 1",
            _week_of(monday - timedelta(days=7)),
        )
    )
    order = "1" if column == "day" else "sum(cents) DESC"
    return [
        Part(name, orders, units, cents, before.get(name, 0))
        for name, orders, units, cents in database.execute(
            f"SELECT {column}, sum(orders), sum(units), sum(cents) FROM daily_totals"
            f" WHERE day BETWEEN ? AND ? GROUP BY 1 ORDER BY {order}",
            days,
        )
    ]


def _change(now: int, before: int) -> str:
    return f"{(now - before) / before:+.1%}" if before else "n/a"


def _draw_headlines(pdf: Pdf, figures: Figures) -> None:
    average = figures.cents // max(1, figures.orders)
    earlier = figures.before // figures.earlier_orders if figures.earlier_orders else 0
    headlines = [
        ("Revenue", euros(figures.cents), _change(figures.cents, figures.before)),
        ("Orders", f"{figures.orders:,}", _change(figures.orders, figures.earlier_orders)),
        ("Average order", euros(average), _change(average, earlier)),
        (
            "Customers",
            f"{figures.customers:,}",
            _change(figures.customers, figures.earlier_customers),
        ),
    ]
    for number, (name, value, change) in enumerate(headlines):
        x = LEFT + number * 125
        pdf.box(x, 690, 120, 62, PALE)
        pdf.text(x + 10, 735, name, size=9, colour=GREY)
        pdf.text(x + 10, 714, value, size=17, bold=True, colour=INK)
        pdf.text(x + 10, 699, f"{change} to the week before", size=8, colour=GREY)


def _draw_days(pdf: Pdf, days: list[Part]) -> None:
    pdf.text(LEFT, 660, "Revenue by day", size=13, bold=True, colour=INK)
    pdf.box(RIGHT - 150, 661, 8, 8, STRONG)
    pdf.text(RIGHT - 138, 661, "this week", size=8, colour=GREY)
    pdf.box(RIGHT - 80, 661, 8, 8, WEAK)
    pdf.text(RIGHT - 68, 661, "the week before", size=8, colour=GREY)
    most = max(max(day.cents, day.before) for day in days)
    for number, day in enumerate(days):
        x = LEFT + number * 71
        pdf.box(x, 480, 28, 150 * day.before / most, WEAK)
        pdf.box(x + 30, 480, 28, 150 * day.cents / most, STRONG)
        amount = f"{day.cents / 100_000:,.1f}k"
        pdf.text(x + 58, 484 + 150 * day.cents / most, amount, size=8, right=True, colour=INK)
        pdf.text(x, 466, f"{date.fromisoformat(day.name):%a %d %b}", size=9, colour=INK)
    pdf.box(LEFT, 479, RIGHT - LEFT, 0.7, GREY)


def _draw_table(pdf: Pdf, y: float, title: str, parts: list[Part]) -> float:
    """Draw a table downwards from `y`; return where it ends."""
    columns = (250, 320, 420, 480, RIGHT)  # where the numbers end
    pdf.text(LEFT, y, title, size=13, bold=True, colour=INK)
    y -= 18
    for x, heading in zip(columns, ("Orders", "Units", "Revenue", "Share", "Change"), strict=True):
        pdf.text(x, y, heading, size=9, right=True, colour=GREY)
    total = sum(part.cents for part in parts)
    for number, part in enumerate(parts):
        y -= 16
        if number % 2 == 0:
            pdf.box(LEFT - 4, y - 4, RIGHT - LEFT + 8, 16, PALE)
        values = (
            f"{part.orders:,}",
            f"{part.units:,}",
            euros(part.cents),
            f"{part.cents / total:.1%}",
            _change(part.cents, part.before),
        )
        pdf.text(LEFT, y, part.name, colour=INK)
        for x, value in zip(columns, values, strict=True):
            pdf.text(x, y, value, right=True, colour=INK)
    return y


if __name__ == "__main__":
    print(executive_report())
