"""Watching: the event stream, and who is connected."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from perfect.server.engine.news import Newsroom
from perfect.server.engine.stream import Stream
from perfect.server.routes import schemas as s
from perfect.server.routes.access import login_of
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import TheBackend

router = APIRouter(default_response_class=Json)

# seconds between two signs of life on a stream on which nothing happens
KEEP_ALIVE = 15.0

_SESSION = s.obj(
    {
        "session": s.TEXT,
        "native": s.TRUTH,
        "protocol": s.INTEGER,
        "agent": s.nullable(s.TEXT),
        "firstSeen": s.TIME,
        "lastSeen": s.TIME,
        "polling": s.TRUTH,
        "freeSlots": s.nullable(s.INTEGER),
        "concurrency": s.nullable(s.INTEGER),
        "flows": s.array(s.TEXT),
        "flowCount": s.INTEGER,
        "activeRuns": s.array(s.TEXT),
        "activeRunCount": s.INTEGER,
    }
)
_CLIENT = s.obj({"clientId": s.TEXT, "sessions": s.array(_SESSION), "sessionCount": s.INTEGER})


class EventStream(Response):
    """Server-sent events until the peer leaves or the backend stops.

    Args:
        newsroom: where the events come from.
        stream: the opened stream.
        place: held while it is open.
    """

    media_type = "text/event-stream"

    def __init__(
        self, newsroom: Newsroom, stream: Stream, place: AbstractContextManager[None]
    ) -> None:
        # no-transform and X-Accel-Buffering: a proxy that compresses or buffers would hold events back
        headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._newsroom = newsroom
        self._stream = stream
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what comes."""
        stream = self._stream
        leaving = asyncio.ensure_future(self._until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send(_piece(b"retry: 1000\n\n"))
            while not stream.over:
                try:
                    async with asyncio.timeout(KEEP_ALIVE):
                        await stream.wake.wait()
                except TimeoutError:
                    await send(_piece(b": still here\n\n"))
                    continue
                await send(_piece(stream.take()))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            leaving.cancel()
            self._newsroom.leave(stream)
            self._place.__exit__(None, None, None)

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._stream.end()


def _piece(data: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": True}


@router.get(
    "/api/stream",
    tags=["native"],
    summary="What happens, as server-sent events",
    description="Events `run`, `flow`, `client` and `schedule`; with `run`, events of that run only, and `task` and "
    "`log` beside them. Their data is the JSON of the other requests, tasks and lines in lists. The first event is "
    "`ready`: read the state after it. `reset` says that something was missed: read the state again.",
    response_class=Response,
    responses=s.answers(s.TEXT, 404)
    | {200: {"description": "Events", "content": {"text/event-stream": {"schema": s.TEXT}}}},
)
async def stream(
    request: Request,
    backend: TheBackend,
    run: Annotated[str | None, Query(description="id of a run")] = None,
    last_event_id: Annotated[
        str | None, Header(description="id of the last event that was seen")
    ] = None,
) -> Response:
    place = backend.streams.take(request.client.host if request.client else "")
    place.__enter__()
    try:
        opened = await backend.news.open(run or None, last_event_id, login_of(request))
    except BaseException:
        place.__exit__(None, None, None)
        raise
    return EventStream(backend.news, opened, place)


@router.get(
    "/api/clients",
    tags=["native"],
    summary="Who is connected",
    responses=s.answers(s.obj({"clients": s.array(_CLIENT)})),
)
def clients(backend: TheBackend) -> Json:
    with backend.read() as connection:
        return Json({"clients": backend.clients.listed(connection)})
