"""The fixtures of the tests in a browser."""

import os
import re

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


@pytest.fixture(scope="module")
def noise(start_app):
    """A small random model."""
    return start_app("--model", "random:tiny", "--slots", "2")


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


@pytest.fixture
def open_page(browser):
    """Pages that fail the test if they ask another host for anything, or if a script on them fails."""
    pages, foreign, errors = [], [], []

    def watch(request):
        blocked = request.failure == "csp"  # the browser never sent it
        if not blocked and not re.match(r"http://127\.0\.0\.1:|data:|blob:", request.url):
            foreign.append(request.url)

    def open_(app, width=1280, height=800, theme="light", beside=None, **more):
        context = (
            beside.context
            if beside
            else browser.new_context(
                viewport={"width": width, "height": height},
                accept_downloads=True,
                reduced_motion="reduce",
                **{"locale": "en-US", **more},
            )
        )
        page = context.new_page()
        page.on("requestfinished", watch)
        page.on("requestfailed", watch)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{app.url}/?__theme={theme}")
        settle(page)
        pages.append(page)
        return page

    yield open_
    for page in pages:
        page.context.close()
    assert foreign == [] and errors == []


@pytest.fixture(params=list(SCREENS))
def look(request):
    """Width, height and theme: each scenario is played at a desk and on a phone."""
    return SCREENS[request.param]


@pytest.fixture
def page(look, fake, open_page):
    """The fake app's page, where replies have 40 tokens unless told otherwise."""
    return open_page(fake, *look)
