"""The files of a checkpoint in the Hub's format: their names, and which of them hold the weights."""

import re
from collections.abc import Iterable
from pathlib import Path

from llama_core.runtime.files import ModelFileError, read_json

# The weights are one file, or several that the index names.
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Of these the first that exists is read.
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "original/tokenizer.model")
# Of these all that exist are read.
CONFIG = "config.json"
OTHER_FILES = (
    CONFIG,
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)

# A file in the folder of the index, or in a folder in it: an index must not lead elsewhere. No part of it begins with a
# dot (`..`), and none has the signs of a pattern (`*?[]`), which the Hub's library would take it for.
_PART = r"[\w-][\w .()+,=@~-]*"
PLAIN_PATH = re.compile(rf"(?:{_PART}/)*{_PART}")
SHARD = re.compile(rf"{PLAIN_PATH.pattern}\.safetensors")
# Where a save puts what it has written whole, before it replaces the folder's files one by one; the weights go last.
COMPLETE = ".unfinished-checkpoint-to-be-renamed"
LONGEST_NAME = 255  # bytes; what file systems take
OTHER_WEIGHT_SUFFIXES = (".bin", ".pth", ".pt")


class CheckpointError(ModelFileError):
    """A checkpoint that cannot be loaded; one line: file, tensor or key, found, expected, what to do."""


def is_half_saved(folder: Path) -> bool:
    """Whether a save is between two of its files, or was cut off there: they may be of two models."""
    return (folder / COMPLETE / WEIGHTS).is_file()


def require_whole(folder: Path) -> None:
    """Raises `CheckpointError` if a save was cut off between two files."""
    if is_half_saved(folder):
        raise CheckpointError(
            f"a save to {folder} has not come to its end; wait for it, or if it was cut off save again, or move the "
            f"files in {COMPLETE} to {folder}"
        )


def tokenizer_path(folder: Path) -> Path | None:
    """The tokenizer file of a folder; None if it has none."""
    return next((folder / name for name in TOKENIZERS if (folder / name).is_file()), None)


def shard_names(folder: Path) -> list[str]:
    """The weight files that the index of a folder names, whether they exist or not. Raises `ModelFileError`."""
    index = folder / INDEX
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFileError(f"{index} has no weight_map; download it again")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if not SHARD.fullmatch(name) or len(name.encode()) > LONGEST_NAME:
            raise ModelFileError(
                f"{index} names {name[:80]!r}; expected safetensors files of the same folder, or of a folder in it"
            )
    return names


def weight_paths(folder: Path) -> list[Path]:
    """The weight files of a folder, all of which exist. Raises `ModelFileError` if it has none or one is missing."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        found = describe_missing_weights(path.name for path in folder.iterdir())
        raise CheckpointError(f"{folder} has {found}: get {WEIGHTS}")
    names = shard_names(folder)
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing, {INDEX} asks for it; download the model again")
    return [folder / name for name in names]


def describe_missing_weights(names: Iterable[str]) -> str:
    """For errors: what there is among these file names instead of safetensors, and why that is not read."""
    others = sorted(name for name in names if name.endswith(OTHER_WEIGHT_SUFFIXES))
    found = f"only {others[0]}" if others else "no weights"
    return f"{found}; weights are read from safetensors and GGUF alone (a pickle can run code)"
