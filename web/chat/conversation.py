"""A conversation as a tree: every retry, edit and branch is one more child, and one child of each message is shown.

The browser keeps it, as JSON: the server remembers nothing, so nothing is lost when it ends. What comes back from a
browser or an imported file is never trusted; it is read into the types below or refused.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from web.strings import TEXT

FORMAT = "glass-llama/1"
MAX_NODES = 2000
MAX_CHARACTERS = 400_000
MAX_TOKENS = 100_000
FINISHES = ("stop", "cut", "length", "context", "cancelled", "error", "broken")
ROOT = -1  # the parent of first messages


class HistoryError(ValueError):
    """A conversation that is not taken; one line for the person."""


class Alternative(NamedTuple):
    """A token that could have come: `share` as the model gave it, `final_share` after temperature and cuts."""

    id: int
    text: str
    share: float
    final_share: float


class Record(NamedTuple):
    """One token of a reply as it was chosen. A `forced` one was put there by the person."""

    id: int
    text: str
    share: float | None = None
    final_share: float | None = None
    alternatives: tuple[Alternative, ...] = ()
    forced: bool = False


@dataclass(frozen=True)
class Node:
    """One message. A reply has `records`, and `marks` where a control was moved while it was written (the index of the
    token, and what moved); `finish` says why it ended, `problem` what went wrong, `facts` how fast it came."""

    role: str
    parent: int = ROOT
    words: str = ""
    records: tuple[Record, ...] = ()
    marks: tuple[tuple[int, str], ...] = ()
    finish: str = ""
    problem: str = ""
    facts: str = ""
    model: str = ""

    @property
    def text(self) -> str:
        """What is told to the model."""
        return "".join(record.text for record in self.records) or self.words


@dataclass(frozen=True)
class Conversation:
    """All versions of all messages. `selected[parent]` is the child that is shown; `context_start` the first message that
    the model was told last time, None when it was told all. `system` and `stop` are what stood in those boxes last
    time. `revision` grows with every change."""

    id: str = field(default_factory=lambda: secrets.token_hex(6))
    nodes: tuple[Node, ...] = ()
    selected: Mapping[int, int] = field(default_factory=dict)
    context_start: int | None = None
    system: str = ""
    stop: str = ""
    revision: int = 0

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
        return replace(self, nodes=(*self.nodes, node), selected=shown, revision=self.revision + 1)

    def put(self, number: int, node: Node) -> "Conversation":
        """With another state of one message, which is shown."""
        nodes = (*self.nodes[:number], node, *self.nodes[number + 1 :])
        return replace(self, nodes=nodes, selected={**self.selected, node.parent: number}, revision=self.revision + 1)

    def cut_before(self, node: int) -> "Conversation":
        """As if the message had not been sent yet; it stays in the tree."""
        parent = self.nodes[node].parent
        shown = {key: value for key, value in self.selected.items() if key != parent}
        return replace(self, selected=shown, revision=self.revision + 1)


def model_messages(conversation: Conversation, path: Sequence[int]) -> list[tuple[int, dict[str, str]]]:
    """The messages of a path with strictly alternating roles, which many chat templates demand; each with the number
    of the node at which it begins.

    A reply without a word is left out together with its question (it failed, and would fail again). Messages of one
    role in a row, as after a Stop before the first word, become one.
    """
    told: list[tuple[int, dict[str, str]]] = []
    for number in path:
        node = conversation.nodes[number]
        if node.role == "assistant" and not node.text.strip():
            if told and told[-1][1]["role"] == "user":
                told.pop()
        elif told and told[-1][1]["role"] == node.role:
            first, message = told[-1]
            told[-1] = first, {"role": node.role, "content": f"{message['content']}\n\n{node.text}"}
        else:
            told.append((number, {"role": node.role, "content": node.text}))
    return told


def write_conversation(conversation: Conversation) -> str:
    """As JSON that can stand anywhere in a page: no `<` in it."""
    return dump(
        {
            "format": FORMAT,
            "id": conversation.id,
            "revision": conversation.revision,
            "system": conversation.system,
            "stop": conversation.stop,
            "told_from": conversation.context_start,
            "selected": {str(k): v for k, v in conversation.selected.items()},
            "nodes": [_node_to_json(node) for node in conversation.nodes],
        }
    )


def dump(value: Any) -> str:
    """One line of compact JSON without `<`."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _node_to_json(node: Node) -> dict:
    row = {"role": node.role, "parent": node.parent}
    texts = {name: getattr(node, name) for name in ("words", "finish", "problem", "facts", "model")}
    row |= {name: text for name, text in texts.items() if text}
    if node.records:
        row["tokens"] = [record_to_json(record) for record in node.records]
    if node.marks:
        row["marks"] = node.marks
    return row


