"""Infrastructure Health Check: probe this machine, the Perfect backend and the warehouse.

Run it: ``python examples/workflows/infrastructure_health.py``. A probe that fails is noted and the
others go on; each check is added to ``health.csv``, and the next one compares itself with it.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import tempfile
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from perfect import IntervalSchedule, TaskResult, flow, task
from perfect.session import get_session

if TYPE_CHECKING or __package__:
    from .workspace import open_warehouse, warehouse_path, workspace
else:
    from workspace import open_warehouse, warehouse_path, workspace

LEAST_FREE = 0.05  # of a disk, and of the memory
WRITTEN = 16 << 20  # bytes
ASKED = 5  # requests to each address
PATIENCE = 2.0  # s for one answer

HISTORY = ["checked", "healthy", "failed", "backend ms", "write MB/s"]


@task(estimated_time=20, crucial_pass=False)
def probe_disks(folder: Path) -> TaskResult:
    """Look how full the disks are"""
    table: list[dict[str, Any]] = []
    seen: set[int] = set()
    for place in (Path("/"), Path.home(), Path(tempfile.gettempdir()), folder):
        if not place.exists() or place.stat().st_dev in seen:
            continue
        seen.add(place.stat().st_dev)
        usage = shutil.disk_usage(place)
        free = usage.free / usage.total if usage.total else 0.0
        print(f"{place}: {usage.free / 1e9:,.1f} of {usage.total / 1e9:,.1f} GB free ({free:.0%})")
        table.append(
            {
                "disk of": str(place),
                "free": f"{free:.0%}",
                "free GB": round(usage.free / 1e9, 1),
                "total GB": round(usage.total / 1e9, 1),
                "passed": free >= LEAST_FREE,
            }
        )
    return _probed(table, f"at least {LEAST_FREE:.0%} free on every disk")


@task(estimated_time=100, crucial_pass=False)
def probe_writing(folder: Path) -> TaskResult:
    """Write a file to the disk and read it back"""
    data = os.urandom(1 << 20)
    digests = [hashlib.sha256(), hashlib.sha256()]
    with tempfile.TemporaryFile(dir=folder) as file:
        began = perf_counter()
        for _ in range(WRITTEN // len(data)):
            file.write(data)
            digests[0].update(data)
        file.flush()
        os.fsync(file.fileno())
        took = perf_counter() - began
        file.seek(0)
        while block := file.read(len(data)):
            digests[1].update(block)
    same = digests[0].digest() == digests[1].digest()
    row = {
        "folder": str(folder),
        "read back": "the same" if same else "something else",
        "MB": WRITTEN / 1e6,
        "write MB/s": round(WRITTEN / took / 1e6, 1),
        "passed": same,
    }
    print(f"{row['MB']:.0f} MB at {row['write MB/s']} MB/s, read back {row['read back']}")
    return _probed([row], f"{row['write MB/s']} MB/s to the disk")


@task(estimated_time=20, crucial_pass=False)
def probe_machine() -> TaskResult:
    """Look at the processors and the memory"""
    cores = os.cpu_count() or 1
    load = os.getloadavg()[1]
    table: list[dict[str, Any]] = [
        # Waiting for long is a nuisance and no failure: others may use the machine as well.
        {"measure": "load per core (5 min)", "value": round(load / cores, 2), "passed": True},
        {"measure": "cores", "value": cores, "passed": True},
    ]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():  # Linux
        pairs = (line.split(":") for line in meminfo.read_text(encoding="ascii").splitlines())
        kib = {name: int(value.split()[0]) for name, value in pairs}
        free = kib["MemAvailable"] / kib["MemTotal"]
        table += [
            {"measure": "available memory", "value": f"{free:.0%}", "passed": free >= LEAST_FREE},
            {
                "measure": "memory GB",
                "value": round(kib["MemTotal"] * 1024 / 1e9, 1),
                "passed": True,
            },
        ]
    for row in table:
        print(f"{row['measure']}: {row['value']}")
    return _probed(table, f"{cores} cores, load {load:.2f}")


@task(estimated_time=100, crucial_pass=False)
def probe_backend(url: str, api_key: str | None) -> TaskResult:
    """Ask the Perfect backend how it is, a few times"""
    table = [_ask(f"{url}{path}", api_key) for path in ("/api/version", "/api/engine/flows")]
    for row in table:
        print(f"{row['address']}: {row['answer']}, {row['median ms']} ms")
    if not all(row["passed"] for row in table):
        print("Is it running? Start it with: perfect server")
    return _probed(table, f"{url} answers within {max(row['slowest ms'] for row in table)} ms")


@task(estimated_time=100, crucial_pass=False)
def probe_warehouse(folder: Path) -> TaskResult:
    """Check that the warehouse is sound, and how old its newest orders are"""
    if not warehouse_path(folder).exists():
        note = f"there is no {warehouse_path(folder)} yet: Daily Sales ETL makes it"
        print(note)
        return TaskResult(passed=False, note=note)
    began = perf_counter()
    with open_warehouse(folder) as database:
        verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        orders, newest = database.execute("SELECT count(*), max(day) FROM orders").fetchone()
    row = {
        "database": str(warehouse_path(folder)),
        "quick_check": verdict,
        "orders": orders,
        "newest": newest,
        "MB": round(warehouse_path(folder).stat().st_size / 1e6, 1),
        "ms": round((perf_counter() - began) * 1000, 1),
        "passed": verdict == "ok" and orders > 0,
    }
    print(f"{orders:,} orders up to {newest}, quick_check says {verdict} ({row['ms']} ms)")
    return _probed([row], f"{orders:,} orders up to {newest}")


@task(estimated_time=50)
def record_check(folder: Path, probes: dict[str, TaskResult | None]) -> TaskResult:
    """Sum the probes up, compare them with earlier checks and add them to the history"""
    # A probe that raised has no result.
    table: list[dict[str, Any]] = [
        {
            "probe": name,
            "passed": result is not None and result.passed,
            "note": "it broke off: see its log" if result is None else result.note,
        }
        for name, result in probes.items()
    ]
    failed = [row["probe"] for row in table if not row["passed"]]
    history = folder / "health.csv"
    earlier: list[dict[str, str]] = []
    if history.exists():
        with history.open(newline="", encoding="utf-8") as file:
            earlier = list(csv.DictReader(file))
    now = {
        "checked": datetime.now(UTC).isoformat(timespec="seconds"),
        "healthy": "no" if failed else "yes",
        "failed": " ".join(failed),
        "backend ms": _value(probes["backend"], "median ms"),
        "write MB/s": _value(probes["writing"], "write MB/s"),
    }
    with history.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HISTORY, lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(now)
    for measure in ("backend ms", "write MB/s"):
        before = [float(row[measure]) for row in earlier[-20:] if row.get(measure)]
        if before and now[measure]:
            print(
                f"{measure}: {now[measure]}, before {median(before):.1f} (of {len(before)} checks)"
            )
    note = f"{len(table) - len(failed)} of {len(table)} probes passed"
    note += f"; failed: {', '.join(failed)}" if failed else ""
    print(note)
    return TaskResult(passed=True, note=note, table=table)


@flow(
    name="Infrastructure Health Check",
    description="Probe disks, memory, the Perfect backend and the warehouse",
    tags={"team": "platform", "domain": "operations", "version": "v1.0"},
    schedule=IntervalSchedule("*/5 * * * *"),
)
def infrastructure_health(folder: str | None = None) -> dict[str, Any]:
    """Check everything once; what fails is in the result, not an exception.

    Args:
        folder: where the warehouse and the history are; default: ``examples`` in perfect's home.
    """
    path = workspace(folder)
    settings = get_session().settings
    probes: dict[str, TaskResult | None] = {
        "disks": probe_disks(path),
        "writing": probe_writing(path),
        "machine": probe_machine(),
        "backend": probe_backend(settings.backend_url, settings.api_key),
        "warehouse": probe_warehouse(path),
    }
    summary = record_check(path, probes)
    failed = [row["probe"] for row in summary.table if not row["passed"]]
    return {"healthy": not failed, "probes": len(probes), "failed": failed, "note": summary.note}


def _probed(table: list[dict[str, Any]], note: str) -> TaskResult:
    """A probe's result: it passes if every row does; else the note is what and how, two columns."""
    failed = [list(row.values()) for row in table if not row["passed"]]
    if failed:
        note = "; ".join(f"{what}: {how}" for what, how, *_ in failed)
    return TaskResult(passed=not failed, note=note, table=table)


