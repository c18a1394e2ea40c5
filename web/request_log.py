"""What is known of each HTTP request at its end: an id, who asked, how it ended and how long it took. Nothing that
people wrote is among it, and no key."""

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Notes = dict[str, Any]
LONGEST_PATH = 200


class RequestLog:
    """Gives each request an id, which the answer has as `X-Request-Id`, and `tells` the notes of it when it has ended.
    Whoever answers adds to them: they are `request.state.notes`."""

    def __init__(self, app: ASGIApp, tells: Callable[[Notes], None]):
        self.app, self._tells = app, tells

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, client = time.perf_counter(), scope.get("client")
        notes: Notes = {
            "time": round(time.time(), 3),
            "request_id": uuid.uuid4().hex,
            "client": client[0] if client else "",
            "method": scope["method"],
            "path": scope["path"][:LONGEST_PATH],  # without the query
            "status": 0,  # 0: the client left before an answer began
        }
        scope.setdefault("state", {})["notes"] = notes

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                notes["status"] = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = notes["request_id"]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            notes["status"] = 500
            raise
        finally:
            notes["seconds"] = round(time.perf_counter() - began, 4)
            self._tells(notes)


def print_json(notes: Notes) -> None:
    """One line on stdout."""
    print(json.dumps(notes, ensure_ascii=True), flush=True)
