"""``/docs``: the routes as one plain page. FastAPI's own loads its scripts from elsewhere, which this must not."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import HTMLResponse

from perfect.server.pages import render
from perfect.server.routes.schemas import COMMON, complete

router = APIRouter(include_in_schema=False)


def install(app: FastAPI) -> None:
    """Complete the OpenAPI document when it is made."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            complete(made())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    document = request.app.openapi()
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append(
                {"path": path, "method": method.upper(), **operation}
            )
    base = request.app.state.backend.settings.base_path
    return render("docs.html", base=base, info=document["info"], groups=groups, common=COMMON)
