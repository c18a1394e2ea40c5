"""What HTTP costs: the CPU of many streams at reading speed, and the speed of streams beside the engine's own."""

import asyncio
import statistics
import time

from benchmarks.crowd.http import Connection, get
from benchmarks.crowd.server import server

STREAMS, PACE, SECONDS = 32, 0.05, 10


async def read(url: str, tokens: int) -> int:
    """One reply, streamed; how many tokens it has."""
    asked = f'{{"prompt": "Once", "stream": true, "temperature": 0, "max_tokens": {tokens}, "stream_options": {{'
    async with Connection(url) as connection:
        await connection.ask("/v1/completions", (asked + '"include_usage": true}}').encode())
        return [event async for event in connection.events()][-2]["usage"]["completion_tokens"]


def cpu_share() -> dict[str, float]:
    """Of one core: what the event loop takes for `STREAMS` streams, each a token every `PACE` seconds."""
    with server("--model", "random:tiny", "--slots", str(STREAMS), "--pace", str(PACE)) as url:
        return asyncio.run(_cpu_share(url))


async def _cpu_share(url: str) -> dict[str, float]:
    tokens = int((SECONDS + 4) / PACE)
    streams = [asyncio.create_task(read(url, tokens)) for _ in range(STREAMS)]
    await asyncio.sleep(2)
    before, start = await get(url, "/watch"), time.perf_counter()
    await asyncio.sleep(SECONDS)
    after, seconds = await get(url, "/watch"), time.perf_counter() - start
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    return {
        "share_of_a_core": round((after["loop_cpu"] - before["loop_cpu"]) / seconds, 4),
        "hold_ms": after["hold_ms"],
    }


def speeds(model: str, tokens: int, rounds: int) -> dict[str, float]:
    """The speed of the API over that of the engine alone, for one stream and for four: medians of pairs in turn."""
    with server("--model", model, "--slots", "4", "--max-seq-len", "512") as url:
        return {f"{count}_over_own": asyncio.run(_speed(url, count, tokens, rounds)) for count in (1, 4)}


async def _speed(url: str, streams: int, tokens: int, rounds: int) -> float:
    ratios = []
    for _ in range(rounds + 1):
        own = await get(url, f"/own-speed?streams={streams}&tokens={tokens}")
        start = time.perf_counter()
        written = sum(await asyncio.gather(*(read(url, tokens) for _ in range(streams))))
        ratios.append(written / (time.perf_counter() - start) / own)
    return round(statistics.median(ratios[1:]), 3)  # the first one warms up
