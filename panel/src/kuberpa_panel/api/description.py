"""The description of the REST API names every refusal: each is a problem (RFC 9457), of any operation."""

from typing import Any, Final

from fastapi import FastAPI

from kuberpa_panel.api.problems import MEDIA_TYPE

REFUSALS: Final = {
    "401": "Nobody is signed in, or the token is not accepted.",
    "403": "Kubernetes does not let this user do it; `missingRight` names the right and who grants it.",
    "404": "There is no such object, or none that this user may see.",
    "409": "The object changed meanwhile, is past that, or cannot be reached now.",
    "413": "The body is larger than what is accepted.",
    "422": "The input is wrong; `errors` has one entry a field.",
    "429": "Too many attempts; `Retry-After` says when to try again.",
    "503": "Something that the panel needs does not answer now.",
}
_TEXT: Final = {"type": "string"}
PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "What was not done, and why (RFC 9457), in the language that Accept-Language asks for.",
    "required": ["type", "title", "status", "detail", "requestId"],
    "properties": {
        "type": _TEXT | {"description": "urn:kuberpa:problem: and a word that does not change with the language."},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "requestId": _TEXT | {"description": "The panel's log has it too."},
        "code": _TEXT | {"description": "Why a work queue refused."},
        "errors": {
            "type": "array",
            "items": {"type": "object", "properties": {"field": _TEXT, "message": _TEXT}},
        },
        "missingRight": {
            "type": "object",
            "properties": dict.fromkeys(("verb", "resource", "namespace", "name", "grantedBy"), _TEXT),
        },
    },
}


def describe_refusals(app: FastAPI) -> None:
    """Add the refusals to what `/api/v1/openapi.json` says."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            document["components"].setdefault("schemas", {})["Problem"] = PROBLEM
            for operation in (each for path in document["paths"].values() for each in path.values()):
                operation["responses"] |= {
                    status: {"description": words, "content": content} for status, words in REFUSALS.items()
                }
            app.openapi_schema = document
        return app.openapi_schema

    # FastAPI's own way to extend it
    app.openapi = described  # type: ignore[method-assign]
