"""The front door as a person uses it from a shell: every bad input is one line, exit code 2 and no traceback."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from checkpoints import NORM, copy_checkpoint, edit_json, edit_tensors
from fake_hub import serve_fake_hub
from huggingface_hub import constants
from page_client import Tab

import app

ROOT = Path(__file__).parents[2]


def refusal_of(returncode, out, err):
    """The line that says why; fails unless the app refused as promised."""
    assert returncode == 2 and out == "", err
    assert re.fullmatch(r"error: [^\n]+\n", err), err
    return err


def run_process(*arguments):
    """What `python app.py` prints to stderr after it has refused."""
    command = [sys.executable, "app.py", "--port", "0", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    return refusal_of(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def run(capsys):
    """The same in this process, without the seconds of a start."""

    def run_here(*arguments):
        code = app.main(["--port", "0", *map(str, arguments)])
        return refusal_of(code, *capsys.readouterr())

    return run_here


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: edit_tensors(f, lambda t: t.pop(NORM)), f"{NORM} is missing (1 of 21 are); download"),
        (lambda f: edit_json(f / "config.json", intermediate_size=128), "[64, 112], config.json says [64, 128]"),
        (
            lambda f: edit_json(f / "config.json", architectures=["GPT2LMHeadModel"]),
            "'GPT2LMHeadModel' is not supported",
        ),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-7]), "damaged"),
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            "only pytorch_model.bin; weights are read",
        ),
    ],
    ids=["missing tensor", "wrong shape", "unsupported architecture", "truncated", "pickle only"],
)
def test_broken_checkpoints(checkpoint, tmp_path, run, damage, words):
    folder = copy_checkpoint(checkpoint[0], tmp_path / "copy")
    damage(folder)
    assert words in run("--model", folder)


def test_a_missing_folder():
    assert "there is no folder ./nowhere; give a folder, a Hub id" in run_process("--model", "./nowhere")


def test_an_unknown_hub_id_and_no_network(run, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with serve_fake_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        assert "the Hub has no model us/gone, or it is private; check the name" in run("--model", "us/gone")
    found = run("--model", "us/gone")
    assert "cannot reach the Hugging Face Hub for us/gone" in found and "check the network" in found


def test_a_model_that_does_not_fit(run):
    found = run("--model", "random:1B", "--slots", "256", "--max-seq-len", "131072")
    assert "the model needs" in found and "GB are free" in found and ("would fit" in found or "smaller model" in found)


def test_a_port_in_use(run):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is in use by another program" in run("--port", port)


def test_a_wrong_setting_and_a_wrong_host(run):
    assert "--slots is 'many'" in run("--slots", "many")
    assert "--host 999.1.1.1: not an address of this machine" in run("--host", "999.1.1.1")


UNCOMPILABLE = """
import functools, sys, llama_core
def compile(*_):
    sys.stdin.readline()
    raise MemoryError("no room")
llama_core.Engine = functools.partial(llama_core.Engine, compile=compile)
import app
sys.exit(app.main(["--model", "random:tiny", "--port", "0"]))
"""


def test_programs_that_cannot_be_compiled_end_the_app_after_a_word_to_the_page():
    app = subprocess.Popen(
        [sys.executable, "-c", UNCOMPILABLE],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    timer = threading.Timer(100, app.kill)
    timer.start()
    url = re.search(r"http://\S+", app.stdout.readline())[0]
    assert app.stdout.readline().startswith("visitors may load other models (--switching auto: only this machine")
    assert health(url) == (503, "starting")
    app.stdin.write("\n")
    app.stdin.flush()
    said = set()
    while app.poll() is None:
        with contextlib.suppress(OSError):  # it is gone
            said.add(health(url))
        time.sleep(0.05)
    timer.cancel()
    printed, problem = app.communicate()
    assert app.returncode == 2 and printed == "" and (503, "failed") in said
    assert re.fullmatch(r"error: the model's programs cannot be compiled \(MemoryError: no room\)[^\n]+\n", problem)


def health(url):
    try:
        with urllib.request.urlopen(f"{url}/health") as answer:
            return answer.status, json.load(answer)["status"]
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, json.load(answer)["status"]


def test_imports_run_downhill():
    """The page never imports jax, the model never imports the page (ARCHITECTURE: laws of the house)."""
    for room, forbidden in [("llama_core", r"gradio|web\b"), ("web", r"jax\b")]:
        for path in (ROOT / room).rglob("*.py"):
            assert not re.search(rf"^\s*(import|from) ({forbidden})", path.read_text(), re.MULTILINE), path


# The app with an engine whose device fails in the middle of a reply. `{before}` comes before it is started.
FAILING = """
import functools, sys, llama_core
sys.path[:0] = ["tests/helpers"]
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
        _, problem = process.communicate()
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
from types import SimpleNamespace
from fastapi import FastAPI
from web import server
from web.port import claim_port, open_port, url_of
server.LAST_WORDS_SECONDS = server.LAST_RESORT_SECONDS = 0.5
listener = claim_port("127.0.0.1", 0)
open_port(listener)
print(url_of(listener), flush=True)
threading.Thread(target=threading.Event().wait).start()
server.serve(FastAPI(), listener, lambda: 7, SimpleNamespace(busy=False, close=lambda: None))
"""


def test_a_thread_that_waits_for_a_failed_device_for_ever_does_not_keep_the_process():
    with running(STUCK) as (process, _):
        assert process.wait() == 7
