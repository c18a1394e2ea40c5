"""Start: seconds from `python app.py` to the first word of a reply on the page, with the network cut.

    python -m benchmarks.start --rounds 3

Each round starts the app as it stands here, opens its page in a headless chromium as soon as it answers, asks a
question at once, and then for a story. Then somebody comes for the first time to the server that is ready: how soon the
page can be used, and what comes over the wire for it. Prints a table, and as its last line one JSON object: medians and
the worst of the rounds, and the tokens/s that the page gives for the story. On Linux it runs in a network of its own
with nothing in it but the loopback; "network" says whether that could be had.
"""

import argparse
import ctypes
import fcntl
import importlib.metadata
import json
import os
import platform
import re
import socket
import statistics
import struct
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from tests.browser.apps import App, launch, wait_for

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # linux/sockios.h, linux/if.h
FIGURES = {
    "page_answers": "the page answers",
    "page_usable": "the page can be used",
    "first_token": "first word of the reply",
    "visit_usable": "a first visit: usable",
}
USABLE = "() => document.querySelector('#message textarea') && window.Glass?.chat"
FIRST_TOKEN = "() => document.querySelector('#conversation [data-testid=bot] .tok')"
STORY_ENDED = (
    "() => document.querySelectorAll('#conversation [data-testid=bot]').length === 2 "
    "&& document.querySelector('#message .submit-button')"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="weights/guide", help="as `python app.py --model` takes it")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    is_cut = cut_network()
    with sync_playwright() as playwright:
        browser = launch(playwright)
        rounds = [start_and_ask(browser, options.model) for _ in range(options.rounds)]
        browser.close()
    report(options, is_cut, rounds)


def cut_network() -> bool:
    """Move this process into a network of its own; whether that was possible."""
    is_root = sys.platform == "linux" and os.geteuid() == 0
    user, group = os.getuid(), os.getgid()
    if sys.platform != "linux" or ctypes.CDLL(None).unshare(CLONE_NEWNET | (0 if is_root else CLONE_NEWUSER)):
        return False
    if not is_root:  # the same person as before
        maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
        for name, text in maps.items():
            Path("/proc/self", name).write_text(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        fcntl.ioctl(door, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    return True


def start_and_ask(browser: Browser, model: str) -> dict[str, float]:
    """One start: seconds to each of `FIGURES`, and the speed of a story."""
    begin = time.perf_counter()
    with closing(App("--model", model, waits=False)) as app:
        found: dict[str, float] = {}

        def reached(name: str) -> None:
            found[name] = time.perf_counter() - begin

        wait_for(lambda: answers(app.url), 300)
        reached("page_answers")
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.goto(app.url, wait_until="commit")
        page.wait_for_function(USABLE)
        reached("page_usable")
        page.fill("#message textarea", "What is temperature?")
        page.press("#message textarea", "Enter")
        page.wait_for_function(FIRST_TOKEN, timeout=300_000)
        reached("first_token")
        page.wait_for_selector("#message .submit-button", timeout=60_000)
        page.fill("#message textarea", "Tell me a story")
        page.press("#message textarea", "Enter")
        page.wait_for_function(STORY_ENDED, timeout=60_000)
        facts = page.locator("#conversation [data-testid=bot]").last.inner_text()
        found["tokens_per_second"] = float(re.search(r"([\d.]+) tokens/s", facts)[1])
        page.context.close()
        return found | first_visit(browser, app.url)


def first_visit(browser: Browser, url: str) -> dict[str, float]:
    """With nothing in the browser's cache: seconds until the box can be typed in, and kilobytes over the wire (headers
    and bodies as they were sent) until nothing more comes for two seconds."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    wire = page.context.new_cdp_session(page)
    sizes: list[float] = []
    wire.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    wire.send("Network.enable")
    begin = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_function(USABLE)
    usable = time.perf_counter() - begin
    page.wait_for_selector("html.settled")
    count = -1
    while len(sizes) != count:
        count = len(sizes)
        page.wait_for_timeout(2000)
    page.context.close()
    return {"visit_usable": usable, "visit_kilobytes": sum(sizes) / 1000}


def answers(url: str) -> bool:
    """Whether the page is there."""
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status == 200
    except urllib.error.URLError:
        return False


def report(options: argparse.Namespace, is_cut: bool, rounds: list[dict[str, float]]) -> None:
    median = {name: statistics.median(row[name] for row in rounds) for name in rounds[0]}
    worst = {name: max(row[name] for row in rounds) for name in FIGURES}
    slowest = min(row["tokens_per_second"] for row in rounds)
    result: dict[str, Any] = {
        "benchmark": "start",
        "model": options.model,
        "rounds": options.rounds,
        "network": "cut" if is_cut else "not cut",
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "gradio", "playwright")},
        **{f"{name}_seconds": round(median[name], 2) for name in FIGURES},
        **{f"{name}_worst_seconds": round(worst[name], 2) for name in FIGURES},
        "visit_kilobytes": round(median["visit_kilobytes"]),
        "tokens_per_second": round(median["tokens_per_second"], 1),
        "tokens_per_second_worst": round(slowest, 1),
    }
    print(f"{options.model}, network {result['network']}: seconds from the start, median and worst of {options.rounds}")
    for name, words in FIGURES.items():
        print(f"{words:26} {median[name]:7.2f} {worst[name]:7.2f}")
    print(f"{'tokens/s of a story':26} {median['tokens_per_second']:7.1f} {slowest:7.1f}")
    print(f"{'KB of a first visit':26} {median['visit_kilobytes']:7.0f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
