"""Answers: JSON by orjson, and the one shape of every failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from perfect.server.engine.refusals import Conflict, Invalid, Refusal, TooLarge, TooMany, Unknown
from perfect.server.store import Overloaded, StoreFailed

_STATUS = {Invalid: 400, Unknown: 404, Conflict: 409, TooLarge: 413, TooMany: 429}
RETRY_AFTER = "1"


class Json(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def failure(
    status: int, error: str, detail: Any = None, headers: dict[str, str] | None = None
) -> Json:
    """A failure: ``{"success": false, "error": "one sentence", "detail": …}``."""
    return Json({"success": False, "error": error, "detail": detail}, status, headers)


def install(app: FastAPI, lost: Callable[[Request], Response | None]) -> None:
    """Give every failure of the application the one shape.

    Args:
        app: whose failures these are.
        lost: a page for who is at an address that nothing is at.
    """

    @app.exception_handler(Refusal)
    async def _refused(_request: Request, error: Refusal) -> Response:
        headers = {"Retry-After": RETRY_AFTER} if isinstance(error, TooMany) else None
        return failure(_STATUS[type(error)], error.message, error.detail, headers)

    @app.exception_handler(Overloaded)
    async def _overloaded(_request: Request, error: Overloaded) -> Response:
        return failure(503, str(error), headers={"Retry-After": RETRY_AFTER})

    @app.exception_handler(StoreFailed)
    async def _store_failed(_request: Request, error: StoreFailed) -> Response:
        return failure(503, str(error), headers={"Retry-After": RETRY_AFTER})

    @app.exception_handler(ClientDisconnect)
    async def _left(_request: Request, _error: ClientDisconnect) -> Response:
        return failure(400, "the connection was closed before the body had arrived")

    @app.exception_handler(RequestValidationError)
    async def _wrong(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return failure(400, f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers) if error.headers else None
        if error.status_code == 404 and error.detail == "Not Found":
            return lost(request) or failure(
                404, "there is nothing at this address", request.url.path, headers
            )
        return failure(error.status_code, str(error.detail), headers=headers)

    @app.exception_handler(Exception)
    async def _broken(_request: Request, _error: Exception) -> Response:
        return failure(500, "the backend failed; its log says why")
