"""The HTTP side: the page mounted on our own FastAPI app, with `/health`, behind the doors of middleware.py."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI, HTTPException, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.gzip import GZipMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from web.access import page_login
from web.api.errors import add_error_handlers
from web.api.metrics import Metrics
from web.api.routes import api_routes
from web.middleware import BodyLimit, HostCheck, SecurityHeaders, allowed_hosts
from web.models.manager import ModelManager
from web.request_log import Notes, RequestLog, print_json
from web.settings import Settings, listed
from web.source import source_page
from web.strings import SCRIPT

ASSETS = Path(__file__).parent / "assets"
LAST_WORDS_SECONDS = 3  # for open pages to say that the server ends
LAST_RESORT_SECONDS = 20  # a thread may wait for a device that failed, and Python would wait for the thread for ever


def _of(folder: str, names: str) -> list[str]:
    return [f"{folder}/{name}" for name in names.split()]


# In the order in which they stand in the page's head.
STYLES = (
    "page",
    "tokens",
    *_of("text", "text sheet"),
    *_of("chat", "chat sides"),
    *_of("panels", "sheet word first_screen map"),
)
SCRIPTS = (
    *("connection", "glass", "toasts", "tokens"),
    *_of("text", "offsets lazy spans inline code formula blocks view colours differences"),
    *_of("panels", "sheet word first_screen map"),
    *_of(
        "chat", "tree files store status composer settings replies sides messages conversation page_file chats latest"
    ),
    *_of("panels", "theme sidebars"),
    "help",
)


def build_app(page: gr.Blocks, manager: ModelManager, settings: Settings) -> FastAPI:
    """The page at `/`, the API at `/v1`, the engine's state at `/health`, figures at `/metrics` and our own code at
    `/source`."""
    app = FastAPI(title=settings.title, docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    metrics = Metrics(manager)
    app.include_router(api_routes(manager, settings, metrics))
    app.include_router(metrics.route())
    add_error_handlers(app)
    _add_doors(app, settings)

    def tell(notes: Notes) -> None:
        metrics.count_request(notes)
        if settings.log == "json":
            print_json(notes)

    app.add_middleware(RequestLog, tells=tell)
    if settings.trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=settings.trusted_proxies)

    @app.get("/health", include_in_schema=False)
    def health(response: Response) -> dict[str, bool | str | int]:
        is_ready = manager.ready
        response.status_code = 200 if is_ready else 503
        state = "ready" if is_ready else "starting" if manager.healthy else "failed"
        stats = manager.stats()
        return {"ok": is_ready, "status": state, "slots": stats.slots, "busy": stats.busy, "queued": stats.queued}

    @app.get("/source/{name:path}", response_class=HTMLResponse, include_in_schema=False)
    def source(name: str) -> str:
        found = source_page(name)
        if found is None:
            raise HTTPException(404)
        return found

    app.mount("/vendor", GZipMiddleware(StaticFiles(directory=ASSETS / "vendor")))  # libraries of others, as files
    return _mount(page, app, settings)


def _add_doors(app: FastAPI, settings: Settings) -> None:
    """The last one is the first that a request passes."""
    app.add_middleware(BodyLimit, limit=settings.max_request_mb * 1_000_000)
    # Without this Gradio would let every origin read answers, with cookies (gradio#13741).
    app.add_middleware(
        CORSMiddleware,
        allow_origins=listed(settings.cors_origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type"],
    )
    app.add_middleware(HostCheck, allowed=allowed_hosts(settings))
    app.add_middleware(SecurityHeaders)


def _mount(page: gr.Blocks, app: FastAPI, settings: Settings) -> FastAPI:
    return gr.mount_gradio_app(
        app,
        page,
        "/",
        auth=page_login(settings),
        root_path=settings.root_path or None,
        ssr_mode=False,
        run_history=False,
        show_error=False,
        max_file_size="1mb",
        footer_links=[],
        favicon_path=ASSETS / "favicon.svg",
        head=head(),
        theme=gr.themes.Base(
            primary_hue="teal",
            neutral_hue="slate",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
    )


def head() -> str:
    """The page's head: its width, our style sheets (Gradio's `css` would narrow every rule to its own container, and
    dialogs are outside of it), and our scripts with their sentences."""
    text = json.dumps(SCRIPT).replace("<", "\\u003c")
    code = "\n".join((ASSETS / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    styles = "\n".join((ASSETS / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)
    viewport = "width=device-width, initial-scale=1, interactive-widget=resizes-content"
    return (
        f'<meta name="viewport" content="{viewport}">\n<style>{styles}</style>\n'
        f"<script>window.GLASS_TEXT = {text};\n{code}</script>"
    )


def http_server(app: FastAPI) -> uvicorn.Server:
    """What answers requests with the app. Who is behind a proxy is for the app's settings to say (`build_app`)."""
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, proxy_headers=False))


def serve(app: FastAPI, listener: socket.socket, wait_for_end: Callable[[], int]) -> int:
    """Answer requests until the process is told to end, or until `wait_for_end` (in a thread of its own) has returned;
    then open pages have a moment to say so. `listener` is from `port.claim_port`. The exit code: that of `wait_for_end`
    if it returned, else 0."""
    server = http_server(app)
    codes: list[int] = []

    def watch() -> None:
        codes.append(wait_for_end())
        time.sleep(LAST_WORDS_SECONDS)
        server.should_exit = True
        time.sleep(LAST_RESORT_SECONDS)
        os._exit(codes[0])

    threading.Thread(target=watch, name="watch", daemon=True).start()
    server.run(sockets=[listener])
    return codes[0] if codes else 0
