"""What reaches the page from outside: only what it needs, within bounds."""

import re
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eqxesm.web.inputs import MAX_BYTES

MAX_BODY = 4 * MAX_BYTES
"""Bytes of a request: a text may take more of them as JSON."""

# Nothing that reads or writes files of the server, nor fetches from elsewhere.
_ALLOWED = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|/(assets|static)/.+"
    r"|/gradio_api/(info|startup-events|queue/join|queue/data|cancel|reset|theme\.css)/?"
    r"|/gradio_api/(heartbeat|call)/.+|/gradio_api/app_id/?"
)

_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self' data:; object-src 'none'; form-action 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class TooLargeError(Exception):
    """A request has more bytes than `MAX_BODY`."""


class Guard:
    """An application behind a prefix, which others may have taken off, that only serves what the page needs."""

    def __init__(self, app: ASGIApp, prefix: str = ""):
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if self._prefix and (path == self._prefix or path.startswith(f"{self._prefix}/")):
            path = path[len(self._prefix) :] or "/"
            scope = {**scope, "path": path, "raw_path": path.encode()}
        if not _ALLOWED.fullmatch(path) or ".." in path:
            await JSONResponse({"detail": "not found"}, 404)(scope, receive, send)
            return
        await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, begun = 0, False

        async def receive_bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                raise TooLargeError
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        if _declared_size(scope) > MAX_BODY:
            await _refuse(scope, receive, send)
            return
        try:
            await self._app(scope, receive_bounded, send_with_headers)
        except TooLargeError:
            if not begun:
                await _refuse(scope, receive, send)


def _declared_size(scope: Scope) -> int:
    declared: dict[Any, Any] = dict(scope["headers"])
    text = declared.get(b"content-length", b"0")
    return int(text) if text.isdigit() else 0


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    detail = f"the request has more than {MAX_BODY:,} bytes, the most that this page takes"
    await JSONResponse({"detail": detail}, 413, headers={"connection": "close"})(scope, receive, send)
