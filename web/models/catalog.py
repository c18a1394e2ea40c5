"""The models that the page offers: the guide, folders and GGUF files in weights/, a few good small ones on the Hub, and
noise."""

from dataclasses import dataclass
from pathlib import Path

from llama_core.checkpoint.gguf.files import is_gguf
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


def choices(weights: Path = WEIGHTS, guide: Path = GUIDE) -> list[tuple[str, str]]:
    """What can be chosen: the words on the page, and the name that `load_checkpoint` takes."""
    found: list[tuple[str, str]] = []
    for folder in sorted(weights.iterdir()) if weights.is_dir() else ():
        if is_gguf(folder):
            found.append((TEXT["model_gguf"].format(name=folder.name), str(folder)))
        elif (folder / "config.json").is_file():
            is_guide = folder.resolve() == guide.resolve()
            words = TEXT["model_guide"] if is_guide else TEXT["model_folder"].format(name=folder.name)
            found.insert(0 if is_guide else len(found), (words, str(folder)))
    for row in ON_THE_HUB:
        words = TEXT["model_hub"].format(name=row.name, count=row.parameters, size=row.size, licence=row.licence)
        found.append((words, row.name))
    return found + [(TEXT["model_random"].format(name=name), name) for name in RANDOM]
