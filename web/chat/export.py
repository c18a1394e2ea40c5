"""Conversations from files: those of this page, and those of other programs."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from web.chat.codec import FORMAT, MAX_BYTES, read_conversation
from web.chat.conversation import ROOT, Conversation, HistoryError, Node, check_size
from web.strings import TEXT

MAX_CHATS = 2000
# What other programs call who speaks: OpenAI's messages, and ShareGPT's turns.
ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "system": "system",
    "developer": "system",
}
TURNS = ("messages", "conversations", "conversation")
PAGE = "glass-llama/chats/1"  # a file with several conversations of this page


def from_json(text: str) -> list[Conversation]:
    """The conversations of a file, each with an id of its own: one or many exported from this page (with all versions
    and tokens), `{"messages": [...]}`, a bare list of messages, ShareGPT's `{"conversations": [{"from", "value"}]}`,
    or a list of these, as JSON or one a line. Raises `HistoryError`."""
    if len(text or "") > MAX_BYTES:
        raise HistoryError(TEXT["history_size"].format(found=len(text), limit=MAX_BYTES))
    values = list(_values(text))
    rows = [row for value in values for row in _chats(value)]
    found = [_own(row) if _is_own(row) else _foreign(row) for row in rows]
    if not found or len(found) > MAX_CHATS:
        raise HistoryError(TEXT["import_form"])
    return found


def _values(text: str) -> Iterable[Any]:
    """The JSON values of a file."""
    try:
        return [json.loads(text)]
    except (ValueError, TypeError, RecursionError):
        pass
    try:
        return [json.loads(line) for line in (text or "").splitlines() if line.strip()]
    except (ValueError, RecursionError):
        raise HistoryError(TEXT["import_form"]) from None


def _is_own(value: Any) -> bool:
    return isinstance(value, dict) and value.get("format") == FORMAT


def _chats(value: Any) -> list[Any]:
    """What in a value is one conversation each."""
    if isinstance(value, dict) and value.get("format") == PAGE:
        return value["chats"] if isinstance(value.get("chats"), list) else []
    is_many = isinstance(value, list) and all(isinstance(row, list) or _turns(row) or _is_own(row) for row in value)
    return value if is_many else [value]


def _turns(value: Any) -> Any:
    """The messages of an object of another program."""
    if not isinstance(value, Mapping):
        return None
    return next((value[name] for name in TURNS if isinstance(value.get(name), list)), None)


def _own(value: dict[str, Any]) -> Conversation:
    try:
        found = read_conversation(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    except HistoryError as problem:
        same = str(problem) == TEXT["history_form"]
        raise HistoryError(TEXT["import_form"] if same else str(problem)) from None
    if not found.nodes:
        raise HistoryError(TEXT["import_form"])
    return Conversation(nodes=found.nodes, selected=found.selected, system=found.system, stop=found.stop)


def _foreign(value: Any) -> Conversation:
    """A conversation of another program: its messages one after the other."""
    found, system = Conversation(), []
    for turn in value if isinstance(value, list) else _turns(value) or []:
        role, words = _turn(turn)
        if role == "system":
            system.append(words)
        else:
            found = found.add(Node(role, len(found.nodes) - 1 if found.nodes else ROOT, words))
    if not found.nodes:
        raise HistoryError(TEXT["import_form"])
    check_size(found)
    return Conversation(nodes=found.nodes, selected=found.selected, system="\n\n".join(system))


def _turn(turn: Any) -> tuple[str, str]:
    """Who speaks, and the words. Raises `HistoryError`."""
    if isinstance(turn, dict):
        role = ROLES.get(str(turn.get("role", turn.get("from"))).lower())
        words = turn.get("content", turn.get("value"))
        if isinstance(words, list):  # OpenAI's parts, of which the texts are taken
            words = "".join(part.get("text", "") for part in words if isinstance(part, dict))
        if role and isinstance(words, str):
            return role, words
    raise HistoryError(TEXT["import_form"])
