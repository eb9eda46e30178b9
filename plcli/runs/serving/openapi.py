"""The OpenAPI description of a server, and a page that shows it without anything from outside."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

_ERRORS = {
    "400": "The body is not valid, or a row is not; the message names the row.",
    "401": "The token is missing or wrong.",
    "413": "The body is too large.",
    "503": "Too many rows are waiting, or the server is ending; see Retry-After.",
}


def description(
    *, version: str, inputs: Sequence[str], most_rows: int, has_token: bool
) -> dict[str, Any]:
    """Return the description, OpenAPI 3.1.

    Args:
        version: the version of plcli.
        inputs: the columns that a row must have.
        most_rows: maximum number of rows in a request.
        has_token: whether requests need a token.
    """
    row: dict[str, Any] = {
        "type": "object",
        "required": list(inputs),
        "properties": {name: {} for name in inputs},
    }
    if len(inputs) == 1:
        row = {"oneOf": [{"type": "string"}, row]}
    asked = {
        "type": "object",
        "required": ["rows"],
        "additionalProperties": False,
        "properties": {"rows": {"type": "array", "maxItems": most_rows, "items": row}},
    }
    answered = {
        "type": "object",
        "required": ["predictions"],
        "properties": {"predictions": {"type": "array", "items": {"type": "object"}}},
    }
    predict = {
        "requestBody": {"required": True, "content": {"application/json": {"schema": asked}}},
        "responses": {"200": _json("A prediction for each row, in order.", answered)}
        | {
            code: _json(text, {"$ref": "#/components/schemas/Error"})
            for code, text in _ERRORS.items()
        },
    }
    error = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    components: dict[str, Any] = {"schemas": {"Error": error}}
    if has_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        predict["security"] = [{"token": []}]
    return {
        "openapi": "3.1.0",
        "info": {"title": "plcli serve", "version": version},
        "paths": {
            "/predict": {"post": {"summary": "Predict rows", "operationId": "predict", **predict}},
            "/invocations": {
                "post": {
                    "summary": "The same, as SageMaker calls it",
                    "operationId": "invocations",
                    **predict,
                }
            },
            "/health": _get("Whether the process lives, and which model it has"),
            "/ready": _get("Whether it takes requests; 503 while it starts and ends", "503"),
            "/ping": _get("The same, as SageMaker calls it", "503"),
            "/metrics": _get("Counts in the text format of Prometheus", kind="text/plain"),
        },
        "components": components,
    }


def _json(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _get(summary: str, *codes: str, kind: str = "application/json") -> dict[str, Any]:
    answers = {code: {"description": summary, "content": {kind: {}}} for code in ("200", *codes)}
    return {"get": {"summary": summary, "responses": answers}}


def page(described: Mapping[str, Any]) -> str:
    """Return an HTML page of a description."""
    parts = []
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            detail = {
                key: operation[key] for key in ("requestBody", "responses") if key in operation
            }
            parts.append(
                f"<details><summary><code>{method.upper()} {html.escape(path)}</code> "
                f"{html.escape(operation['summary'])}</summary>"
                f"<pre>{html.escape(json.dumps(detail, indent=2))}</pre></details>"
            )
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>plcli serve: API</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'><style>"
        ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;"
        "margin:2rem auto;padding:0 1rem}details{padding:.5rem 0;border-bottom:1px solid #8884}"
        "summary{cursor:pointer}pre{overflow:auto;font-size:.85rem}</style>"
        f"<h1>API</h1><p><a href='openapi.json'>openapi.json</a></p>{''.join(parts)}</html>"
    )
