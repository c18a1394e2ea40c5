"""How far the page lags behind the server: 2 000 tokens with alternatives, in an empty chat and after 60 messages.

    python -m benchmarks.streaming

The engine is a fake that writes 300 tokens a second; the browser is a real one. Also the longest task meanwhile, how
long a chat of 700 messages takes to open and a question in it to stand there, and how long after its tab was closed a
reply's slot is free, at the fake and at a random model. Prints a table, and as its last line one JSON object.
"""

import argparse
import importlib.metadata
import json
import statistics
import time
from contextlib import closing

from playwright.sync_api import sync_playwright

from benchmarks.common import machine, medians
from tests.browser.apps import FAKE_APP, App, launch, wait_for
from tests.browser.steps import OLD_TALK, make_endless, send, set_knob, settle, tokens, wait_until_ready

TOKENS = 2000
LONG = 700  # messages
CHATS = {"empty": "null", "after_60": f"{{...({OLD_TALK})(), id: 'old' + Date.now()}}"}

# Times of this page in seconds since 1970, as the server's: Enter was pressed, the last token was painted.
CLOCK = """last => { const now = () => (performance.timeOrigin + performance.now()) / 1000;
    window.asked = window.painted = null; window.longest = 0;
    window.tasks ??= new PerformanceObserver((list) => {
        for (const { duration } of list.getEntries()) window.longest = Math.max(window.longest, duration / 1000); });
    window.tasks.observe({ type: 'longtask' });
    addEventListener('keydown', () => { window.asked ??= now(); }, { capture: true, once: true });
    const watch = new MutationObserver(() => {
        if (!document.querySelector(`.message:last-child .tok[data-i="${last}"]`)) return;
        watch.disconnect();
        requestAnimationFrame(() => setTimeout(() => { window.painted = now(); })); });
    watch.observe(document.querySelector('#conversation'), { childList: true, subtree: true }); }"""

# Seconds from the choice of a kept chat until it is painted.
OPENED = """async id => { const start = performance.now();
    Glass.chat.leave(await Glass.store.read(id));
    await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
    return (performance.now() - start) / 1000; }"""
# Seconds from Enter until the question is painted.
SENT = """() => { window.sent = null; let pressed;
    const count = document.querySelectorAll('[data-testid=user]').length;
    addEventListener('keydown', () => { pressed ??= performance.now(); }, { capture: true, once: true });
    const watch = new MutationObserver(() => {
        if (document.querySelectorAll('[data-testid=user]').length === count) return;
        watch.disconnect();
        requestAnimationFrame(() => setTimeout(() => { window.sent = (performance.now() - pressed) / 1000; })); });
    watch.observe(document.querySelector('#conversation'), { childList: true, subtree: true }); }"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="the first one warms up")
    parser.add_argument("--tabs", type=int, default=5, help="how many tabs are closed at each engine")
    options = parser.parse_args()
    with sync_playwright() as playwright, closing(launch(playwright)) as browser:
        with closing(App(program=FAKE_APP)) as fake:
            figures = medians(measure_streaming(fake, browser, options.rounds))
            figures |= medians(measure_long_chat(fake, browser, options.rounds))
            closed = {"fake": measure_closed_tabs(fake, browser, options.tabs)}
        with closing(App("--model", "random:tiny", "--slots", "2")) as tiny:
            closed["tiny"] = measure_closed_tabs(tiny, browser, options.tabs)
        version = browser.version
    report(options.rounds, version, figures, closed)


def report(rounds: int, version: str, figures: dict[str, float], closed: dict[str, list[float]]) -> None:
    for chat in CHATS:
        print(
            f"{chat:>9}: last token painted {figures[f'{chat}_lag']:.3f} s after the server chose it, "
            f"{figures[f'{chat}_seconds']:.2f} s after Enter; longest task {figures[f'{chat}_longest_task']:.3f} s"
        )
    print(f"{LONG:>5} old: opened in {figures['long_opened']:.3f} s, a question stands in {figures['long_sent']:.3f} s")
    for name, times in closed.items():
        print(
            f"{name:>9}: slot free {statistics.median(times):.3f} s after its tab was closed, at most "
            f"{max(times):.3f} s"
        )
    print(
        json.dumps(
            {
                "benchmark": "streaming",
                "tokens": TOKENS,
                "rounds": rounds,
                **machine("CPU"),
                "chromium": version,
                "gradio": importlib.metadata.version("gradio"),
                **{name: round(value, 3) for name, value in figures.items()},
                "change_by_60_messages": round(figures["after_60_seconds"] / figures["empty_seconds"] - 1, 4),
                "free_after_closed_tab": {name: [round(value, 3) for value in times] for name, times in closed.items()},
            }
        )
    )


def open_page(app: App, browser):
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.goto(app.url)
    settle(page)
    return page


def measure_streaming(fake: App, browser, rounds: int):
    """One row of figures a round, each chat first in every other one."""
    page = open_page(fake, browser)
    set_knob(page, "Max tokens", TOKENS)
    for number in range(rounds):
        row = {}
        for chat in list(CHATS)[:: 1 if number % 2 else -1]:
            page.evaluate(f"localStorage.clear(); Glass.chat.leave({CHATS[chat]})")
            page.evaluate(CLOCK, TOKENS - 1)
            send(page, "Hello")
            page.wait_for_function("window.painted", timeout=120_000, polling=200)
            wait_until_ready(page)
            asked, painted = page.evaluate("[window.asked, window.painted]")
            row |= {f"{chat}_lag": painted - fake.ask("fake")[-1]["ended"], f"{chat}_seconds": painted - asked}
            row[f"{chat}_longest_task"] = page.evaluate("longest")
        yield row
    page.context.close()


def measure_long_chat(fake: App, browser, rounds: int):
    """A chat of `LONG` messages, from the browser's storage."""
    page = open_page(fake, browser)
    set_knob(page, "Max tokens", 20)
    for number in range(rounds):
        page.evaluate(f"Glass.chat.save(Glass.Tree.from({{...({OLD_TALK})({LONG}), id: 'long{number}'}}))")
        opened = page.evaluate(OPENED, f"long{number}")
        page.evaluate(SENT)
        send(page, "Hello")
        page.wait_for_function("window.sent")
        yield {"long_opened": opened, "long_sent": page.evaluate("sent")}
        wait_until_ready(page)
    page.context.close()


def measure_closed_tabs(app: App, browser, tabs: int) -> list[float]:
    """Seconds from closing a tab in mid-reply until the engine has no reply to write."""
    times = []
    for _ in range(tabs):
        page = open_page(app, browser)
        make_endless(page)
        send(page, "Hello")
        tokens(page).nth(20).wait_for(state="attached")
        assert app.health()["busy"] == 1
        start = time.perf_counter()
        page.close()
        wait_for(lambda: app.health()["busy"] == 0, 10)
        times.append(time.perf_counter() - start)
        page.context.close()
    return times


if __name__ == "__main__":
    main()
