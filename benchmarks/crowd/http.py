"""As much of an HTTP client as a crowd needs: one that can also read slowly, send nonsense and leave at any moment."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

BUFFER = 4096  # small, so that a slow reader is felt by the server


class Connection:
    """One request of one connection. A context manager: leaving it hangs up."""

    def __init__(self, url: str):
        self._address = urlsplit(url)
        self.status = 0

    async def __aenter__(self) -> "Connection":
        host, port = self._address.hostname, self._address.port
        self.reader, self.writer = await asyncio.open_connection(host, port, limit=BUFFER)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, raw: bytes) -> None:
        """These bytes, whatever they are."""
        self.writer.write(raw)
        await self.writer.drain()

    async def ask(self, path: str, body: bytes | None = None, length: int | None = None) -> None:
        """GET, or POST of a body that says it has so many bytes; then the head of the answer is read."""
        await self.send(self.head(path, body, length) + (body or b""))
        await self.read_head()

    def head(self, path: str, body: bytes | None, length: int | None = None) -> bytes:
        """The first lines of a request."""
        lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {self._address.netloc}"]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {length or len(body)}"]
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode()

    async def read_head(self) -> None:
        """Up to the body."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        self.status = int(lines[0].split()[1])
        self._is_chunked = b"transfer-encoding: chunked" in lines

    async def parts(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises `asyncio.IncompleteReadError` if it breaks off."""
        while self._is_chunked:
            size = int(await self.reader.readline() or b"0", 16)
            part = await self.reader.readexactly(size + 2)
            if not size:
                return
            yield part[:-2]
        while part := await self.reader.read(BUFFER):
            yield part

    async def body(self) -> bytes:
        """All of it."""
        return b"".join([part async for part in self.parts()])

    async def events(self) -> AsyncIterator[dict[str, Any] | None]:
        """Of a stream of server-sent events; None: [DONE]."""
        rest = b""
        async for part in self.parts():
            *whole, rest = (rest + part).split(b"\n\n")
            for event in whole:
                data = event.removeprefix(b"data: ")
                yield None if data == b"[DONE]" else json.loads(data)


async def get(url: str, path: str) -> Any:
    """The JSON of an answer."""
    async with Connection(url) as connection:
        await connection.ask(path)
        return json.loads(await connection.body())
