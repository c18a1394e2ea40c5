"""The HTTP side: the page mounted on our own FastAPI app, with `/health` and the headers that keep it to itself."""

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse
from starlette.middleware.base import RequestResponseEndpoint

from web.models.manager import ModelManager
from web.source import source_page
from web.strings import SCRIPT

ASSETS = Path(__file__).parent / "assets"
LAST_WORDS_SECONDS = 3  # for open pages to say that the server ends

# Nothing from other hosts, even if a model's text asks for it: the address of an image can carry a conversation away.
# Gradio itself needs inline scripts and eval. A Space is shown in a frame of huggingface.co.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "frame-src 'none'",
        "form-action 'none'",
        "object-src 'none'",
        "base-uri 'self'",
        "frame-ancestors 'self' https://huggingface.co https://*.hf.space",
    )
)


STYLES = ("page", "tokens")
SCRIPTS = ("glass", "markdown", "tokens", "conversation", "chats", "help")


def build_app(page: gr.Blocks, manager: ModelManager) -> FastAPI:
    """The page at `/`, the engine's state at `/health` and our own code at `/source`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # No other origin may read answers; without this Gradio would allow every one, with cookies (gradio#13741).
    app.add_middleware(CORSMiddleware, allow_origins=[])

    @app.middleware("http")
    async def add_security_headers(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Permissions-Policy"] = "camera=(), microphone=(), geolocation=()"
        return response

    @app.get("/health")
    def health(response: Response) -> dict[str, bool | str | int]:
        is_ready = manager.ready
        response.status_code = 200 if is_ready else 503
        state = "ready" if is_ready else "starting" if manager.healthy else "failed"
        stats = manager.stats()
        return {"ok": is_ready, "status": state, "slots": stats.slots, "busy": stats.busy, "queued": stats.queued}

    @app.get("/source/{name:path}", response_class=HTMLResponse)
    def source(name: str) -> str:
        found = source_page(name)
        if found is None:
            raise HTTPException(404)
        return found

    return _mount(page, app)


def _mount(page: gr.Blocks, app: FastAPI) -> FastAPI:
    return gr.mount_gradio_app(
        app,
        page,
        "/",
        ssr_mode=False,
        run_history=False,
        show_error=False,
        max_file_size="1mb",
        footer_links=[],
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


def serve(app: FastAPI, listener: socket.socket, gets_ready: Callable[[], bool]) -> None:
    """Answer requests until the process is told to end, or until `gets_ready` returns False (it waits in a thread of
    its own); then open pages have a moment to say so. `listener` is from `port.claim_port`."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))

    def watch() -> None:
        if not gets_ready():
            time.sleep(LAST_WORDS_SECONDS)
            server.should_exit = True

    threading.Thread(target=watch, name="watch", daemon=True).start()
    server.run(sockets=[listener])
