"""Whether a long chat holds up other people's words on the page: one tab streams a reply, another one has a chat of 400
turns and sends each of its events in turn, with what the page's scripts send: the path's words, and one message with
every token's alternatives. Then somebody who does not use our scripts posts all of it with
every alternative.

    python -m benchmarks.holds

Prints for each event the longest time in which the server's event loop did nothing else, and as its last line one JSON
object. The server is a process of its own.
"""

import argparse
import json
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))

from page_client import Tab

from benchmarks.common import machine
from benchmarks.crowd.server import server
from web.chat.codec import write_conversation
from web.chat.conversation import ROOT, Alternative, Conversation, Node, Record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="random:tiny")
    parser.add_argument("--turns", type=int, default=400)
    parser.add_argument("--tokens", type=int, default=75, help="of each reply, with eight alternatives each")
    options = parser.parse_args()
    chat = long_chat(options)
    with server("--model", options.model) as url:
        rows = measure(url, chat)
    for name, hold in rows.items():
        print(f"{name:>10}: longest hold {hold:6.1f} ms")
    result = {
        "benchmark": "holds",
        "model": options.model,
        "turns": options.turns,
        "megabytes": len(write_conversation(chat)) / 1e6,
    }
    print(
        json.dumps(
            {**result, "hold_ms": rows, "longest_ms": max(rows.values()), "load": os.getloadavg()[0], **machine("CPU")}
        )
    )


def long_chat(options: argparse.Namespace) -> Conversation:
    """Questions and replies as the page keeps them."""
    others = tuple(Alternative(1000 + rank, f" word{rank}", 0.0123, 0.0234) for rank in range(8))
    records = (Record(1000, " word", 0.0123, 0.0234, others),) * options.tokens
    chat = Conversation()
    nodes, shown = [], {}
    for parent in range(ROOT, 2 * options.turns - 1, 2):
        nodes.append(Node("user", parent, "Tell me something about the sea and the sky. " * 3))
        nodes.append(
            Node("assistant", parent + 1, records=records, finish="stop", model=options.model, model_id=options.model)
        )
        shown |= {parent: parent + 1, parent + 1: parent + 2}
    return Conversation(chat.id, tuple(nodes), shown)


def events(chat: Conversation) -> dict[str, tuple[str, dict[str, Any]]]:
    """By name the conversation that is posted, and what is asked of it."""
    last = len(chat.nodes) - 1
    plain = [replace(node, words=node.text, records=()) for node in chat.nodes[:-1]]
    path = write_conversation(replace(chat, nodes=(*plain, chat.nodes[-1])))
    return {
        "retry": (path, {"do": "retry", "node": last}),
        "choose": (path, {"do": "choose", "node": last, "index": 1}),
        "all posted": (write_conversation(chat), {"do": "retry", "node": last}),
    }


def measure(url: str, chat: Conversation) -> dict[str, float]:
    """The longest hold during each event, in milliseconds, and in as much time of nothing but the stream."""
    rows = {}
    with Tab(url) as reader, Tab(url) as writer:
        ending = threading.Event()

        def stream() -> None:
            while not ending.is_set():
                reader.ask("Tell me a story")

        thread = threading.Thread(target=stream)
        thread.start()
        time.sleep(2)
        writer.client.get(f"{url}/watch")
        time.sleep(3)
        rows["stream"] = writer.client.get(f"{url}/watch").json()["hold_ms"]
        for name, (posted, event) in events(chat).items():
            writer.send("conversation", "act", ("", posted), event)
            with writer.messages() as messages:
                list(messages)
            rows[name] = writer.client.get(f"{url}/watch").json()["hold_ms"]
        ending.set()
        thread.join()
    return rows


if __name__ == "__main__":
    main()
