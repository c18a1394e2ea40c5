"""What goes wrong around the app, and what has to hold then: the server is told to end or killed, a client is slow, the
device has no memory left."""

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
from fakes import PacedPrograms
from page_client import Tab

from llama_core import Engine
from web import server as server_module
from web.api.clients import Clients
from web.middleware import BodyLimit
from web.models.manager import ModelManager, Served
from web.page.page import build_page
from web.port import claim_port, open_port, url_of
from web.server import Server, build_app
from web.settings import Settings

ROOT = Path(__file__).parents[3]
ASKED = {"messages": [{"role": "user", "content": "Hello"}]}
STREAMED = ASKED | {"stream": True, "stream_options": {"include_usage": True}}
FOREVER = 60


@contextlib.contextmanager
def serving(model, programs):
    """The whole app over these programs: its server, that server's thread and its address."""
    settings = Settings(slots=2)
    with ModelManager(settings) as manager, claim_port("127.0.0.1", 0) as listener:
        engine = Engine(model, slots=2, max_seq_len=256, compile=lambda *_: programs)
        engine.warm_up()
        manager._served, clients = Served(engine, model, True), Clients(manager, settings)
        app = build_app(build_page(manager, settings, clients), manager, settings, clients)
        open_port(listener)
        server, url = Server(app, manager), url_of(listener)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.02)
        try:
            yield server, thread, url
        finally:
            server.should_exit = True
            thread.join()


def stream(url, tokens):
    return httpx.stream("POST", f"{url}/v1/chat/completions", json=STREAMED | {"max_tokens": tokens}, timeout=FOREVER)


def events(answer):
    """Of a stream of the API; None: [DONE]."""
    for line in filter(None, answer.iter_lines()):
        yield json.loads(line[6:]) if line.startswith("data: {") else None
        assert line.startswith("data: {") or line == "data: [DONE]"


def test_replies_end_before_the_server_does(manager, monkeypatch):
    """A short one comes to its own end; the page's and another program's, which would take longer than there is time,
    end with what there is."""
    model = manager.served.model
    with serving(model, PacedPrograms(2, 0.05)) as (server, thread, url):
        with Tab(url) as tab, stream(url, 8) as answer:
            monkeypatch.setattr(server_module, "DRAIN_SECONDS", 2)
            tab.send("message", "submit", ("Tell me a story",))
            with tab.messages() as messages:
                told = [next(messages) for _ in range(4)]
                short = events(answer)
                read = [next(short)]
                server.should_exit = True
                read += short
                assert read[-2]["usage"]["completion_tokens"] == 8 and read[-1] is None
                assert read[-3]["choices"][0]["finish_reason"] == "length"
                told += messages
        assert told[-1]["msg"] in ("process_completed", "close_stream")
        assert "Stopped by the server" in json.dumps(told)
        thread.join(FOREVER)
        assert not thread.is_alive()
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/health")


def test_a_stream_that_takes_too_long_has_an_end_like_others(manager, monkeypatch):
    monkeypatch.setattr(server_module, "DRAIN_SECONDS", 0.2)
    with serving(manager.served.model, PacedPrograms(2, 0.1)) as (server, _, url), stream(url, 150) as answer:
        read = events(answer)
        next(read)
        server.should_exit = True
        *_, finish, usage, done = read
    assert finish["choices"][0]["finish_reason"] == "length" and done is None
    assert usage["usage"]["completion_tokens"] < 150


def test_a_client_that_sends_byte_by_byte_holds_up_nobody_and_is_refused(manager, monkeypatch):
    monkeypatch.setattr(BodyLimit.__init__, "__defaults__", (0.3,))
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 0.3)
    with serving(manager.served.model, PacedPrograms(2, 0)) as (_, _, url):
        address = "127.0.0.1", int(url.rpartition(":")[2])
        with socket.create_connection(address) as body, socket.create_connection(address) as head:
            head.sendall(b"GET / HT")
            body.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
            answer = httpx.post(f"{url}/v1/chat/completions", json=ASKED | {"max_tokens": 1}, timeout=FOREVER)
            assert answer.status_code == 200
            for slow in (head, body):
                slow.settimeout(FOREVER)
            refusal = b"".join(iter(lambda: body.recv(65536), b""))
            assert head.recv(1) == b""  # hung up
    assert refusal.startswith(b"HTTP/1.1 408 ")
    assert json.loads(refusal.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_too_slow"


class NoMemory(PacedPrograms):
    """Its device has no memory left when a reply is under way."""

    def decode(self, slots, steps):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes\nand a long report")


def test_a_device_without_memory_is_said_to_the_reader_and_to_the_console(manager):
    with serving(manager.served.model, NoMemory(2, 0)) as (server, _, url), stream(url, 20) as answer:
        read = list(events(answer))
        [problem] = [event["error"] for event in read if event and "error" in event]
        assert problem["code"] == "engine_failed" and read[-1] is None
        assert re.search("ran out of memory.* start the app with ", problem["message"])
        assert httpx.get(f"{url}/health").json()["status"] == "failed"
        assert server._manager.failure == problem["message"]


KILLED = """
import sys
from llama_core.tokenizer.template_process import Template
from web.port import claim_port, open_port, url_of
template, listener = Template("x"), claim_port("127.0.0.1", 0)
open_port(listener)
print(url_of(listener), template._process.pid, flush=True)
connection = listener.accept()[0]
connection.recv(100)
connection.send(b"HTTP/1.1 200 OK")
sys.stdin.read()
"""


def test_a_process_that_is_killed_in_an_answer_leaves_no_process_and_no_port():
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        url, worker = process.stdout.readline().split()
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            client.recv(100)
            process.send_signal(signal.SIGKILL)
            process.wait()
            with claim_port("127.0.0.1", port) as listener:
                open_port(listener)
    until = time.monotonic() + FOREVER
    while is_alive(int(worker)):
        assert time.monotonic() < until
        time.sleep(0.02)


def is_alive(pid):
    """Whether the process runs; one that ended waits for whoever collects orphans."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
