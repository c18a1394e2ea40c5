"""The conversation as typed messages: read from what a browser sent (never trusted), shown, and told to the model."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from web.strings import TEXT

MAX_MESSAGES = 1000
MAX_CHARACTERS = 400_000
# The mark, in a message's metadata, of what the page says itself. Such messages are never told to the model.
NOTE = "note"


class HistoryError(ValueError):
    """A conversation that is not taken; one line for the person."""


@dataclass(frozen=True)
class Message:
    """One message of a conversation; `note` marks what the page said itself, such as an error."""

    role: str
    text: str
    note: bool = False


Messages = tuple[Message, ...]


def read_history(sent: Any) -> Messages:
    """The messages a Chatbot sent. Raises `HistoryError` for unknown roles, wrong forms and sizes over the limits."""
    if not isinstance(sent, list):
        raise HistoryError(TEXT["history_form"])
    messages = tuple(_read_message(entry) for entry in sent[:MAX_MESSAGES + 1])
    check_size(messages)
    return messages


def check_size(messages: Messages) -> None:
    """Raises `HistoryError` for more messages or characters than one conversation may have."""
    if len(messages) > MAX_MESSAGES:
        raise HistoryError(TEXT["history_turns"].format(limit=MAX_MESSAGES))
    found = sum(len(message.text) for message in messages)
    if found > MAX_CHARACTERS:
        raise HistoryError(TEXT["history_size"].format(found=found, limit=MAX_CHARACTERS))


def _read_message(entry: Any) -> Message:
    if not isinstance(entry, dict) or entry.get("role") not in ("user", "assistant"):
        raise HistoryError(TEXT["history_form"])
    content = entry.get("content")
    parts = [{"text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list):
        raise HistoryError(TEXT["history_form"])
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise HistoryError(TEXT["history_form"])
    metadata = entry.get("metadata")
    is_note = isinstance(metadata, dict) and metadata.get("id") == NOTE
    return Message(entry["role"], "".join(texts), is_note)


def show(messages: Iterable[Message]) -> list[dict]:
    """The messages as a Chatbot takes them."""
    return [{"role": message.role, "content": message.text, **({"metadata": {"id": NOTE}} if message.note else {})}
            for message in messages]


def told_to_model(messages: Iterable[Message], system_prompt: str = "") -> list[dict]:
    """The conversation as `[{"role", "content"}]` with strictly alternating roles, which many chat templates demand.

    Notes are left out, and so is a question that only a note answered (it failed, and would fail again). Messages of
    one role in a row, as after a Stop before the first word, become one.
    """
    told: list[dict] = []
    for message in messages:
        if message.note:
            if told and told[-1]["role"] == "user":
                told.pop()
        elif told and told[-1]["role"] == message.role:
            told[-1] = {"role": message.role, "content": told[-1]["content"] + "\n\n" + message.text}
        else:
            told.append({"role": message.role, "content": message.text})
    system = [{"role": "system", "content": system_prompt}] if system_prompt.strip() else []
    return system + told