def record_to_json(record: Record) -> list:
    """A record as a short list."""
    row = [record.id, record.text, record.share, record.final_share, record.alternatives]
    return [*row, 1] if record.forced else row


def read_conversation(text: Any) -> Conversation:
    """The conversation in `text` (empty: a new one). Raises `HistoryError` for anything that this program would not
    have written, and for sizes over the limits."""
    return _read(_parse(text)) if text else Conversation()


def _parse(text: Any) -> Any:
    if not isinstance(text, str):
        raise HistoryError(TEXT["history_form"])
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise HistoryError(TEXT["history_form"]) from None


def _read(value: Any) -> Conversation:
    _require(isinstance(value, dict) and value.get("format") == FORMAT and isinstance(value.get("nodes"), list))
    if len(value["nodes"]) > MAX_NODES:
        raise HistoryError(TEXT["history_turns"].format(limit=MAX_NODES))
    nodes = tuple(_read_node(row, number) for number, row in enumerate(value["nodes"]))
    shown = value.get("selected", {})
    _require(isinstance(shown, dict))
    selected = {}
    for parent, child in shown.items():
        _require(_is_whole(child) and 0 <= child < len(nodes) and str(nodes[child].parent) == parent)
        selected[nodes[child].parent] = child
    context_start, revision = value.get("told_from"), value.get("revision", 0)
    _require(context_start is None or (_is_whole(context_start) and 0 <= context_start < len(nodes)))
    _require(_is_whole(revision) and 0 <= revision < 2**50)
    conversation = Conversation(
        _read_name(value.get("id")),
        nodes,
        selected,
        context_start,
        _read_text(value, "system"),
        _read_text(value, "stop"),
        revision,
    )
    check_size(conversation)
    return conversation


def _read_name(name: Any) -> str:
    _require(isinstance(name, str) and 0 < len(name) <= 40 and name.isalnum() and name.isascii())
    return name


def _read_node(row: Any, number: int) -> Node:
    _require(isinstance(row, dict) and row.get("role") in ("user", "assistant"))
    parent = row.get("parent")
    _require(_is_whole(parent) and ROOT <= parent < number)  # older than its children: no circles
    texts = {name: _read_text(row, name) for name in ("words", "finish", "problem", "facts", "model")}
    _require(texts["finish"] in ("", *FINISHES))
    tokens, marks = row.get("tokens", []), row.get("marks", [])
    _require(isinstance(tokens, list) and isinstance(marks, list) and len(tokens) <= MAX_TOKENS)
    records = tuple(read_record(token) for token in tokens)
    return Node(row["role"], parent, records=records, marks=tuple(_read_mark(mark) for mark in marks), **texts)


def _read_text(row: Mapping, name: str) -> str:
    text = row.get(name, "")
    _require(isinstance(text, str) and len(text) <= MAX_CHARACTERS)
    return text


def _read_mark(mark: Any) -> tuple[int, str]:
    _require(isinstance(mark, list) and len(mark) == 2 and _is_whole(mark[0]) and isinstance(mark[1], str))
    return mark[0], mark[1][:200]


def read_record(row: Any) -> Record:
    """A record from the list that `record_to_json` makes. Raises `HistoryError`."""
    _require(isinstance(row, list) and 5 <= len(row) <= 6 and isinstance(row[4], list) and len(row[4]) <= 20)
    token_id, text, share, final_share, others = row[:5]
    _require(_is_id(token_id) and isinstance(text, str) and _is_share(share, True) and _is_share(final_share, True))
    alternatives = []
    for other in others:
        _require(isinstance(other, list) and len(other) == 4 and _is_id(other[0]) and isinstance(other[1], str))
        _require(_is_share(other[2]) and _is_share(other[3]))
        alternatives.append(Alternative(*other))
    return Record(token_id, text, share, final_share, tuple(alternatives), len(row) == 6)


def _is_id(value: Any) -> bool:
    return _is_whole(value) and 0 <= value < 2**31


def _is_share(value: Any, optional: bool = False) -> bool:
    return (optional and value is None) or (isinstance(value, (int, float)) and 0 <= value <= 1)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(condition: bool) -> None:
    if not condition:
        raise HistoryError(TEXT["history_form"])


def check_size(conversation: Conversation) -> None:
    """Raises `HistoryError` for more messages or characters than one conversation may have."""
    if len(conversation.nodes) > MAX_NODES:
        raise HistoryError(TEXT["history_turns"].format(limit=MAX_NODES))
    found = sum(len(node.text) for node in conversation.nodes)
    if found > MAX_CHARACTERS or sum(len(node.records) for node in conversation.nodes) > MAX_TOKENS:
        raise HistoryError(TEXT["history_size"].format(found=found, limit=MAX_CHARACTERS))
