"""Our own pages and what they load: files of the package, under a policy that lets nothing in from elsewhere."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Response

from voxelight.models.errors import NotFound

router = APIRouter(tags=["pages"])

FOLDER = Path(__file__).parents[1] / "static"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".LICENSE": "text/plain; charset=utf-8",
}
_POLICY = {
    "default-src": "'self'",
    "img-src": "'self' data: blob:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'self'",
}
# What a page needs beyond that, and why.
_ALSO: dict[str, dict[str, str]] = {
    # The viewer unpacks images in a worker that it makes itself, and reads the font that it carries in itself.
    "viewer": {"connect-src": "'self' data: blob:", "worker-src": "'self' blob:"},
}
_VENDOR = "vendor/"
_FOR_EVER = "public, max-age=31536000, immutable"


@router.get(
    "/pages/{name}", response_class=Response, responses={200: {"content": {"text/html": {}}}, 304: {"description": ""}}
)
def show_page(name: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Show a page that runs in the browser by itself: `upload` for large files."""
    return protect(_answer(f"{name}.html", if_none_match), name)


def protect(answer: Response, name: str) -> Response:
    """Let a page load and ask nothing but its own server."""
    policy = _POLICY | _ALSO.get(name, {})
    answer.headers["Content-Security-Policy"] = "; ".join(f"{what} {source}" for what, source in policy.items())
    answer.headers["Referrer-Policy"] = "same-origin"
    return answer


@router.get(
    "/static/{file:path}",
    response_class=Response,
    responses={200: {"content": {"text/javascript": {}, "text/css": {}}}, 304: {"description": "The client has it"}},
)
def read_static(file: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Send a script, a style sheet or a licence that a page names; libraries of others carry their version."""
    if file.endswith(".html"):
        raise _missing(file)
    answer = _answer(file, if_none_match)
    if file.startswith(_VENDOR):
        answer.headers["Cache-Control"] = _FOR_EVER
    return answer


def _answer(name: str, if_none_match: str | None) -> Response:
    path = _find(name)
    if path is None:
        raise _missing(name)
    tag = _tag(path, path.stat().st_mtime_ns)
    known = {entry.strip().removeprefix("W/") for entry in (if_none_match or "").split(",")}
    if known & {tag, "*"}:
        return Response(status_code=304, headers={"ETag": tag})
    return Response(path.read_bytes(), headers={"ETag": tag}, media_type=MEDIA_TYPES[path.suffix])


def _find(name: str) -> Path | None:
    """Return the packaged file of that name; only names that are there are compared, so no name leads elsewhere."""
    files = (path for path in FOLDER.rglob("*") if path.suffix in MEDIA_TYPES)
    return next((path for path in files if path.relative_to(FOLDER).as_posix() == name), None)


@lru_cache(maxsize=64)
def _tag(path: Path, _modified_ns: int) -> str:
    return f'"{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}"'


def _missing(name: str) -> NotFound:
    return NotFound(f"no page or file {name[:80]!r}", "one that this version brings", "Check the address.")
