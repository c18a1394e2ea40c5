"""The models that the page offers: the guide, folders and GGUF files in weights/, a few good small ones on the Hub, and
noise."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from llama_core.checkpoint.gguf.files import is_gguf
from llama_core.checkpoint.hub import REPOSITORY
from llama_core.errors import UserError
from llama_core.model.config import NAMED_CONFIGS, LlamaConfig
from web import settings
from web.strings import TEXT

WEIGHTS = Path(__file__).parents[2] / "weights"
GUIDE = Path(settings.GUIDE)


@dataclass(frozen=True)
class HubModel:
    """A model on the Hub whose architecture is Llama's, as its page there describes it: the shape says what memory it
    takes before anything of it is fetched. `licence` is empty for Apache 2.0."""

    name: str
    file_bytes: int
    shape: LlamaConfig
    licence: str = ""


_TINY_LLAMA = LlamaConfig(
    vocab_size=32000,
    hidden_size=2048,
    intermediate_size=5632,
    num_hidden_layers=22,
    num_attention_heads=32,
    num_key_value_heads=4,
    max_position_embeddings=2048,
)
_SMOL_1_7B = replace(
    NAMED_CONFIGS["360M"],
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=24,
    num_attention_heads=32,
    num_key_value_heads=32,
    head_dim=64,
)
_LLAMA_3B = replace(NAMED_CONFIGS["1B"], hidden_size=3072, num_hidden_layers=28, num_attention_heads=24, head_dim=128)
_ON_THE_HUB = (
    HubModel("HuggingFaceTB/SmolLM2-135M-Instruct", 269_000_000, NAMED_CONFIGS["135M"]),
    HubModel("HuggingFaceTB/SmolLM2-360M-Instruct", 724_000_000, NAMED_CONFIGS["360M"]),
    HubModel("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 2_200_000_000, _TINY_LLAMA),
    HubModel("meta-llama/Llama-3.2-1B-Instruct", 2_470_000_000, NAMED_CONFIGS["1B"], "Llama 3.2"),
    HubModel("HuggingFaceTB/SmolLM2-1.7B-Instruct", 3_420_000_000, _SMOL_1_7B),
    HubModel("meta-llama/Llama-3.2-3B-Instruct", 6_430_000_000, _LLAMA_3B, "Llama 3.2"),
)
ON_THE_HUB = {model.name: model for model in _ON_THE_HUB}
RANDOM = ("random:tiny", "random:135M")
IN_WEIGHTS = "weights:"  # begins the name of what lies in weights/; where that is, the page need not know
HUB_ID = re.compile(rf"({REPOSITORY})(@[\w./-]+)?(:[^:]+)?")  # repository, revision, GGUF file


class NotOffered(UserError):
    """A model that this page does not load; one line for the person."""


def local_names(weights: Path = WEIGHTS, guide: Path = GUIDE) -> list[str]:
    """What lies in weights/, by the names that `path_of` takes; the guide first."""
    paths = sorted(_in_weights(weights), key=lambda path: path.resolve() != guide.resolve())
    return [IN_WEIGHTS + path.name for path in paths]


def is_built_in(name: str, guide: Path = GUIDE) -> bool:
    """Whether a model comes with this program."""
    return name in RANDOM or name == IN_WEIGHTS + guide.name


def path_of(name: str, weights: Path = WEIGHTS) -> str:
    """What `load_checkpoint` takes for a name of this list; other names as they are. Raises `NotOffered`."""
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