def _value(probe: TaskResult | None, column: str) -> str:
    """A number of a probe's last row, or nothing if the probe failed."""
    return str(probe.table[-1][column]) if probe is not None and probe.passed else ""


class _Stay(HTTPRedirectHandler):
    """A redirect is an answer; following it would carry the key elsewhere."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _ask(address: str, api_key: str | None) -> dict[str, Any]:
    """Fetch an address some times; any answer but a server error (5xx) will do."""
    request = Request(address, headers={"Authorization": f"Bearer {api_key}"} if api_key else {})
    opener = build_opener(_Stay, ProxyHandler({}))
    times: list[float] = []
    answer = "none"
    passed = True
    while passed and len(times) < ASKED:
        began = perf_counter()
        try:
            with opener.open(request, timeout=PATIENCE) as response:
                response.read()
                answer = str(response.status)
        except HTTPError as error:
            error.close()
            answer, passed = str(error.code), error.code < 500
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            answer, passed = f"none, {getattr(reason, 'strerror', None) or reason}", False
        times.append((perf_counter() - began) * 1000)
    return {
        "address": address,
        "answer": answer,
        "median ms": round(median(times), 1),
        "slowest ms": round(max(times), 1),
        "passed": passed,
    }


if __name__ == "__main__":
    print(infrastructure_health())
