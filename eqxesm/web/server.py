"""The page as a server."""

import os
import socket

# Before Gradio is imported: it would ask for its newest version, and tell that it was started.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from eqxesm.errors import InputError
from eqxesm.web.app import HERE, make_page
from eqxesm.web.guard import Guard
from eqxesm.web.service import Service

CONNECTIONS = 512
"""At a time. A person's page has two or three."""

FONTS = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
"""Those of the reader's machine: nothing is fetched."""


def make_app(service: Service, name: str, prefix: str = "") -> ASGIApp:
    """The page of a model as an ASGI application, behind a prefix."""
    app = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        make_page(service, name),
        path="",
        root_path=prefix or None,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
        allowed_paths=[],
        max_file_size=1,
        enable_monitoring=False,
        pwa=False,
        theme=gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=FONTS[0], font_mono=FONTS[1]),
        # Not as css, which would hold for what is within the page alone.
        head=f"<style>{(HERE / 'page.css').read_text(encoding='utf-8')}</style>",
    )
    return Guard(app, prefix)


def open_port(host: str, port: int) -> socket.socket:
    """Take a port before the model is loaded, or say why not."""
    if not 0 <= port < 65536:
        raise InputError(f"--port is {port}, expected 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host {host}: not an address of this machine ({error})") from error
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(128)
    except OSError as error:
        opened.close()
        advice = "Choose another with --port." if port else ""
        raise InputError(f"port {port} of {host} cannot be used ({error.strerror}). {advice}".strip()) from error
    return opened


def check_prefix(prefix: str) -> str:
    """A path prefix as `/name`, or nothing."""
    trimmed = prefix.strip("/")
    if not all(each.isalnum() or each in "-._~/" for each in trimmed) or ".." in trimmed:
        raise InputError(f"--root-path {prefix}: expected a path such as /proteins")
    return f"/{trimmed}" if trimmed else ""


def serve(app: ASGIApp, port: socket.socket) -> None:
    """Serve until interrupted."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=2
    )
    uvicorn.Server(config).run(sockets=[port])
