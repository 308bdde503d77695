"""What holds for every path of the Open API: CORS, and a slash at the end (open-api.md §1).

Written as plain ASGI: middleware that waits between head and body would split the answers of modules.
"""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

OWN_PATHS: Final = ("/dev/", "/admin/")
"""Calls of modules, which are no browsers, and of the administrator, which no other page may make."""
_ALLOW: Final = (
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
    (
        b"access-control-allow-headers",
        (
            b"Content-Type, Authorization, X-Gizwits-Application-Id, X-Gizwits-User-token, "
            b"X-Gizwits-Application-Auth, X-Gizwits-Application-Token, X-Gizwits-Timestamp, "
            b"X-Gizwits-Signature"
        ),
    ),
    (b"access-control-max-age", b"86400"),
)
_ANY_ORIGIN: Final = (b"access-control-allow-origin", b"*")


class AppPaths:
    """Answers preflights, allows every origin, and takes a slash at the end of a path for none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            scope = _without_host(scope)
        if scope["type"] != "http" or scope["path"].startswith(OWN_PATHS):
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            headers = [_ANY_ORIGIN, *_ALLOW]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        path = scope["path"].rstrip("/") or "/"
        if path != scope["path"]:
            scope = {**scope, "path": path, "raw_path": scope.get("raw_path", b"").rstrip(b"/")}

        async def allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), _ANY_ORIGIN]}
            await send(message)

        await self._app(scope, receive, allowed)


def _without_host(scope: Scope) -> Scope:
    """A client that takes us for its proxy names the whole URL (RFC 9112 §3.2.2): the path is what counts."""
    path: str = scope["path"]
    scheme, separator, rest = path.partition("://")
    if not separator or scheme.lower() not in {"http", "https"}:
        return scope
    raw: bytes = scope.get("raw_path", b"").partition(b"://")[2].partition(b"/")[2]
    return {**scope, "path": "/" + rest.partition("/")[2], "raw_path": b"/" + raw}
