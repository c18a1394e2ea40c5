"""What the page says about a model before anything has been asked."""

import json
from html import escape
from pathlib import Path
from typing import Any

from web.chat import status
from web.models.catalog import GUIDE
from web.models.manager import Served
from web.strings import TEXT

MOST_EXAMPLES = 4


def of(served: Served, guide: Path = GUIDE) -> dict[str, Any]:
    """The model's id, the words over an empty conversation, and questions to begin with (those in the folder `guide`,
    for the guide)."""
    return {
        "model": served.model.id,
        "hint": TEXT["welcome"] if served.model.chat.has_template else TEXT["continues"],
        "examples": _examples(guide) if served.is_guide else [],
    }


def header(served: Served, title: str) -> str:
    """The page's title, the facts about the model, and the notice about it, as HTML."""
    model = served.model
    facts = (
        model.name,
        TEXT["parameters"].format(count=status.count_in_words(model.parameter_count)),
        model.weights,
        TEXT["runs_on"].format(device=served.engine.device),
    )
    spans = "".join(f"<span>{escape(fact)}</span>" for fact in facts)
    words = notice(served)
    note = f'<p class="notice">{escape(words)}</p>' if words else ""
    return f'<h1>{escape(title)}</h1><p class="facts">{spans}</p>{note}'


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
