"""`GET /metrics` for Prometheus.

Everything is counted in memory as it happens; what stands in the database is counted by index, and at most every
five seconds. Each application has a registry of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from perfect import __version__
from perfect.server.engine.backend import Backend
from perfect.server.routes import schemas as s
from perfect.server.routes.observer import Answered
from perfect.server.store import census

router = APIRouter()

_FRESH = 5.0


class Metrics(Collector):
    """Reads the backend's numbers when it is asked.

    Args:
        backend: whose.
        answered: how requests were answered.
    """

    def __init__(self, backend: Backend, answered: Answered) -> None:
        self._backend = backend
        self._answered = answered
        self._census = census.Census({}, {}, 0)
        self._counted = float("-inf")
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    async def page(self) -> bytes:
        """The metrics as text."""
        now = time.monotonic()
        if now - self._counted >= _FRESH:
            self._counted = now
            self._census = await asyncio.to_thread(self._count)
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        """Every number, named and explained."""
        backend, tally = self._backend, self._backend.context.tally
        info = GaugeMetricFamily("perfect_build", "Always 1", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield _gauge("uptime_seconds", "Seconds since the start", backend.uptime())
        runs = GaugeMetricFamily("perfect_runs", "Runs that are not over", labels=["state"])
        for state, number in sorted(self._census.runs.items()):
            runs.add_metric([state], number)
        yield runs
        requests = GaugeMetricFamily(
            "perfect_requests", "Execution requests nobody has claimed", labels=["state"]
        )
        for state, number in sorted(self._census.requests.items()):
            requests.add_metric([state], number)
        yield requests
        yield _counter("runs_created", "Runs that were entered", tally.started)
        ended = CounterMetricFamily("perfect_runs_ended", "Runs that ended", labels=["state"])
        for state, number in sorted(tally.ended.items()):
            ended.add_metric([state], number)
        yield ended
        yield _counter("tasks_created", "Tasks that were entered", tally.tasks)
        yield _counter("events", "Native events that were applied", tally.events)
        yield _counter("events_rejected", "Native events that were refused", tally.rejected)
        yield _counter("log_lines", "Lines of logs that were kept", tally.lines)
        yield self._latency()
        jobs, size = backend.queue
        yield _gauge("writer_queue_jobs", "Jobs that wait for the writer", jobs)
        yield _gauge("writer_queue_bytes", "Bytes that wait for the writer", size)
        yield _counter("commits", "Transactions that were committed", backend.commits)
        yield _gauge("open_polls", "Long polls that are open", backend.polls.open)
        yield _gauge("open_streams", "Event streams that are open", backend.streams.open)
        yield _counter("stream_events", "Events that were published", backend.news.hub.sent)
        yield _counter("stream_resets", "Streams that did not keep up", backend.news.hub.resets)
        yield _gauge("sessions", "Connected sessions", len(backend.clients.connected()))
        yield _gauge("database_bytes", "Size of the database", self._census.size)
        http = CounterMetricFamily(
            "perfect_http_requests", "Answered requests", labels=["method", "route", "status"]
        )
        for (method, route, status), number in sorted(self._answered.counts.items()):
            http.add_metric([method, route, str(status)], number)
        yield http

    def _latency(self) -> Metric:
        counted = self._backend.ingest_time
        return HistogramMetricFamily(
            "perfect_ingest_seconds",
            "From a batch's arrival to its commit",
            buckets=[*((f"{bound:g}", n) for bound, n in counted.up_to()), ("+Inf", counted.count)],
            sum_value=counted.total,
        )

    def _count(self) -> census.Census:
        with self._backend.read() as connection:
            return census.take(connection)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"perfect_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"perfect_{name}", text, value=value)


@router.get(
    "/metrics",
    tags=["native"],
    summary="Numbers for Prometheus",
    response_class=Response,
    responses=s.answers(s.TEXT)
    | {200: {"description": "Metrics", "content": {"text/plain": {"schema": s.TEXT}}}},
)
async def metrics(request: Request) -> Response:
    collector: Metrics = request.app.state.metrics
    return Response(await collector.page(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
