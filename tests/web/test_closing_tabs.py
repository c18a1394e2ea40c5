"""Tabs that close in the middle of something, at a real server: nothing is left behind and nothing is in its log."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from page_client import Tab

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server():
    """The page with an engine that needs no model, and its address; in the end there is nothing in its log."""
    process = subprocess.Popen(
        [sys.executable, "tests/browser/fake_app.py", "0", "300"],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.url = process.stdout.readline().strip()
    yield process
    process.terminate()
    try:
        _, log = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        _, log = process.communicate()
    assert log == ""


def replies(tab, url):
    """What the engine was asked."""
    return tab.client.get(f"{url}/fake").json()


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_tabs_that_close_while_they_wait_or_read_free_their_slots(server):
    with Tab(server.url) as last:
        for hold, messages_read in ((3, 3), (3, 5), (0, 4)):
            last.client.post(f"{server.url}/fake/hold/{hold}")
            last.client.post(f"{server.url}/fake/pace/20")
            before = len(replies(last, server.url))
            with Tab(server.url) as tab:
                tab.send("message", "submit", ("Hello",))
                with tab.messages() as messages:
                    for _ in range(messages_read):
                        next(messages)
            wait_for(
                lambda before=before: replies(last, server.url)[before:][:1] and replies(last, server.url)[-1]["ended"]
            )
        last.client.post(f"{server.url}/fake/pace/0")
        assert '"length"' in last.ask("And now?").replace("\\", "")


def test_the_server_keeps_nothing_of_a_chat(server):
    with Tab(server.url) as tab:
        assert "Length limit" in tab.ask("Hello")
        for _ in range(2):
            with Tab(server.url) as closed:
                closed.ask("Hello")
        kept = tab.client.get(f"{server.url}/fake/kept/Length").json()
        assert kept["sessions"] >= 3 and kept["with_word"] == 0
