"""A conversation as JSON, as the browser sends it and gets it.

What comes back is never trusted: the size of the text is checked before it is parsed, its form and its limits by the
schema below, and what one message says of others by `_tree`. Everything else is refused.

Both ways go message by message. Python's threads take turns, but not within one call of a parser: one call for a chat
of 400 turns with alternatives (8 MB) would hold up everybody's words for a third of a second, in whatever thread.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, TypeAdapter, ValidationError

from llama_core.tokenizer.tokenizer import without_surrogates
from web.chat.conversation import (
    MAX_CHARACTERS,
    MAX_NODES,
    MAX_TOKENS,
    ROOT,
    Conversation,
    HistoryError,
    Node,
    Record,
    check_size,
)
from web.strings import TEXT

FORMAT = "glass-llama/1"
MAX_BYTES = 20_000_000  # of JSON, as posted: some 70 000 tokens with eight alternatives each
MAX_MARK = 200
# A message as this program and its page write it. In valid JSON it stands nowhere else: in a text, the first quotation
# mark would be escaped or the last character of the text, and then no letter could follow.
NODE = '{"role":'
NODES = re.compile(r'"nodes"\s*:\s*\[\Z')
SURROGATE = re.compile(r"[\ud800-\udfff]|\\u[dD][89a-fA-F]")  # a character, or its escape

Text = Annotated[str, Field(max_length=MAX_CHARACTERS)]
# Strict: no number for a text and no text for a number.
STRICT = ConfigDict(strict=True, protected_namespaces=())


class StoredNode(BaseModel):
    """One message. Empty fields are not written."""

    model_config = STRICT

    role: Literal["user", "assistant"]
    parent: Annotated[int, Field(ge=ROOT)]
    words: Text = ""
    tokens: Annotated[tuple[Record, ...], Field(max_length=MAX_TOKENS), FailFast()] = ()
    marks: Annotated[tuple[tuple[int, str], ...], Field(max_length=MAX_TOKENS), FailFast()] = ()
    finish: Literal[
        "", "stop", "cut", "length", "context", "cancelled", "time_limit", "shutdown", "error", "broken"
    ] = ""
    problem: Text = ""
    facts: Text = ""
    model: Text = ""
    model_id: Text = ""

    def to_node(self) -> Node:
        """The message of the tree."""
        marks = tuple((index, words[:MAX_MARK]) for index, words in self.marks)
        texts = {name: getattr(self, name) for name in ("words", "finish", "problem", "facts", "model", "model_id")}
        return Node(self.role, self.parent, records=self.tokens, marks=marks, **texts)


class StoredConversation(BaseModel):
    """The whole tree."""

    model_config = STRICT

    format: Literal["glass-llama/1"]
    id: Annotated[str, Field(pattern=r"\A[A-Za-z0-9]{1,40}\z")]
    nodes: Annotated[list[StoredNode], Field(max_length=MAX_NODES), FailFast()]
    selected: dict[str, int] = {}
    told_from: Annotated[int, Field(ge=0)] | None = None
    request: Annotated[int, Field(ge=0, lt=2**50)] = 0
    system: Text = ""
    stop: Text = ""


_RECORD = TypeAdapter(Record, config=STRICT)
Form = TypeVar("Form", bound=BaseModel)


def write_conversation(conversation: Conversation, first: int = 0) -> str:
    """As JSON that can stand anywhere in a page: no `<` in it. Of the messages those from number `first` on; the page
    has the others."""
    head = dump(
        {
            "format": FORMAT,
            "id": conversation.id,
            "request": conversation.request,
            "first": first,
            "system": conversation.system,
            "stop": conversation.stop,
            "told_from": conversation.context_start,
            "selected": {str(parent): child for parent, child in conversation.selected.items()},
        }
    )
    nodes = ",".join(dump(_node_to_json(node)) for node in conversation.nodes[first:])
    return f'{head[:-1]},"nodes":[{nodes}]}}'


def dump(value: Any) -> str:
    """One line of compact JSON without `<`."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _node_to_json(node: Node) -> dict[str, Any]:
    row: dict[str, Any] = {"role": node.role, "parent": node.parent}
    texts = {name: getattr(node, name) for name in ("words", "finish", "problem", "facts", "model", "model_id")}
    row |= {name: text for name, text in texts.items() if text}
    if node.records:
        row["tokens"] = [record_to_json(record) for record in node.records]
    if node.marks:
        row["marks"] = node.marks
    return row


