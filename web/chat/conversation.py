"""A conversation as a tree: every retry, edit and branch is one more child, and one child of each message is shown.

The browser keeps it: the server remembers nothing, so nothing is lost when it ends. What the browser sends (codec.py)
is the one path of it that a prompt is made from; what it gets back are the messages that are new.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, NamedTuple

from pydantic import Field

from llama_core.errors import UserError
from web.strings import TEXT

MAX_NODES = 2000
MAX_CHARACTERS = 400_000
MAX_TOKENS = 100_000
ROOT = -1  # the parent of first messages


class HistoryError(UserError):
    """A conversation that is not taken; one line for the person."""


# What a posted conversation may hold in these places.
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(ge=0, le=1)]
Alternatives = Annotated[tuple["Alternative", ...], Field(max_length=20)]


class Alternative(NamedTuple):
    """A token that could have come: `share` as the model gave it, `final_share` after temperature and cuts."""

    id: TokenId
    text: str
    share: Share
    final_share: Share


class Record(NamedTuple):
    """One token of a reply as it was chosen. A `forced` one was put there by the person."""

    id: TokenId
    text: str
    share: Share | None = None
    final_share: Share | None = None
    alternatives: Alternatives = ()
    forced: Annotated[bool, Field(strict=False)] = False  # 1 in JSON


@dataclass(frozen=True)
class Node:
    """One message. A reply has `records`, and `marks` where a control was moved while it was written (the index of the
    token, and what moved). `finish` says why it ended, `problem` what went wrong, `facts` how fast it came. `model` is
    the name of the model that wrote it, for people; `model_id` tells models apart (two can have the same name)."""

    role: str
    parent: int = ROOT
    words: str = ""
    records: tuple[Record, ...] = ()
    marks: tuple[tuple[int, str], ...] = ()
    finish: str = ""
    problem: str = ""
    facts: str = ""
    model: str = ""
    model_id: str = ""

    @property
    def text(self) -> str:
        """The message as the model reads it."""
        return "".join(record.text for record in self.records) or self.words


@dataclass(frozen=True)
class Conversation:
    """All versions of all messages. `selected[parent]` is the child that is shown. `context_start` is the first message
    that was in the model's context last time, None when all were. `system` and `stop` are what stood in those boxes
    last time. `request` is the number that the page gave to what it asked; the answer bears it again."""

    id: str = field(default_factory=lambda: secrets.token_hex(6))
    nodes: tuple[Node, ...] = ()
    selected: Mapping[int, int] = field(default_factory=dict)
    context_start: int | None = None
    system: str = ""
    stop: str = ""
    request: int = 0

    def path(self, until: int | None = None) -> list[int]:
        """The messages shown, oldest first; with `until` those before that message, whatever is shown."""
        if until is not None:
            path = []
            while (until := self.nodes[until].parent) != ROOT:
                path.append(until)
            return path[::-1]
        path, node = [], self.selected.get(ROOT)
        while node is not None:
            path.append(node)
            node = self.selected.get(node)
        return path

    def versions(self, node: int) -> list[int]:
        """The message and its other versions, oldest first."""
        parent = self.nodes[node].parent
        return [other for other, row in enumerate(self.nodes) if row.parent == parent]

    def add(self, node: Node) -> "Conversation":
        """With one more message, which is shown; its number is `len(self.nodes)`."""
        number = len(self.nodes)
        shown = {**self.selected, node.parent: number}
        return replace(self, nodes=(*self.nodes, node), selected=shown)

    def put(self, number: int, node: Node) -> "Conversation":
        """With another state of one message, which is shown."""
        nodes = (*self.nodes[:number], node, *self.nodes[number + 1 :])
        return replace(self, nodes=nodes, selected={**self.selected, node.parent: number})


def model_messages(conversation: Conversation, path: Sequence[int]) -> list[tuple[int, dict[str, str]]]:
    """The messages of a path as the chat template takes them, each with the number of the node at which it begins.
    Roles alternate strictly, which many templates demand.

    A reply without a word is left out together with its question (it failed, and would fail again). Messages of one
    role in a row, as after a Stop before the first word, become one.
    """
    messages: list[tuple[int, dict[str, str]]] = []
    for number in path:
        node = conversation.nodes[number]
        if node.role == "assistant" and not node.text.strip():
            if messages and messages[-1][1]["role"] == "user":
                messages.pop()
        elif messages and messages[-1][1]["role"] == node.role:
            first, message = messages[-1]
            messages[-1] = first, {"role": node.role, "content": f"{message['content']}\n\n{node.text}"}
        else:
            messages.append((number, {"role": node.role, "content": node.text}))
    return messages


def text_parts(conversation: Conversation, path: Sequence[int]) -> list[tuple[int, dict[str, str]]]:
    """The messages of a path as parts of one text, for a model that was not trained to chat: nothing stands between
    them, and what was written is in it whether or not a reply came."""
    nodes = [(number, conversation.nodes[number]) for number in path]
    return [(number, {"role": node.role, "content": node.text}) for number, node in nodes if node.text]


def check_size(conversation: Conversation) -> None:
    """Raises `HistoryError` for more messages or characters than one conversation may have."""
    if len(conversation.nodes) > MAX_NODES:
        raise HistoryError(TEXT["history_turns"].format(limit=MAX_NODES))
    found = sum(len(node.text) for node in conversation.nodes)
    if found > MAX_CHARACTERS or sum(len(node.records) for node in conversation.nodes) > MAX_TOKENS:
        raise HistoryError(TEXT["history_size"].format(found=found, limit=MAX_CHARACTERS))
