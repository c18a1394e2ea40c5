"""The fixtures of the tests in a browser."""

import json
import os
import re
from collections import defaultdict

import pytest
from apps import FAKE_APP, SCREENS, App, browser_path, launch
from playwright.sync_api import expect, sync_playwright
from steps import settle


@pytest.fixture(scope="module")
def start_app():
    """Apps by their arguments, closed at the end."""
    apps = []

    def start(*arguments, **more):
        apps.append(App(*arguments, **more))
        return apps[-1]

    yield start
    for app in apps:
        app.close()


@pytest.fixture(autouse=True, scope="session")
def patience():
    """How long what is expected of a page may take: not a claim about speed, and the machine may be busy."""
    expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def fake():
    """The page with an engine that writes 300 tokens a second and needs no model."""
    app = App(program=FAKE_APP)
    yield app
    app.close()


@pytest.fixture(scope="module")  # Playwright keeps an event loop running, under which no test may start its own
def browser():
    if browser_path() is None:
        assert not os.environ.get("CI"), "no chromium on this machine"
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


class Contexts:
    """Contexts of a browser, as of people who share nothing; used again, as of a person who visits the page for the
    first time but has its scripts loaded and compiled."""

    def __init__(self, browser):
        self.browser, self.free, self.taken = browser, defaultdict(list), []

    def take(self, **kind):
        free = self.free[json.dumps(kind, sort_keys=True)]
        context = free.pop() if free else self.browser.new_context(**kind)
        self.taken.append((free, context))
        return context

    def give_back(self):
        for free, context in self.taken:
            for page in context.pages:
                page.close()
            context.clear_cookies()
            free.append(context)
        self.taken.clear()


def forget(page, url):
    """Whatever the browser keeps for this address, but what it has loaded."""
    session = page.context.new_cdp_session(page)
    kinds = "cookies,local_storage,indexeddb"
    session.send("Storage.clearDataForOrigin", {"origin": url, "storageTypes": kinds})
    session.detach()


@pytest.fixture(scope="module")
def contexts(browser):
    return Contexts(browser)


@pytest.fixture
def open_page(contexts):
    """Pages that fail the test if they ask another host for anything, or if a script on them fails."""
    foreign, errors = [], []

    def watch(request):
        blocked = request.failure == "csp"  # the browser never sent it
        if not blocked and not re.match(r"http://127\.0\.0\.1:|data:|blob:", request.url):
            foreign.append(request.url)

    def open_(app, width=1280, height=800, theme="light", beside=None, **more):
        screen = {"width": width, "height": height}
        kind = {"viewport": screen, "accept_downloads": True, "reduced_motion": "reduce", "locale": "en-US", **more}
        page = (beside.context if beside else contexts.take(**kind)).new_page()
        if not beside:
            forget(page, app.url)
        page.on("requestfinished", watch)
        page.on("requestfailed", watch)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{app.url}/?__theme={theme}")
        settle(page)
        return page

    yield open_
    contexts.give_back()
    assert foreign == [] and errors == []


@pytest.fixture(params=list(SCREENS))
def look(request):
    """Width, height and theme: each scenario is played at a desk and on a phone."""
    return SCREENS[request.param]


@pytest.fixture
def page(look, fake, open_page):
    """The fake app's page, where replies have 40 tokens unless told otherwise."""
    return open_page(fake, *look)
