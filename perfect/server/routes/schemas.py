"""Shapes for the OpenAPI document. Requests are checked by the engine; these only describe."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer", "minimum": 0}
TRUTH: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
TIME: Schema = {"type": ["string", "null"], "format": "date-time"}


def array(items: Schema) -> Schema:
    """A list of such items."""
    return {"type": "array", "items": items}


def nullable(schema: Schema) -> Schema:
    """That, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def obj(required: dict[str, Schema], **optional: Schema) -> Schema:
    """An object with these fields."""
    shape: Schema = {"type": "object", "properties": required | optional}
    if required:
        shape["required"] = sorted(required)
    return shape


def success(**fields: Schema) -> Schema:
    """An answer that says it worked, with these fields."""
    return obj({"success": {"const": True}, **fields})


FAILURE = obj({"success": {"const": False}, "error": TEXT, "detail": {}})

# pairs of positions in the flow's tasks: the second comes after the first
EDGES = array({"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 2})
TASK_DEFINITION = obj(
    {"name": TEXT},
    description=TEXT,
    estimatedTime=INTEGER,
    crucialPass=TRUTH,
    weight=nullable(NUMBER),
)
REGISTRATION = obj(
    {"name": {"type": "string", "minLength": 1, "maxLength": 200}},
    description=TEXT,
    tags={"type": "object", "additionalProperties": TEXT},
    tasks=array(TASK_DEFINITION),
    schedule=nullable(
        {
            "anyOf": [
                TEXT,
                obj(
                    {},
                    cron=TEXT,
                    every_seconds=INTEGER,
                    timezone=TEXT,
                    catchup={"enum": ["skip", "latest", "all"]},
                    overlap={"enum": ["allow", "skip"]},
                    configuration=TEXT,
                    parameters=OBJECT,
                ),
            ]
        }
    ),
    parameters=nullable(OBJECT),
    edges=nullable(EDGES),
    resumes=TRUTH,
    autoTrigger=TRUTH,
    autoTriggerConfig=TEXT,
)
LAST_RUN = obj(
    {
        "id": TEXT,
        "state": TEXT,
        "createdAt": TIME,
        "startTime": TIME,
        "endTime": TIME,
        "durationMs": nullable(INTEGER),
        "cancelling": TRUTH,
    }
)
FLOW = obj(
    {
        "id": TEXT,
        "clientId": TEXT,
        "name": TEXT,
        "description": TEXT,
        "tags": OBJECT,
        "tasks": array(
            obj(
                {
                    "id": TEXT,
                    "name": TEXT,
                    "description": TEXT,
                    "weight": NUMBER,
                    "estimatedTime": INTEGER,
                    "crucialPass": TRUTH,
                }
            )
        ),
        "schedule": nullable({"type": ["string", "object"]}),
        "nextFire": TIME,
        "parameters": nullable(OBJECT),
        "edges": nullable(EDGES),
        "connected": TRUTH,
        "lastRun": nullable(LAST_RUN),
        "createdAt": TIME,
        "updatedAt": TIME,
    }
)
ATTEMPT = obj(
    {
        "attempt": INTEGER,
        "startTime": TIME,
        "endTime": TIME,
        "durationMs": nullable(INTEGER),
        "error": nullable(OBJECT),
        "reason": nullable(TEXT),
        "worker": nullable(TEXT),
    }
)
BRIEF_TASK = obj(
    {
        "id": TEXT,
        "taskId": nullable(TEXT),
        "index": INTEGER,
        "taskName": TEXT,
        "state": TEXT,
        "attempt": INTEGER,
        "startTime": TIME,
        "endTime": TIME,
        "durationMs": nullable(INTEGER),
        "weight": NUMBER,
        "estimatedTime": INTEGER,
        "progress": NUMBER,
        # the task tells its progress itself
        "ownProgress": TRUTH,
        "reason": nullable(TEXT),
        "crucialPass": TRUTH,
        "mapIndex": nullable(INTEGER),
        "upstream": nullable(array(INTEGER)),
        "performanceWarning": TRUTH,
        # when it runs longer than this, it is unusually slow
        "unusualAfterMs": nullable(INTEGER),
    }
)
_DETAILED: dict[str, Schema] = BRIEF_TASK["properties"] | {
    "result": nullable(OBJECT),
    "error": nullable(OBJECT),
}
WHOLE_TASK = obj(_DETAILED | {"attempts": array(ATTEMPT)})
TASK = obj(_DETAILED | {"logs": array(TEXT)}, attempts=array(ATTEMPT))
SUMMARY = obj(
    {
        "id": TEXT,
        "flowId": nullable(TEXT),
        "flowName": TEXT,
        "clientId": TEXT,
        "state": TEXT,
        "startTime": TIME,
        "endTime": TIME,
        "createdAt": TIME,
        "durationMs": nullable(INTEGER),
        "configuration": TEXT,
        "parameters": nullable(OBJECT),
        "tags": OBJECT,
        "trigger": TEXT,
        "parent": nullable(TEXT),
        "retryOf": nullable(TEXT),
        "progress": NUMBER,
        "taskCount": INTEGER,
        "logLines": INTEGER,
        "inferred": TRUTH,
        "cancelling": TRUTH,
        "reason": nullable(TEXT),
        "error": nullable(OBJECT),
        "reportPath": nullable(TEXT),
    }
)
RUN = obj(SUMMARY["properties"] | {"logs": array(TEXT), "tasks": array(TASK)})
LOG_LINE = obj(
    {
        "seq": INTEGER,
        "task": nullable(INTEGER),
        "stream": TEXT,
        "level": nullable(TEXT),
        "time": TIME,
        "text": TEXT,
    }
)
REPORT = obj(
    {
        "runId": TEXT,
        "filename": TEXT,
        "path": TEXT,
        "url": TEXT,
        "size": INTEGER,
        "createdAt": TIME,
        "modifiedAt": TIME,
        "flowState": TEXT,
        "configuration": TEXT,
        "tags": OBJECT,
    }
)


def answers(ok: Schema, *failures: int) -> dict[int | str, dict[str, Any]]:
    """The documented answers of a route.

    Args:
        ok: the JSON of the 200.
        failures: statuses it may answer beside those that any route may.
    """
    documented: dict[int | str, dict[str, Any]] = {200: _json("Done", ok)}
    for status in sorted({*failures, *_ANY}):
        documented[status] = _json(_MEANINGS[status], FAILURE)
    return documented


def accepts(schema: Schema, *, required: bool = True) -> dict[str, Any]:
    """The documented body of a route."""
    return {
        "requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}
    }


def _json(description: str, schema: Schema) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_MEANINGS = {
    400: "what was sent is wrong",
    401: "the token is missing or wrong",
    403: "the Host or Origin is not one of this backend's, or the token is one to read with",
    404: "There is no such thing",
    408: "The body took too long to arrive",
    409: "Too late, too early, or somebody else's",
    413: "The body is too large",
    414: "the address is too long",
    415: "Not an encoding or type this backend reads",
    429: "too many wrong tokens, long polls or streams: see Retry-After",
    431: "the headers are too long or too many",
    503: "too much is waiting, or the database would not take it: see Retry-After",
}
_ANY = (400, 401, 403, 414, 429, 431, 503)
_WITH_BODY = (408, 413, 415)
# what any route may answer, by status as it is written in the OpenAPI document
COMMON = {str(status): _MEANINGS[status] for status in _ANY}


def complete(document: Schema) -> None:
    """Make the OpenAPI document say what FastAPI doesn't know, and not say what isn't so.

    Args:
        document: the one that FastAPI made; it is changed.
    """
    components = document.setdefault("components", {})
    # answers to wrong parameters are 400 and of the one shape
    components["schemas"] = {"Failure": FAILURE}
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    failure = {"$ref": "#/components/schemas/Failure"}
    for methods in document["paths"].values():
        for operation in methods.values():
            answers = operation["responses"]
            answers.pop("422", None)
            if "requestBody" in operation:
                answers |= {str(status): _json(_MEANINGS[status], FAILURE) for status in _WITH_BODY}
            for answer in answers.values():
                for media in answer["content"].values():
                    if "anyOf" in media["schema"]:
                        # FastAPI takes what it does not know for text, and adds that to what we say
                        media["schema"].pop("type", None)
            for status, answer in answers.items():
                if not status.startswith("2"):
                    answer["content"]["application/json"]["schema"] = failure
            operation["responses"] = dict(sorted(answers.items()))
            operation["security"] = [{"token": []}]
