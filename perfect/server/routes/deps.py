"""What routes ask for: the backend, and who is speaking."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from perfect.server.engine import registry
from perfect.server.engine.access import READ
from perfect.server.engine.backend import Backend
from perfect.server.engine.refusals import Invalid, shown
from perfect.server.engine.speaker import Speaker
from perfect.server.routes import body
from perfect.server.routes.access import ONLY_READS
from perfect.server.store.records import Actor

_SESSION = re.compile(r"[A-Za-z0-9._:-]{1,200}")
_LONGEST_CLIENT = 200


# All of these are coroutines because FastAPI runs plain functions in a thread each.


async def backend_of(request: Request) -> Backend:
    """The backend of this application."""
    backend: Backend = request.app.state.backend
    return backend


TheBackend = Annotated[Backend, Depends(backend_of)]


async def speaker_of(request: Request) -> Speaker:
    """Who sends a request: its client and session headers, or where they are missing its address.

    Raises:
        Invalid: a header is not what it should be.
    """
    client = request.headers.get("x-perfect-client", "")
    session = request.headers.get("x-perfect-session", "")
    if len(client) > _LONGEST_CLIENT:
        raise Invalid(f"X-Perfect-Client: has more than {_LONGEST_CLIENT} characters")
    if session and not _SESSION.fullmatch(session):
        raise Invalid(f"X-Perfect-Session={shown(session)}: is not an id")
    agent = request.headers.get("user-agent", "")[:_LONGEST_CLIENT]
    if session:
        return Speaker(session, client, native=True, agent=agent)
    address = request.client.host if request.client else ""
    return Speaker(f"@{address}/{client}", client, native=False, agent=agent)


TheSpeaker = Annotated[Speaker, Depends(speaker_of)]


async def caller_of(request: Request) -> Actor:
    """Who asks, as far as the token tells; for the audit table."""
    caller: Actor = request.state.caller
    return caller


TheCaller = Annotated[Actor, Depends(caller_of)]


async def may_change(caller: TheCaller) -> None:
    """For what changes something although it is a GET, and for what is not for everyone.

    Raises:
        HTTPException: 403 for one who may only read.
    """
    if caller.kind == READ:
        raise HTTPException(403, ONLY_READS)


async def object_of(request: Request) -> dict[str, Any]:
    """The JSON object in the body of a request."""
    backend = await backend_of(request)
    return await body.read_object(request, backend.settings)


TheBody = Annotated[dict[str, Any], Depends(object_of)]


async def checked_parameters(backend: Backend, flow_id: str, given: Any) -> str | None:
    """The values that a run of a flow is asked for with, as JSON text, checked in a thread.

    Raises:
        Unknown: there is no such flow.
        Invalid: they are not what it takes.
    """

    def check() -> str | None:
        with backend.read() as connection:
            return registry.checked_parameters(connection, flow_id, given, backend.settings.limits)

    return await asyncio.to_thread(check)


async def gone(request: Request) -> None:
    """Return when the peer has closed the connection; for requests whose body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
