"""What the page says about a model before anything has been asked."""

import json
from pathlib import Path
from typing import Any

from web.models.catalog import GUIDE
from web.strings import TEXT

MOST_EXAMPLES = 4


def of(model: Any, guide: Path = GUIDE) -> dict[str, Any]:
    """The model's name, the words over an empty conversation, and questions to begin with."""
    return {
        "model": model.name,
        "hint": TEXT["welcome"] if model.chat.has_template else TEXT["continues"],
        "examples": _examples(guide) if is_guide(model, guide) else [],
    }


def notice(model: Any, guide: Path = GUIDE) -> str:
    """What has to be known about the model; nothing for one made to chat."""
    if is_guide(model, guide):
        return TEXT["guide"]
    if model.is_random:
        return TEXT["random"]
    return "" if model.chat.has_template else TEXT["no_template"]


def is_guide(model: Any, guide: Path = GUIDE) -> bool:
    """Whether it is the model that comes with this program."""
    return model.name == guide.name and not model.is_random and guide.is_dir()


def _examples(guide: Path) -> list[str]:
    path = guide / "examples.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    except ValueError:
        return []
    return [text for text in found if isinstance(text, str)][:MOST_EXAMPLES] if isinstance(found, list) else []
