"""Which GGUF files of a folder or a repository make one model: their quantisation by name, parts of split files, and
the one that is taken when nobody chose."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from llama_core.checkpoint.gguf.header import GgufFile, local_file
from llama_core.checkpoint.layout import LONGEST_NAME, PLAIN_PATH, CheckpointError

SUFFIX = ".gguf"
# Beside models there are: the image encoders of multimodal ones, the statistics that quantisation used, adapters.
NOT_MODELS = re.compile(r"mmproj|imatrix|(?:^|[-_.])lora(?:[-_.]|$)", re.IGNORECASE)
SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})")
# The name of a quantisation in the name of a file: Q4_K_M, IQ3_XXS, BF16, UD-Q4_K_XL.
QUANTISATION = re.compile(
    r"(?:^|(?<=[-_./]))(?:UD-)?(?:I?Q\d\w*|TQ\d_\d|MXFP4\w*|NVFP4|BF16|F16|F32|FP16|FP32)(?=[-./]|$)", re.IGNORECASE
)
# What is taken without a choice, the first that is there: llama.cpp takes Q4_K_M too. Then from the most exact of the
# small ones down.
PREFERRED = ("Q4_K_M", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_S", "Q4_1", "Q4_0")


def gguf_models(names: Iterable[str]) -> dict[str, list[str]]:
    """The models among these file names: what to choose each by, and its files in their order. A model that is split
    has several, and is left out if one is missing.

    They are called by their quantisation ("Q4_K_M") where that is clear, else by the name of the file.
    """
    groups: dict[str, dict[int, str]] = {}
    counts: dict[str, int] = {}
    for name in sorted(names):
        stem = name.removesuffix(SUFFIX)
        if stem == name or not PLAIN_PATH.fullmatch(name) or len(name.encode()) > LONGEST_NAME:
            continue
        split = SPLIT.fullmatch(stem)
        group, number, counts_of = (split[1], int(split[2]), int(split[3])) if split else (stem, 1, 1)
        if not NOT_MODELS.search(Path(group).name):
            groups.setdefault(group, {})[number] = name
            counts[group] = counts_of
    whole = {
        group: [parts[number] for number in sorted(parts)]
        for group, parts in groups.items()
        if sorted(parts) == list(range(1, counts[group] + 1))
    }
    labels = {group: _quantisation(group) for group in whole}
    repeated = {label for label, count in Counter(labels.values()).items() if count > 1}
    return {
        label if label and label not in repeated else group + SUFFIX: whole[group] for group, label in labels.items()
    }


def choose(models: Mapping[str, list[str]], choice: str, place: str, is_folder: bool = False) -> str:
    """The key of the model that is meant by `choice` (a quantisation or the name of a file, in any case; empty: nobody
    chose) among those that `place` has.

    Raises `CheckpointError` with what there is to choose from.
    """
    wanted = choice.removesuffix(SUFFIX).casefold()
    for key, names in models.items():
        spellings = (key, names[0], Path(names[0]).name)
        if wanted and wanted in (spelling.removesuffix(SUFFIX).casefold() for spelling in spellings):
            return key
    if not choice and len(models) == 1:
        return next(iter(models))
    preferred = next((label for label in PREFERRED if label in models), None)
    if not choice and preferred:
        return preferred
    listed = ", ".join(f"{place}/{names[0]}" if is_folder else f"{place}:{key}" for key, names in models.items())
    found = f"no GGUF model {choice!r}" if choice else f"{len(models)} GGUF models"
    raise CheckpointError(f"{place} has {found}; choose one of {listed}" if models else f"{place} has {found}")


def is_gguf(path: Path) -> bool:
    """Whether this is a GGUF file, of split ones the first, or a folder with one."""
    if path.is_dir():
        return any(map(is_gguf, path.iterdir())) and not any(path.glob("*.safetensors"))
    split = SPLIT.fullmatch(path.name.removesuffix(SUFFIX))
    return path.name.endswith(SUFFIX) and (split is None or int(split[2]) == 1)


def notes_on_choice(models: Mapping[str, list[str]], taken: str, choice: str) -> tuple[str, ...]:
    """A line for people where one of several models was taken although nobody chose."""
    others = "" if choice else ", ".join(key for key in models if key != taken)
    return (f"{taken} was taken of {len(models)} GGUF models; the others are {others}",) if others else ()


def files_here(path: Path) -> tuple[GgufFile, ...]:
    """The files of the model in the GGUF file `path`: itself, or all parts of which it is one. Raises `ModelFileError`
    if one is missing."""
    split = SPLIT.fullmatch(path.name.removesuffix(SUFFIX))
    if not split:
        return (local_file(path),)
    parts = [path.with_name(f"{split[1]}-{number:05d}-of-{split[3]}{SUFFIX}") for number in range(1, int(split[3]) + 1)]
    missing = next((part for part in parts if not part.is_file()), None)
    if missing is not None:
        raise CheckpointError(f"{missing} is missing, one of {len(parts)} parts of the model; download it again")
    return tuple(local_file(part) for part in parts)


def name_of(files: tuple[GgufFile, ...]) -> str:
    """The name of a model for people: that of its file, without the number of a part."""
    stem = files[0].name.removesuffix(SUFFIX)
    split = SPLIT.fullmatch(stem)
    return split[1] if split else stem


def _quantisation(stem: str) -> str:
    """The quantisation that a file's name says, in capitals; empty if none. The last one counts."""
    found = QUANTISATION.findall(Path(stem).name) or QUANTISATION.findall(stem)
    return found[-1].upper() if found else ""
