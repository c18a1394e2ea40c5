"""An engine that failed ends the process, so that what supervises it starts it again."""

import contextlib
import re
import subprocess
import sys
import threading
from pathlib import Path

from page_client import Tab

ROOT = Path(__file__).parents[2]

# The app with an engine whose device fails in the middle of a reply. `{before}` comes before it is started.
FAILING = """
import functools, sys, llama_core
sys.path[:0] = ["tests"]
from fakes import FakePrograms
def compile(params, config, slots, *_):
    return FakePrograms(slots, fails_at=5)
llama_core.Engine = functools.partial(llama_core.Engine, compile=compile)
import app
from web import server
server.LAST_WORDS_SECONDS = 1
{before}
sys.exit(app.main(["--model", "random:tiny", "--port", "0", "--slots", "1", "--max-seq-len", "256"]))
"""


@contextlib.contextmanager
def running(code):
    """A Python program and the address that it prints; killed if it does not end in time."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    timer = threading.Timer(100, process.kill)
    timer.start()
    try:
        yield process, re.search(r"http://\S+", process.stdout.readline())[0]
    finally:
        timer.cancel()
        process.kill()
        process.communicate()


def test_a_failed_engine_ends_the_process_after_its_replies_have_learnt_why():
    with running(FAILING.format(before="")) as (process, url):
        with Tab(url) as tab:
            answer = tab.ask("Tell me a story")
        printed, problem = process.communicate()
    assert "the engine failed (RuntimeError: the device is gone)" in answer and '"process_completed"' in answer
    assert process.returncode == 1
    assert problem == "error: the engine failed (RuntimeError: the device is gone); start the app again\n"


BREAKS_THE_SECOND = """
from web.models.manager import ModelManager
start = ModelManager.start
def start_two(manager, *arguments):
    loading = start(manager, *arguments)
    loading.wait()
    manager.put("random:tiny", lambda *_: None)
    return loading
ModelManager.start = start_two
"""


def test_so_does_an_engine_that_took_over_whatever_its_thread_died_of():
    before = f"{BREAKS_THE_SECOND}\nfrom llama_core.engine.scheduler import Scheduler\n"
    before += "def die(self, *_): raise SystemExit('gone')\nScheduler._dispatch_decode = die\n"
    with running(FAILING.format(before=before)) as (process, url):
        with Tab(url) as tab:
            answer = tab.ask("Tell me a story")
        _, problem = process.communicate()
    assert "the engine failed (SystemExit: gone)" in answer
    assert process.returncode == 1 and problem.startswith("error: the engine failed (SystemExit: gone)")


STUCK = """
import threading
from fastapi import FastAPI
from web import server
from web.port import claim_port, open_port, url_of
server.LAST_WORDS_SECONDS = server.LAST_RESORT_SECONDS = 0.5
listener = claim_port("127.0.0.1", 0)
open_port(listener)
print(url_of(listener), flush=True)
threading.Thread(target=threading.Event().wait).start()
server.serve(FastAPI(), listener, lambda: 7)
"""


def test_a_thread_that_waits_for_a_failed_device_for_ever_does_not_keep_the_process():
    with running(STUCK) as (process, _):
        assert process.wait() == 7
