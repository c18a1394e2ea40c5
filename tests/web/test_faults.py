"""What goes wrong around the app, and what has to hold then: the process is told to end or killed, a client is slow,
the device has no memory left."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from page_client import Tab

from web.port import claim_port, open_port

ROOT = Path(__file__).parents[2]
ASKED = {"messages": [{"role": "user", "content": "Hello"}], "stream": True, "stream_options": {"include_usage": True}}

# The app with programs that need no model: {pace} seconds a token.
APP = """
import functools, sys, llama_core
sys.path[:0] = ["tests/helpers"]
from fakes import FakePrograms
from web import middleware, server
server.DRAIN_SECONDS = {drain}
def compile(params, config, slots, *_):
    programs = FakePrograms(slots)
    programs.pace = {pace}
    return programs
llama_core.Engine = functools.partial(llama_core.Engine, compile=compile)
{before}
import app
sys.exit(app.main(["--model", "random:tiny", "--port", "0", "--slots", "2", "--max-seq-len", "2000"]))
"""


@contextlib.contextmanager
def running(pace=0.02, drain=3, before=""):
    """The app and its address; killed if it does not end in time."""
    code = APP.format(pace=pace, drain=drain, before=before)
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    timer = threading.Timer(100, process.kill)
    timer.start()
    try:
        url = re.search(r"http://\S+", process.stdout.readline())[0]
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None
        yield process, url
    finally:
        timer.cancel()
        process.kill()
        process.communicate()


def events(answer):
    """Of a stream of the API."""
    for line in answer.iter_lines():
        if line.startswith("data: {"):
            yield json.loads(line[6:])
        elif line:
            assert line == "data: [DONE]"
            yield None


def stream(url, tokens):
    return httpx.stream("POST", f"{url}/v1/chat/completions", json=ASKED | {"max_tokens": tokens}, timeout=60)


def test_a_process_that_is_told_to_end_lets_replies_end():
    """A short one comes to its own end; the page's, which would take long, ends with what there is."""
    with running() as (process, url), Tab(url) as tab, stream(url, 30) as answer:
        tab.send("message", "submit", ("Tell me a story",))
        with tab.messages() as messages:
            told = [next(messages) for _ in range(3)]
            short = events(answer)
            read = [next(short), next(short)]
            process.send_signal(signal.SIGTERM)
            read += short
            told += messages
        assert read[-1] is None and read[-2]["usage"]["completion_tokens"] == 30
        assert read[-3]["choices"][0]["finish_reason"] == "length"
        last = next(message for message in reversed(told) if message["msg"] == "process_completed")
        assert last["success"] and "the server stopped the model" in json.dumps(told)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/health")
        assert process.wait(20) == -signal.SIGTERM


def test_a_reply_that_takes_too_long_ends_with_its_finish_and_the_process_with_it():
    with running(drain=0.3) as (process, url), stream(url, 1900) as answer:
        read = events(answer)
        next(read)
        process.send_signal(signal.SIGTERM)
        *_, finish, usage, done = read
        assert finish["choices"][0]["finish_reason"] == "length" and done is None
        assert usage["usage"]["completion_tokens"] < 1900
        assert process.wait(20) == -signal.SIGTERM


def children(pid):
    """The processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_process_that_is_killed_in_a_reply_leaves_no_process_and_no_port():
    with running() as (process, url), stream(url, 1900) as answer:
        read, workers = events(answer), children(process.pid)
        next(read)
        process.kill()
        with pytest.raises(httpx.TransportError):  # no end that looks like one
            list(read)
        process.wait()
        with claim_port("127.0.0.1", int(url.rpartition(":")[2])) as listener:
            open_port(listener)
        until = time.monotonic() + 20
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            assert time.monotonic() < until
            time.sleep(0.05)


SLOW = "middleware.BodyLimit.__init__.__defaults__, server.HEAD_SECONDS = (0.5,), 0.5"


def test_a_client_that_sends_byte_by_byte_holds_up_nobody_and_is_refused():
    with running(before=SLOW) as (_, url):
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as slow, socket.create_connection((host, int(port))) as head:
            slow.settimeout(60)
            head.settimeout(60)
            head.sendall(b"GET / HT")
            lines = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n"
            slow.sendall(lines.encode() + b"{")
            asked = {"messages": ASKED["messages"], "max_tokens": 1}
            assert httpx.post(f"{url}/v1/chat/completions", json=asked).status_code == 200
            answer = b""
            while part := slow.recv(65536):
                answer += part
            assert head.recv(1) == b""  # hung up
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_too_slow"


NO_MEMORY = """
def decode(*_):
    raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes\\nand a long report")
FakePrograms.decode = decode
"""


def test_a_device_without_memory_is_said_to_the_reader_and_in_the_console():
    with running(before=NO_MEMORY) as (process, url), stream(url, 20) as answer:
        *_, last, done = events(answer)
        assert done is None and last["error"]["code"] == "engine_failed"
        assert re.search("ran out of memory.* start the app with ", last["error"]["message"])
        _, problem = process.communicate(timeout=60)
    assert process.returncode == 1 and problem == f"error: {last['error']['message']}\n"
