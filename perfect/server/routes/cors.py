"""Pages of other origins, where they are allowed (CORS)."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from perfect.server.routes.answers import failure


class Cors(CORSMiddleware):
    """Starlette's, whose refusals are failures of the one shape."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """What a browser asks before it sends a request of another origin."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        refused = failure(answer.status_code, bytes(answer.body).decode())
        for name in ("access-control-allow-origin", "vary"):
            if name in answer.headers:
                refused.headers[name] = answer.headers[name]
        return refused
