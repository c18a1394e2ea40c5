"""What every request passes before anything else reads it: whether it is meant for this server, and whether it is small
enough. On the way back, the headers that keep the page to itself."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from web.languages import ENGLISH, language_of, speaking
from web.settings import Settings, listed
from web.strings import TEXT

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
ALL_INTERFACES = ("0.0.0.0", "::")

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
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class SecurityHeaders:
    """Adds `SECURITY_HEADERS` to every answer."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class AnswersInLanguage:
    """Answers each request in the language of who asks."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        language = language_of(HTTPConnection(scope)) if scope["type"] == "http" else ENGLISH
        with speaking(language):
            await self.app(scope, receive, send)


def allowed_hosts(settings: Settings) -> frozenset[str] | None:
    """The names by which browsers may ask for the page; None: by any.

    Any, if other machines are let in on all addresses (as on a Space) and no names are set: by which of its names and
    addresses, and through which proxy they come, is not known here.
    """
    names = listed(settings.allowed_hosts.lower())
    if "*" in names or (not names and settings.host in ALL_INTERFACES):
        return None
    return frozenset((*LOOPBACK_NAMES, settings.host.lower(), *names))


class HostCheck:
    """Refuses requests for other names than those in `allowed` (None: any are let in).

    Any web page can give its own name the address of this machine after it was loaded (DNS rebinding). To the browser
    the two are then one site, so the page may read and ask what only the people at this machine should. But its
    requests still carry its name.
    """

    def __init__(self, app: ASGIApp, allowed: frozenset[str] | None):
        self.app, self.allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.allowed is None or scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        header = Headers(scope=scope).get("host", "")
        if host_name(header) in self.allowed:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(1008)(scope, receive, send)
        else:
            words = TEXT["other_host"].format(host=header[:100])
            await PlainTextResponse(words, 421)(scope, receive, send)


def host_name(header: str) -> str:
    """The name in a Host header, in lower case, without port, brackets and final dot; empty if there is none."""
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return ""


class BodyLimit:
    """Refuses what has more than `limit` bytes before it is parsed or kept, whether it says its length or not."""

    def __init__(self, app: ASGIApp, limit: int):
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        said = Headers(scope=scope).get("content-length", "")
        if said.isdecimal() and int(said) > self.limit:
            await self._refuse(scope, receive, send)
            return
        await self._count(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        received, has_answered = 0, False

        async def receive_some() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            # To whoever reads the body it is as if the client had left.
            return message if received <= self.limit else {"type": "http.disconnect"}

        async def send_if_small(message: Message) -> None:
            nonlocal has_answered
            if received <= self.limit:
                has_answered = True
                await send(message)

        try:
            await self.app(scope, receive_some, send_if_small)
        except Exception:
            if received <= self.limit:
                raise
        if received > self.limit and not has_answered:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        words = TEXT["post_size"].format(limit=self.limit // 1_000_000)
        # Gradio's script shows what stands in "detail", programs read "error" as OpenAI has it. The connection ends:
        # the rest of the body is not read.
        error = {"message": words, "type": "invalid_request_error", "param": None, "code": "request_too_large"}
        refusal = JSONResponse({"detail": words, "error": error}, 413, headers={"Connection": "close"})
        await refusal(scope, receive, send)
