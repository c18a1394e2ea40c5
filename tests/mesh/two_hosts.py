"""Two processes that share a model, as two hosts do: the real app, asked over HTTP. It takes minutes, so it is run by
hand where hosts are changed: pytest tests/mesh/two_hosts.py
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from llama_core import Engine, SamplingParams, load_checkpoint

ROOT = Path(__file__).parents[2]
PROMPT = "hello there"


@pytest.fixture
def hosts(tmp_path):
    """Both processes, ready; the first one's address, and what each has printed."""
    # What is started in the background of a script ignores Ctrl+C, and hands that down to what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ports = [free_port(), free_port()]
    told = ["--model=random:tiny", "--hosts=2", f"--coordinator=127.0.0.1:{ports[0]}", "--slots=1", "--max-seq-len=128"]
    logs = [tmp_path / "first", tmp_path / "second"]
    with contextlib.ExitStack() as stack:
        processes = []
        for host, more in enumerate((f"--port={ports[1]}", "--host-id=1")):
            file = stack.enter_context(logs[host].open("w"))
            command = [sys.executable, "app.py", *told, more]
            processes.append(subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file))
            stack.callback(end, processes[-1])
        wait_for(lambda: "ready" in logs[0].read_text().split(), 300)
        yield processes, f"http://127.0.0.1:{ports[1]}", logs


def end(process):
    process.kill()
    process.wait()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(condition, seconds):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def ask(address, count):
    asked = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": count, "temperature": 0}
    return httpx.post(f"{address}/v1/chat/completions", json={"model": "random:tiny", **asked}, timeout=60)


def test_a_chat_is_that_of_one_host_and_both_end_together(hosts):
    processes, address, _ = hosts
    model = load_checkpoint("random:tiny")
    ids = model.chat.prompt_ids([{"role": "user", "content": PROMPT}])
    with Engine(model, 1, 128) as engine:
        alone = [token.id for token in engine.submit(ids, SamplingParams(temperature=0.0, max_new_tokens=12))]
    for _ in range(2):  # the second time from the prefix cache
        assert ask(address, 12).json()["choices"][0]["message"]["content"] == model.tokenizer.decode(alone)
    processes[0].send_signal(signal.SIGINT)
    assert [process.wait(30) for process in processes] == [130, 0]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["ended", "silent"])
def test_a_lost_follower_is_said_within_ten_seconds(hosts, how):
    processes, address, logs = hosts
    answers = []
    asking = threading.Thread(target=lambda: answers.append((ask(address, 100), time.monotonic())))
    asking.start()
    time.sleep(0.05)
    os.kill(processes[1].pid, how)
    lost = time.monotonic()
    wait_for(lambda: "error: the engine failed (LostHost: host 1 of 2 " in logs[0].read_text(), 10)
    assert "EngineDead" not in ask(address, 4).text and "host 1 of 2" in ask(address, 4).text
    asking.join(10)
    assert answers and answers[0][1] - lost < 10
    assert processes[0].wait(40) == 1


def test_a_follower_ends_when_the_first_host_is_lost(hosts):
    """By itself, or JAX ends it, which misses its coordinator."""
    processes, _, _ = hosts
    processes[0].kill()
    assert processes[1].wait(10) != 0
