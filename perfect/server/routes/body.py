"""Reading request bodies: bounded in size, also after decompression, in time and in depth.

Compressed bodies are inflated piece by piece and given up at the limit, so a bomb costs what a plain body of that size
costs. There is no limit on the ratio: lines that repeat themselves are honestly compressed a thousandfold.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Any
from urllib.parse import parse_qs

import orjson
from fastapi import Request
from starlette.exceptions import HTTPException

from perfect.server.engine import values
from perfect.server.engine.refusals import Invalid
from perfect.server.settings import ServerSettings

# gzip may inflate a piece of the body a thousandfold: so much of it is made at a time
_PIECE = 1024 * 1024
# forms have a field or two
_LONGEST_FORM = 16 * 1024
_MOST_FIELDS = 20
_GZIP = 16 + zlib.MAX_WBITS


async def read(request: Request, settings: ServerSettings, *, longest: int | None = None) -> bytes:
    """The body, decompressed.

    Args:
        request: its request.
        settings: the backend's.
        longest: bytes it may have, where that is less than usual.

    Raises:
        HTTPException: 413 beyond the limit, 408 too slow, 415 an unknown encoding.
        Invalid: it is not what its encoding says.
    """
    limit = settings.limits.body if longest is None else min(longest, settings.limits.body)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("gzip", "identity"):
        raise HTTPException(415, f"content-encoding {encoding[:40]!r} is not gzip")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(settings.body_timeout):
            return await (
                _gunzipped(request, limit) if encoding == "gzip" else _plain(request, limit)
            )
    except TimeoutError:
        raise HTTPException(408, "the body took too long to arrive") from None


async def read_json(request: Request, settings: ServerSettings) -> bytes:
    """A body that is to be JSON, if it is there at all; it is not parsed yet.

    Raises:
        HTTPException: as ``read``, and 415 when it is said to be something else.
    """
    body = await read(request, settings)
    if body:
        _check_type(request, "application/json")
    return body


async def read_object(request: Request, settings: ServerSettings) -> dict[str, Any]:
    """The body as a JSON object; an empty body is an empty object.

    Of a name that is there twice, the last counts.

    Raises:
        HTTPException: as ``read_json``.
        Invalid: it is not.
    """
    body = await read_json(request, settings)
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid("the body is not JSON", str(error)) from None
    values.depth("the body", value, settings.limits.depth)
    if not isinstance(value, dict):
        raise Invalid("the body is not a JSON object")
    return value


def json_of(field: str, text: str | None, settings: ServerSettings) -> Any:
    """The JSON that a field of a form holds; None if it is empty.

    Raises:
        Invalid: it is none.
    """
    if text is None or not text.strip():
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"{field}: is not JSON", str(error)) from None
    values.depth(field, value, settings.limits.depth)
    return value


async def read_form(request: Request, settings: ServerSettings) -> dict[str, str]:
    """The fields of a form, the first of each name.

    Raises:
        HTTPException: as ``read``, and 415 when it is said to be something else.
        Invalid: it is not.
    """
    body = await read(request, settings, longest=_LONGEST_FORM)
    if body:
        _check_type(request, "application/x-www-form-urlencoded")
    try:
        found = parse_qs(body.decode(), max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError:
        raise Invalid("the form is not readable") from None
    return {name: given[0] for name, given in found.items()}


def _check_type(request: Request, wanted: str) -> None:
    # who says nothing is believed to mean what is expected
    given = request.headers.get("content-type", wanted).partition(";")[0].strip().lower()
    if given != wanted:
        raise HTTPException(415, f"content-type {given[:80]!r} is not {wanted}")


async def _plain(request: Request, limit: int) -> bytes:
    pieces = bytearray()
    async for piece in request.stream():
        pieces += piece
        if len(pieces) > limit:
            raise _too_large(limit)
    return bytes(pieces)


async def _gunzipped(request: Request, limit: int) -> bytes:
    inflate = zlib.decompressobj(_GZIP)
    pieces = bytearray()
    try:
        async for piece in request.stream():
            while True:
                inflated = inflate.decompress(piece, _PIECE)
                pieces += inflated
                if len(pieces) > limit:
                    raise _too_large(limit)
                piece = inflate.unconsumed_tail
                if not piece and len(inflated) < _PIECE:
                    break
    except zlib.error as error:
        raise Invalid("the body is not gzip", str(error)) from None
    if not inflate.eof or inflate.unused_data:
        raise Invalid("the body is not gzip", "it ends too early, or goes on after its end")
    return bytes(pieces)


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"the body has more than {limit} bytes")
