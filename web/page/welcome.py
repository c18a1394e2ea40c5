"""What the page says about a model before anything has been asked."""

import json
from pathlib import Path
from typing import Any

from web.models.catalog import GUIDE
from web.models.manager import Served
from web.strings import TEXT

MOST_EXAMPLES = 4


def of(served: Served, may_switch: bool, guide: Path = GUIDE) -> dict[str, Any]:
    """The model's id, how many replies it writes at once, whether it only continues texts, what is said of it, and what
    to begin with: the stored sentence, questions (for the guide its own, in its folder `guide`), and whether a larger
    model is to be offered."""
    chats, is_toy = served.model.chat.has_template, served.is_guide or served.model.is_random
    kind = "examples" if chats else "beginnings"
    return {
        "model": served.model.id,
        "slots": served.engine.slots,
        "continues": not chats,
        "notice": notice(served),
        "hint": TEXT["welcome" if chats else "continues"],
        "examples": _examples(guide) if served.is_guide else [] if served.model.is_random else TEXT[kind].split("\n"),
        "sample": _read(guide / "sample.json"),
        "larger": is_toy and may_switch,
    }


def notice(served: Served) -> str:
    """What has to be known about the model; nothing for one made to chat."""
    if served.is_guide:
        return TEXT["guide"]
    if served.model.is_random:
        return TEXT["random"]
    return "" if served.model.chat.has_template else TEXT["no_template"]


def _examples(guide: Path) -> list[str]:
    found = _read(guide / "examples.json")
    return [text for text in found if isinstance(text, str)][:MOST_EXAMPLES] if isinstance(found, list) else []


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError:
        return None
