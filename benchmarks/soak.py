"""A crowd for ten minutes: 64 clients that ask, read slowly, leave and send nonsense, all at once. Each reply that came
to its end is compared with the same request alone. Then what HTTP costs.

    python -m benchmarks.soak --seconds 600

Only on this machine's loopback, and no longer than `--seconds` or `--acts`. Prints a table, and as its last line one
JSON object. The exit code is 1 if something was lost, mixed up or left behind, or if the server's memory grew by 3 %
after its first minute. The crowd itself and the engine share the cores: the longest hold of the event loop is as the
machine lets it be.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import sys
import time
from typing import Any

from benchmarks.common import machine
from benchmarks.crowd.clients import PATHS, Crowd, questions, texts_of
from benchmarks.crowd.http import Connection, get
from benchmarks.crowd.server import server
from benchmarks.crowd.streams import cpu_share, speeds

SAMPLE_SECONDS = 5
SETTLE_SECONDS = 60
MOST_GROWTH = 0.03


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="random:tiny")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--acts", type=int, default=200_000, help="the most that all clients do together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed-model", default="random:135M", help="whose streams are compared with the engine's own")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with server("--model", options.model, "--slots", "4", "--max-seq-len", "1024") as url:
        figures = asyncio.run(soak(url, options))
    problems = judge(figures)
    show(figures | {f"problem {number}": words for number, words in enumerate(problems, 1)})
    http = {"http": cpu_share(), "speed": speeds(options.speed_model, 96, options.rounds)}
    show(http)
    told = {"benchmark": "soak", **vars(options), **figures, **http, "problems": problems, "load": os.getloadavg()[0]}
    print(json.dumps({**told, **machine("CPU")}))
    return bool(problems)


def show(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        print(f"{name:>10}: {value}", flush=True)


async def soak(url: str, options: argparse.Namespace) -> dict[str, Any]:
    """What happened, and what the server was before, meanwhile and after."""
    crowd = Crowd(url, questions(40, options.seed))
    for question in crowd.questions:
        async with Connection(url) as connection:
            await connection.ask(PATHS[question.is_chat], question.body())
            question.expected = texts_of(json.loads(await connection.body()))
    before = await get(url, "/watch?collect=true")
    end, left = time.monotonic() + options.seconds, itertools.repeat(None, options.acts)

    async def client(number: int) -> None:
        chance = random.Random(f"{options.seed} {number}")
        for _ in left:
            if time.monotonic() > end:
                return
            await crowd.act(chance)

    acting = asyncio.gather(*(client(number) for number in range(options.clients)))
    holds, early = [], before
    while not acting.done():
        await asyncio.wait([acting], timeout=SAMPLE_SECONDS)
        holds.append((await get(url, "/watch"))["hold_ms"])
        if len(holds) == 60 // SAMPLE_SECONDS:
            early = await get(url, "/watch?collect=true")
    await acting
    after = await settled(url, before)
    return {
        "counts": dict(crowd.counts),
        "wrong": crowd.wrong,
        "holds": {"longest_ms": max(holds), "median_ms": sorted(holds)[len(holds) // 2]},
        "memory": {"growth": round(after["rss"] / early["rss"] - 1, 4), "bytes": after["rss"]},
        "before": before,
        "after": after,
    }


async def settled(url: str, before: dict[str, Any]) -> dict[str, Any]:
    """What the server is when nobody asks any more."""
    end = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < end:
        after = await get(url, "/watch?collect=true")
        if not (after["busy"] or after["queued"]) and after["files"] <= before["files"]:
            break
        await asyncio.sleep(1)
    return after


def judge(figures: dict[str, Any]) -> list[str]:
    """What is not as it must be."""
    before, after, found = figures["before"], figures["after"], list(figures["wrong"])
    if after["busy"] or after["queued"]:
        found.append(f"{after['busy']} slots and {after['queued']} places of the queue are still in use")
    if after["files"] > before["files"] or len(after["threads"]) > len(before["threads"]):
        found.append(f"{after['files']} files and the threads {after['threads']} are left")
    if figures["memory"]["growth"] > MOST_GROWTH:
        found.append(f"memory grew by {figures['memory']['growth']:.1%} after the first minute")
    return found


if __name__ == "__main__":
    sys.exit(main())
