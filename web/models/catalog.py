"""The models that the page offers: the guide, folders and GGUF files in weights/, a few good small ones on the Hub, and
noise."""

import re
from dataclasses import dataclass
from pathlib import Path

from llama_core.checkpoint.gguf.files import is_gguf
from llama_core.checkpoint.hub import REPOSITORY
from llama_core.errors import UserError
from web import settings
from web.strings import TEXT

WEIGHTS = Path(__file__).parents[2] / "weights"
GUIDE = Path(settings.GUIDE)


@dataclass(frozen=True)
class CatalogEntry:
    """A model on the Hub whose architecture is Llama's, as its page there describes it."""

    name: str
    parameters: str
    size: str
    licence: str


ON_THE_HUB = (
    CatalogEntry("HuggingFaceTB/SmolLM2-135M-Instruct", "135M", "270 MB", "Apache 2.0"),
    CatalogEntry("HuggingFaceTB/SmolLM2-360M-Instruct", "362M", "725 MB", "Apache 2.0"),
    CatalogEntry("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "1.1B", "2.2 GB", "Apache 2.0"),
    CatalogEntry("meta-llama/Llama-3.2-1B-Instruct", "1.2B", "2.5 GB", "Llama 3.2 licence, access on request"),
    CatalogEntry("HuggingFaceTB/SmolLM2-1.7B-Instruct", "1.7B", "3.4 GB", "Apache 2.0"),
    CatalogEntry("meta-llama/Llama-3.2-3B-Instruct", "3.2B", "6.4 GB", "Llama 3.2 licence, access on request"),
)
RANDOM = ("random:tiny", "random:135M")
IN_WEIGHTS = "weights:"  # begins the name of what lies in weights/; where that is, the page need not know
HUB_ID = re.compile(rf"({REPOSITORY})(@[\w./-]+)?(:[^:]+)?")  # repository, revision, GGUF file


class NotOffered(UserError):
    """A model that this page does not load; one line for the person."""


def choices(weights: Path = WEIGHTS, guide: Path = GUIDE) -> list[tuple[str, str]]:
    """What can be chosen: the words on the page, and the name that `path_of` takes."""
    found: list[tuple[str, str]] = []
    for path in _in_weights(weights):
        is_guide = path.resolve() == guide.resolve()
        words = "model_guide" if is_guide else "model_gguf" if is_gguf(path) else "model_folder"
        found.insert(0 if is_guide else len(found), (TEXT[words].format(name=path.name), IN_WEIGHTS + path.name))
    for row in ON_THE_HUB:
        words = TEXT["model_hub"].format(name=row.name, count=row.parameters, size=row.size, licence=row.licence)
        found.append((words, row.name))
    return found + [(TEXT["model_random"].format(name=name), name) for name in RANDOM]


def path_of(name: str, weights: Path = WEIGHTS) -> str:
    """What `load_checkpoint` takes for a name of `choices`; other names as they are. Raises `NotOffered`."""
    if not name.startswith(IN_WEIGHTS):
        return name
    for path in _in_weights(weights):
        if IN_WEIGHTS + path.name == name:
            return str(path)
    raise NotOffered(TEXT["model_not_offered"])


def name_for_strangers(name: str) -> str:
    """The name of a model that people who are not at this machine may load: any on the Hub, and what is in the list.
    Other folders are refused in the same words whether they exist or not. Raises `NotOffered`."""
    if name.startswith((IN_WEIGHTS, "random:")):
        return name
    parts = HUB_ID.fullmatch(name)
    if not parts:
        raise NotOffered(TEXT["model_not_offered"])
    # With a revision it is no folder, even where one has this name.
    return parts[1] + (parts[2] or "@main") + (parts[3] or "")


def _in_weights(weights: Path) -> list[Path]:
    """The checkpoints' folders and the GGUF files."""
    paths = sorted(weights.iterdir()) if weights.is_dir() else []
    return [path for path in paths if (path / "config.json").is_file() or is_gguf(path)]