def record_to_json(record: Record) -> list[Any]:
    """A record as a short list."""
    row = [record.id, record.text, record.share, record.final_share, record.alternatives]
    return [*row, 1] if record.forced else row


def read_conversation(text: Any, ids_by_name: Mapping[str, str] | None = None) -> Conversation:
    """The conversation in `text` (empty: a new one).

    Conversations from before models had ids hold their names only; `ids_by_name` has the ids of the names that are
    known to be unique. Raises `HistoryError` for anything that this program would not have written, and for sizes over
    the limits.
    """
    if not text:
        return Conversation()
    stored = _parse(text)
    nodes = [node.to_node() for node in stored.nodes]
    known = ids_by_name or {}
    nodes = [node if node.model_id else replace(node, model_id=known.get(node.model, "")) for node in nodes]
    conversation = _tree(stored, tuple(nodes))
    check_size(conversation)
    return conversation


def read_record(row: Any) -> Record:
    """A record from the list that `record_to_json` makes. Raises `HistoryError`."""
    try:
        return _RECORD.validate_json(json.dumps(row))
    except ValidationError:
        raise HistoryError(TEXT["history_form"]) from None


def _parse(text: Any) -> StoredConversation:
    if not isinstance(text, str):
        raise HistoryError(TEXT["history_form"])
    if len(text) > MAX_BYTES:
        raise HistoryError(TEXT["history_size"].format(found=len(text), limit=MAX_BYTES))
    if text.count(NODE) > MAX_NODES:
        raise HistoryError(TEXT["history_turns"].format(limit=MAX_NODES))
    try:
        return _read_by_message(text) if NODE in text else _read_as(StoredConversation, text)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
        if (first["type"], first["loc"]) == ("too_long", ("nodes",)):
            raise HistoryError(TEXT["history_turns"].format(limit=MAX_NODES)) from None
    except (ValueError, RecursionError):  # of json, for the rare text that it has to read
        pass
    raise HistoryError(TEXT["history_form"])


def _read_by_message(text: str) -> StoredConversation:
    """Raises `ValidationError` and `ValueError`."""
    head, *messages = (part.rstrip() for part in text.split(NODE))
    # What stands behind the last message belongs to the conversation again.
    last = NODE + messages.pop()
    _, end = json.JSONDecoder().raw_decode(last)
    stored = _read_as(StoredConversation, head + last[end:])
    if stored.nodes or not NODES.search(head) or not all(message.endswith(",") for message in messages):
        raise ValueError("messages are not in one list, or not all begin with their roles")
    parts = (*(NODE + message[:-1] for message in messages), last[:end])
    stored.nodes = [_read_as(StoredNode, part) for part in parts]
    return stored


def _read_as(form: type[Form], text: str) -> Form:
    return form.model_validate_json(_without_lone_surrogates(text))


def _without_lone_surrogates(text: str) -> str:
    """JSON can carry half of a surrogate pair, UTF-8 cannot: in its place stands U+FFFD."""
    if not SURROGATE.search(text):
        return text
    return without_surrogates(dump(json.loads(text)))


def _tree(stored: StoredConversation, nodes: tuple[Node, ...]) -> Conversation:
    """The conversation, if its messages agree with each other: parents are older than their children (so there are no
    circles), and a message that is shown is a child of the message it is shown after."""
    agree = all(node.parent < number for number, node in enumerate(nodes))
    agree &= all(
        0 <= child < len(nodes) and str(nodes[child].parent) == parent for parent, child in stored.selected.items()
    )
    if not agree or (stored.told_from or 0) > max(0, len(nodes) - 1):
        raise HistoryError(TEXT["history_form"])
    selected = {int(parent): child for parent, child in stored.selected.items()}
    return Conversation(stored.id, nodes, selected, stored.told_from, stored.system, stored.stop, stored.request)
