"""Pages for browsers: the operators' console, the candidate's interview, the staff's live view, and the documentation
of the API.

They hold nothing; what they show comes by the live channel and REST, with the token or key of whoever looks.
"""

from __future__ import annotations

import json
import mimetypes
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

from orchestrator.errors import NotFound
from orchestrator.settings import Settings

router = APIRouter(include_in_schema=False)

WEB = Path(__file__).resolve().parents[1] / "web"
BUILT = WEB / "dist"
"""Made from the sources beside it by `make web`, and part of the repository, so that nobody needs Node to serve it."""
FOR_EVER = "public, max-age=31536000, immutable"


@router.get("/")
async def console(request: Request) -> Response:
    """The operators' console."""
    return _page("console", request.app.state.settings, {})


@router.get("/interview/{session_id}")
async def interview(session_id: str, request: Request) -> Response:
    """The candidate's page. The token is in the fragment, which no browser sends here."""
    settings: Settings = request.app.state.settings
    return _page("interview", settings, {"session_id": session_id, "privacy_policy": settings.privacy_policy})


@router.get("/sessions/{session_id}/live")
async def live(session_id: str, request: Request) -> Response:
    """The staff's live view."""
    return _page("live", request.app.state.settings, {"session_id": session_id, "privacy_policy": None})


@router.get("/docs")
async def documentation(request: Request) -> Response:
    """What the API takes and answers, to be read and tried out. Nothing of it comes from elsewhere."""
    page = _page("docs", request.app.state.settings, {})
    policy = page.headers["Content-Security-Policy"]
    # Swagger UI sets styles of elements; scripts stay forbidden.
    page.headers["Content-Security-Policy"] = policy.replace(
        "style-src 'self'", "style-src-attr 'unsafe-inline'; style-src 'self'"
    )
    return page


def sign_in(request: Request) -> Response:
    """In the place of a page that staff opened without their key."""
    page = _page("report", request.app.state.settings, {})
    page.status_code = 401
    return page


@router.get("/assets/{name}")
async def asset(name: str) -> Response:
    """A built script or style sheet. Chunks are named by their content, the others are asked for again each time."""
    path = _assets().get(name)
    if path is None:
        raise NotFound("There is no such file.")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    caching = FOR_EVER if name.startswith("chunk-") else "no-cache"
    return FileResponse(path, media_type=kind, headers={"Cache-Control": caching, "X-Content-Type-Options": "nosniff"})


@lru_cache
def _assets() -> dict[str, Path]:
    return {path.name: path for path in BUILT.iterdir() if path.is_file()}


@lru_cache
def _template(name: str) -> str:
    return (WEB / "pages" / f"{name}.html").read_text()


def _page(name: str, settings: Settings, config: dict[str, Any]) -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    text = json.dumps(config | {"nonce": nonce}).replace("<", "\\u003c")  # it stands within a script element
    return HTMLResponse(_template(name).replace("{{config}}", text), headers=_headers(settings, nonce))


def _headers(settings: Settings, nonce: str) -> dict[str, str]:
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": f"'self' 'nonce-{nonce}'",  # the code editor brings its style sheet along
        "img-src": "'self' data: blob:",
        "media-src": "'self' blob: mediastream:",
        "connect-src": " ".join(("'self'", *_livekit(settings))),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Permissions-Policy": "camera=(self), microphone=(self), fullscreen=(self), window-management=(self)",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def _livekit(settings: Settings) -> list[str]:
    """Where a browser reaches LiveKit: its client opens a WebSocket, and asks by HTTP why one was refused."""
    url = urlsplit(settings.livekit_public_url or settings.livekit_url or "")
    if not url.netloc:
        return []
    safe = "s" if url.scheme in ("wss", "https") else ""
    return [f"ws{safe}://{url.netloc}", f"http{safe}://{url.netloc}"]
