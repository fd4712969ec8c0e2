"""What reaches the page from outside: only what it needs, within bounds."""

import json
import re

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eqxesm.web.inputs import MAX_BYTES

MAX_BODY = 4 * MAX_BYTES
"""Bytes of a request: a text may take more of them as JSON."""

# Nothing that reads or writes files of the server, nor fetches from elsewhere.
_ALLOWED = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|/(assets|static)/.+"
    r"|/gradio_api/(info|startup-events|queue/join|queue/data|cancel|reset|theme\.css)/?"
    r"|/gradio_api/(heartbeat/.+|app_id/?)"
)

_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self' data:; object-src 'none'; form-action 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


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
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        body = await _read(receive)
        if body is None:
            detail = f"the request has more than {MAX_BODY:,} bytes, the most that this page takes"
            await JSONResponse({"detail": detail}, 413, headers={"connection": "close"})(scope, receive, send)
            return
        if scope["path"].rstrip("/").endswith("/queue/join") and not _is_plain(body):
            await JSONResponse({"detail": "expected texts and numbers as data"}, 422)(scope, receive, send)
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, receive_again, send_with_headers)


def _is_plain(body: bytes) -> bool:
    """Whether a request has texts and numbers alone. Gradio would copy or fetch a file that one names."""
    try:
        data = json.loads(body)["data"]
        return all(each is None or isinstance(each, str | int | float) for each in data)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


async def _read(receive: Receive) -> bytes | None:
    """The body of a request, or None if it is too large."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > MAX_BODY:
            return None
        parts.append(part)
    return b"".join(parts)
