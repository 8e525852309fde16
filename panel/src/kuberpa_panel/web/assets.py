"""The files of the pages: fingerprinted addresses, cached for a year, compressed once."""

import gzip
import hashlib
import json
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from kuberpa_panel.language import DEFAULT, LANGUAGES, catalogues

ROOT: Final = Path(__file__).parents[1] / "static"
FOREVER: Final = "public, max-age=31536000, immutable"
TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, plain and compressed."""

    body: bytes
    zipped: bytes
    media_type: str
    fingerprint: str


@cache
def assets() -> dict[str, Asset]:
    """Every file under static/ by its path there, and what scripts say in each language but their own."""
    files = {str(path.relative_to(ROOT)): path.read_bytes() for path in ROOT.rglob("*") if path.is_file()}
    files |= {f"words/{language}.js": _words(language) for language in LANGUAGES if language != DEFAULT}
    return {path: _asset(path, body) for path, body in files.items()}


def _asset(path: str, body: bytes) -> Asset:
    media_type = TYPES.get(Path(path).suffix) or mimetypes.guess_type(path)[0] or "text/plain; charset=utf-8"
    return Asset(body, gzip.compress(body, 9, mtime=0), media_type, hashlib.sha256(body).hexdigest()[:12])


def _words(language: str) -> bytes:
    words = json.dumps(catalogues.table(catalogues.SCRIPTS, language), ensure_ascii=False, sort_keys=True)
    return f"globalThis.kuberpaWords = {words};\n".encode()


@cache
def release() -> str:
    """One fingerprint of all own files: a module's relative imports then stay within one release."""
    digest = hashlib.sha256()
    for path, asset in sorted(assets().items()):
        if not path.startswith("vendor/"):
            digest.update(f"{path} {asset.fingerprint}\n".encode())
    return digest.hexdigest()[:12]


def address(path: str) -> str:
    """Address of a file: a vendored one carries its version in its path, an own one the release. Raises KeyError."""
    assets()[path]
    return f"/static/{path}" if path.startswith("vendor/") else f"/static/{release()}/{path}"


class Static:
    """ASGI app to mount at /static.

    A page of another release still gets its file, but not for keeps: during a rollout an old replica may be asked
    for what only a new one has.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        await self.respond(scope)(scope, receive, send)

    def respond(self, scope: Scope) -> Response:
        """The file, or 404."""
        path = scope["path"].removeprefix(scope.get("root_path", "")).lstrip("/")
        prefix, _, rest = path.partition("/")
        asset = assets().get(path if prefix == "vendor" else rest)
        if asset is None or scope["method"] not in {"GET", "HEAD"}:
            return PlainTextResponse("Not found", 404)
        kept = prefix in {"vendor", release()}
        etag = f'"{asset.fingerprint}"'
        headers = {"Cache-Control": FOREVER if kept else "no-cache", "ETag": etag, "Vary": "Accept-Encoding"}
        request = Headers(scope=scope)
        if request.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(asset.zipped, headers=headers, media_type=asset.media_type)
        return Response(asset.body, headers=headers, media_type=asset.media_type)
