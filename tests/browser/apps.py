"""A running app and a real browser (Debian's chromium, driven by Playwright), for the tests and for benchmarks."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAKE_APP = ("tests/browser/fake_app.py", "0", "300")
SCREENS = {"desktop light": (1280, 800, "light"), "phone dark": (390, 844, "dark")}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)


class App:
    """`python app.py` as a person starts it, on a free port; or another program that prints its address. Ready, unless
    that is not waited for."""

    def __init__(self, *arguments, program=("app.py", "--port", "0"), waits=True, **environment):
        command, environment = [sys.executable, *program, *arguments], {**os.environ, **environment}
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, env=environment)
        if waits:
            self.wait_until_ready()

    @functools.cached_property
    def url(self):
        """Its address, as soon as it says it."""
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        return found[0]

    def wait_until_ready(self, seconds=300):
        wait_for(lambda: self.health()["ok"], seconds)
        return self

    def health(self):
        """What /health says, also when that is 503."""
        try:
            return self.ask("health")
        except urllib.error.HTTPError as problem:
            with problem:
                return json.load(problem)

    def ask(self, path, post=False):
        """The JSON at a path."""
        request = urllib.request.Request(f"{self.url}/{path}", method="POST" if post else "GET")
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def cancelled(self):
        """How many replies were cancelled so far, as /metrics says."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            words = answer.read().decode()
        found = re.search(r'^glass_llama_replies_total\{finish="cancelled"\} (.+)$', words, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        self.process.stdout.close()


def browser_path():
    """Where the browser is; None if there is none on this machine."""
    return next((found for name in ("chromium", "google-chrome", "chrome") if (found := shutil.which(name))), None)


def launch(playwright):
    return playwright.chromium.launch(executable_path=browser_path(), args=FLAGS)
