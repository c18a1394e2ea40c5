"""The HTTP side: the page mounted on our own FastAPI app, with `/health`, behind the doors of middleware.py."""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI, HTTPException, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.gzip import GZipMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from web.access import api_keys, page_login
from web.api.clients import Clients
from web.api.errors import add_error_handlers, nothing_here
from web.api.gradio_chat import add_gradio_chat
from web.api.metrics import Metrics
from web.api.replies import Replies
from web.api.routes import api_routes
from web.beside import take_short_turns
from web.languages import COOKIE, LANGUAGES, TranslatedBlocks, speaking
from web.middleware import AnswersInLanguage, BodyLimit, HostCheck, LoginLimit, SecurityHeaders, allowed_hosts
from web.models.manager import ModelManager
from web.refusals import PREFIX
from web.request_log import Notes, RequestLog, print_json
from web.settings import Settings, listed
from web.source import source_page
from web.strings import SCRIPT

ASSETS = Path(__file__).parent / "assets"
HEAD_SECONDS = 30
DRAIN_SECONDS = 5  # with the two of `http_config` less than the ten after which Docker kills
DRAIN_POLL_SECONDS = 0.05
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
    *_of("text", "offsets lazy spans inline code formula blocks pieces view colours differences"),
    *_of("panels", "sheet word first_screen map"),
    *_of(
        "chat", "tree files store status composer settings replies sides messages conversation page_file chats latest"
    ),
    *_of("panels", "theme language sidebars"),
    *("help", "focus"),
)


def build_app(page: TranslatedBlocks, manager: ModelManager, settings: Settings, clients: Clients) -> FastAPI:
    """The page at `/`, the API at `/v1`, the engine's state at `/health`, figures at `/metrics` and our own code at
    `/source`."""
    app = FastAPI(title=settings.title, docs_url=None, redoc_url=None, openapi_url=f"{PREFIX}/openapi.json")
    keys = api_keys(settings)
    replies = Replies(manager, settings, bool(keys), clients)
    api = api_routes(manager, replies, keys)
    app.include_router(api)
    if not keys:  # Gradio's clients would send none
        add_gradio_chat(page, replies)
    app.include_router(clients.metrics.route())
    add_error_handlers(app)
    _add_doors(app, settings, clients.metrics)

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

    app.mount(PREFIX, nothing_here(api))
    app.mount("/vendor", StaticFiles(directory=ASSETS / "vendor"))  # libraries of others, as files
    return _mount(page, app, settings)


def _add_doors(app: FastAPI, settings: Settings, metrics: Metrics) -> None:
    """The last one is the first that a request passes."""
    app.add_middleware(BodyLimit, limit=settings.max_request_mb * 1_000_000)
    app.add_middleware(LoginLimit)
    # Without this Gradio would let every origin read answers, with cookies (gradio#13741).
    app.add_middleware(
        CORSMiddleware,
        allow_origins=listed(settings.cors_origins),
        allow_methods=["GET", "POST", "PATCH"],
        allow_headers=["Authorization", "Content-Type"],
    )
    app.add_middleware(HostCheck, allowed=allowed_hosts(settings))
    app.add_middleware(GZipMiddleware, compresslevel=6)  # streams of events pass as they are
    app.add_middleware(SecurityHeaders)
    app.add_middleware(AnswersInLanguage)

    def tell(notes: Notes) -> None:
        metrics.count_request(notes)
        if settings.log == "json":
            print_json(notes)

    app.add_middleware(RequestLog, tells=tell)
    if settings.trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=settings.trusted_proxies)


def _mount(page: TranslatedBlocks, app: FastAPI, settings: Settings) -> FastAPI:
    page.heads = {language: head(language) for language in LANGUAGES}
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
        theme=gr.themes.Base(
            primary_hue="teal",
            neutral_hue="slate",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
    )


def head(language: str) -> str:
    """The page's head: its width, our style sheets (Gradio's `css` would narrow every rule to its own container, and
    dialogs are outside of it), and our scripts with their sentences in `language`."""
    with speaking(language):
        sentences = json.dumps(dict(SCRIPT), ensure_ascii=False).replace("<", "\\u003c")
    code = "\n".join((ASSETS / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    styles = "\n".join((ASSETS / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)
    languages = {"cookie": COOKIE, "names": LANGUAGES}
    viewport = "width=device-width, initial-scale=1, interactive-widget=resizes-content"
    return (
        f'<meta name="viewport" content="{viewport}">\n<style>{styles}</style>\n'
        f"<script>window.GLASS_TEXT = {sentences};\nwindow.GLASS_LANGUAGES = {json.dumps(languages)};\n{code}</script>"
    )


def http_config(app: FastAPI) -> uvicorn.Config:
    """How requests are answered with the app. Who is behind a proxy is for the app's settings to say (`build_app`)."""
    return uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, proxy_headers=False)


class Server(uvicorn.Server):
    """Hangs up on who takes longer than `HEAD_SECONDS` for the first lines of a request. When it is told to end it lets
    nobody in any more, and the replies under way come to their end; those that take longer than `DRAIN_SECONDS` end
    with what is written ("shutdown")."""

    def __init__(self, app: FastAPI, manager: ModelManager):
        super().__init__(http_config(app))
        take_short_turns()
        self._manager = manager
        # Since when a connection has asked nothing after its last request.
        self._waits: dict[tuple[Any, Any], float] = {}

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second."""
        now, last = time.monotonic(), [(each, getattr(each, "cycle", None)) for each in self.server_state.connections]
        waits = [(each, cycle) for each, cycle in last if cycle is None or cycle.response_complete]
        self._waits = {wait: self._waits.get(wait, now) for wait in waits}
        for (connection, _), since in self._waits.items():
            if now - since > HEAD_SECONDS and connection.transport is not None:
                connection.transport.close()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn, after a signal or `should_exit`."""
        for listening in self.servers:
            listening.close()
        end = time.monotonic() + DRAIN_SECONDS
        while self._manager.busy and not self.force_exit and time.monotonic() < end:
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        await asyncio.to_thread(self._manager.close)  # each reply learns it, and its reader reads it to the end
        await super().shutdown(sockets)


def serve(app: FastAPI, listener: socket.socket, wait_for_end: Callable[[], int], manager: ModelManager) -> int:
    """Answer requests until the process is told to end, or until `wait_for_end` (in a thread of its own) has returned;
    then open pages have a moment to say so. `listener` is from `port.claim_port`. The exit code: that of `wait_for_end`
    if it returned, else 0."""
    server = Server(app, manager)
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
