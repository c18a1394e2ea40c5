"""A conversation as a file, and back."""

from web.chat.codec import read_conversation, write_conversation
from web.chat.conversation import Conversation, HistoryError
from web.strings import TEXT


def to_json(conversation: Conversation) -> str:
    """Everything: all versions, with the tokens and their alternatives. `from_json` reads it."""
    return write_conversation(conversation)


def from_json(text: str) -> Conversation:
    """A conversation from an exported file, with an id of its own. Raises `HistoryError`."""
    try:
        found = read_conversation(text)
    except HistoryError as problem:
        same = str(problem) == TEXT["history_form"]
        raise HistoryError(TEXT["import_form"] if same else str(problem)) from None
    if not found.nodes:
        raise HistoryError(TEXT["import_form"])
    return Conversation(nodes=found.nodes, selected=found.selected, system=found.system, stop=found.stop, revision=1)


def to_markdown(conversation: Conversation) -> str:
    """The path that is shown, to be read by people."""
    parts = [f"> {line}" for line in conversation.system.splitlines()]
    parts = ["\n".join(parts)] if parts else []
    for number in conversation.path():
        node = conversation.nodes[number]
        name = TEXT["export_you"] if node.role == "user" else node.model or TEXT["export_model"]
        parts.append(f"**{name}:**\n\n{node.text.strip() or '…'}")
    return "\n\n".join(parts) + "\n"


def file_name(conversation: Conversation, ending: str) -> str:
    """A name for the file, from the first words: "once-upon-a-time.md"."""
    first = next((node.text for node in conversation.nodes if node.role == "user"), "")
    words = "".join(letter if letter.isalnum() and letter.isascii() else " " for letter in first.lower()).split()
    return f"{'-'.join(words[:6])[:60] or 'conversation'}.{ending}"
