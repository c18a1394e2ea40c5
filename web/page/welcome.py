"""What the page says about a model before anything has been asked."""

import json
from pathlib import Path
from typing import Any

from web.models.catalog import GUIDE
from web.models.manager import Served
from web.strings import TEXT

MOST_EXAMPLES = 4


def of(served: Served, guide: Path = GUIDE) -> dict[str, Any]:
    """The model's id, the words over an empty conversation, and questions to begin with (those in the folder `guide`,
    for the guide)."""
    return {
        "model": served.model.id,
        "notice": notice(served),
        "hint": TEXT["welcome"] if served.model.chat.has_template else TEXT["continues"],
        "examples": _examples(guide) if served.is_guide else [],
    }


def notice(served: Served) -> str:
    """What has to be known about the model; nothing for one made to chat."""
    if served.is_guide:
        return TEXT["guide"]
    if served.model.is_random:
        return TEXT["random"]
    return "" if served.model.chat.has_template else TEXT["no_template"]


def _examples(guide: Path) -> list[str]:
    path = guide / "examples.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    except ValueError:
        return []
    return [text for text in found if isinstance(text, str)][:MOST_EXAMPLES] if isinstance(found, list) else []
