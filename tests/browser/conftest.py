"""A running app and a real browser (Debian's chromium, driven by Playwright)."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from steps import settle

ROOT = Path(__file__).parents[2]
FAKE_APP = ("tests/browser/fake_app.py", "0", "300")
SCREENS = {"desktop light": (1280, 800, "light"), "phone dark": (390, 844, "dark")}
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]


class App:
    """`python app.py` as a person starts it, on a free port; or another program that prints its address."""

    def __init__(self, *arguments, program=("app.py", "--port", "0")):
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE
        )
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        self.url = found[0]

    def health(self):
        return self.ask("health")

    def ask(self, path, post=False):
        """The JSON at a path."""
        request = urllib.request.Request(f"{self.url}/{path}", method="POST" if post else "GET")
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        self.process.stdout.close()


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
    path = next((found for name in ("chromium", "google-chrome", "chrome") if (found := shutil.which(name))), None)
    if path is None:
        assert not os.environ.get("CI"), "no chromium on this machine"
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shoot(request, tmp_path_factory):
    """Takes a picture of a page; with `pytest --screenshots` into docs/, for the README."""
    folder = ROOT / "docs" if request.config.getoption("--screenshots") else tmp_path_factory.mktemp("screenshots")

    def take(page, name):
        page.screenshot(path=folder / f"{name}.png")

    return take


@pytest.fixture
def open_page(browser):
    """Pages that fail the test if they ask another host for anything, or if a script on them fails."""
    pages, foreign, errors = [], [], []

    def watch(request):
        blocked = request.failure == "csp"  # the browser never sent it
        if not blocked and not re.match(r"http://127\.0\.0\.1:|data:|blob:", request.url):
            foreign.append(request.url)

    def open_(app, width=1280, height=800, theme="light", beside=None):
        context = beside.context if beside else browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True, reduced_motion="reduce")
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
