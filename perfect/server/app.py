"""The application factory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from perfect import __version__
from perfect.server.accesslog import AccessLog
from perfect.server.courier import Courier
from perfect.server.engine.backend import Backend
from perfect.server.engine.clock import Clock
from perfect.server.routes import (
    access,
    answers,
    audit,
    classic,
    control,
    cors,
    dispatch,
    docs,
    flows,
    guard,
    login,
    logs,
    metrics,
    methods,
    native,
    notifications,
    observer,
    reports,
    runs,
    schedules,
    statistics,
    stream,
    tasks,
    ui,
)
from perfect.server.settings import ServerSettings


def create_app(settings: ServerSettings | None = None, clock: Clock | None = None) -> FastAPI:
    """The backend as an ASGI application.

    Args:
        settings: how it is set up; the defaults when None.
        clock: the time; the machine's when None.

    Raises:
        ConfigurationError: the database can't be opened.
    """
    settings = settings or ServerSettings()
    backend = Backend(settings, clock)
    courier = Courier(backend)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await backend.start()
        courier.start()
        try:
            yield
        finally:
            await courier.stop()
            await backend.stop()
            if log is not None:
                log.close()

    app = FastAPI(
        title="perfect",
        version=__version__,
        description="The backend of perfect: flows, runs and what became of them.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.backend = backend
    answered = observer.Answered()
    app.state.metrics = metrics.Metrics(backend, answered)
    answers.install(app, ui.lost)
    methods.install(app, settings.base_path)
    docs.install(app)
    # the last one added is the first one asked
    app.add_middleware(methods.Head, base=settings.base_path)
    app.add_middleware(access.Access, backend=backend)
    if settings.allow_origins:
        app.add_middleware(
            cors.Cors,
            allow_origins=settings.allow_origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Content-Encoding", "Last-Event-ID"],
        )
    app.add_middleware(guard.Guard, settings=settings)
    log = AccessLog() if settings.access_log else None
    app.add_middleware(observer.Observer, answered=answered, clock=backend.clock, log=log)
    # routes are tried in this order: those of clients come first, what a run waits for before all
    for module in (
        dispatch,
        native,
        flows,
        classic,
        runs,
        logs,
        tasks,
        schedules,
        control,
        stream,
        metrics,
        notifications,
        statistics,
        reports,
        docs,
        ui,
        audit,
        login,
    ):
        app.include_router(module.router)
    return app
