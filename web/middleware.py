"""What every request passes before anything else reads it: whether it is meant for this server, whether it is small
enough, and whether it guesses passwords. On the way back, the headers that keep the page to itself."""

import asyncio
import math
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from web.languages import ENGLISH, language_of, speaking
from web.limits import LOGINS_PER_MINUTE, MovingWindow
from web.refusals import is_api, refusal
from web.settings import Settings, listed
from web.strings import TEXT

BODY_SECONDS = 60.0
# By the sentence that says it: status, and the code for programs.
BODY_LIMITS = {"post_size": (413, "request_too_large"), "post_time": (408, "request_too_slow")}
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
            answer = refusal(scope, words, 421, "other_host") if is_api(scope) else PlainTextResponse(words, 421)
            await answer(scope, receive, send)


def host_name(header: str) -> str:
    """The name in a Host header, in lower case, without port, brackets and final dot; empty if there is none."""
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return ""


class Body:
    """What a request sends, as far as it keeps to its limits; afterwards it is to whoever reads as if the client had
    left, and `broken` is the limit: a key of `BODY_LIMITS`."""

    def __init__(self, receive: Receive, limit: int, seconds: float):
        self._receive, self._limit, self._received, self._is_whole = receive, limit, 0, False
        self._end = asyncio.get_running_loop().time() + seconds
        self.broken = ""

    async def receive(self) -> Message:
        """The next part, or after the last one that the client has left."""
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._end):
                message = await self._receive()
        except TimeoutError:
            self.broken = self.broken or "post_time"
        else:
            self._received += len(message.get("body", b""))
            self._is_whole = not message.get("more_body")
            if self._received > self._limit:
                self.broken = "post_size"
        return {"type": "http.disconnect"} if self.broken else message


class BodyLimit:
    """Refuses what has more than `limit` bytes before it is parsed or kept, whether it says its length or not, and what
    is not sent to its end within `seconds`."""

    def __init__(self, app: ASGIApp, limit: int, seconds: float = BODY_SECONDS):
        self.app, self.limit, self.seconds = app, limit, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        said = Headers(scope=scope).get("content-length", "")
        if said.isdecimal() and int(said) > self.limit:
            await self._refuse("post_size", scope, receive, send)
            return
        await self._read(Body(receive, self.limit, self.seconds), scope, receive, send)

    async def _read(self, body: Body, scope: Scope, receive: Receive, send: Send) -> None:
        has_answered = False

        async def send_if_good(message: Message) -> None:
            nonlocal has_answered
            if not body.broken:
                has_answered = True
                await send(message)

        try:
            await self.app(scope, body.receive, send_if_good)
        except Exception:
            if not body.broken:
                raise
        if body.broken and not has_answered:
            await self._refuse(body.broken, scope, receive, send)

    async def _refuse(self, broken: str, scope: Scope, receive: Receive, send: Send) -> None:
        status, code = BODY_LIMITS[broken]
        words = TEXT[broken].format(limit=self.limit // 1_000_000, seconds=self.seconds)
        # The connection ends: the rest of the body is not read.
        await refusal(scope, words, status, code, {"Connection": "close"})(scope, receive, send)


class LoginLimit:
    """Refuses an address that logs in more than `LOGINS_PER_MINUTE` times a minute, rightly or not."""

    def __init__(self, app: ASGIApp):
        self.app, self._attempts = app, MovingWindow(LOGINS_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"].rstrip("/") != "/login":
            await self.app(scope, receive, send)
            return
        address = scope["client"][0] if scope.get("client") else ""
        seconds = math.ceil(self._attempts.wait(address))
        if seconds:
            words = TEXT["logins"].format(limit=LOGINS_PER_MINUTE, seconds=seconds)
            await refusal(scope, words, 429, headers={"Retry-After": str(seconds)})(scope, receive, send)
            return
        self._attempts.use(address, 1)
        await self.app(scope, receive, send)
