"""A model → a folder in the Hub's format, which `load_checkpoint` and transformers can read."""

import dataclasses
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from llama_core.checkpoint.configs import read_config
from llama_core.checkpoint.layout import (
    COMPLETE,
    CONFIG,
    INDEX,
    OTHER_FILES,
    TOKENIZERS,
    WEIGHTS,
    is_half_saved,
    shard_names,
)
from llama_core.checkpoint.weights.saved import METADATA, QUANTIZATION, parts_to_save, small_columns
from llama_core.errors import UserError
from llama_core.model.config import LlamaConfig
from llama_core.model.params import Params
from llama_core.runtime.files import ModelFileError, read_json

# Number formats and their names in safetensors headers.
SAFETENSORS_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
# Those of small numbers, of which weights cannot consist.
SMALL_NAMES = {"int8": "I8", "uint8": "U8"}


# Where files are written before they are renamed, within the folder: a rename works only on the same disk.
UNFINISHED = ".unfinished-checkpoint-"
# In the header of the weights: the names of the files that were saved with them.
COMPANIONS = "companions"


def save_checkpoint(
    folder: str | Path,
    config: LlamaConfig,
    params: Params,
    files: Mapping[str, str | bytes] | None = None,
    dtype: str | None = None,
) -> None:
    """Write `config.json`, `model.safetensors` and `files` (name → content: tokenizer, chat template) to `folder`.

    Weights are stored in `dtype`, which defaults to that of `params`; matrices of small numbers as they are, in a form
    of our own (`weights/saved.py`), of which `config.json` tells other programs. Everything is written whole, then
    renamed into place, so a save that fails leaves what was there. An earlier checkpoint in `folder` is replaced: its
    weights, in one file or several, and the files that were saved with it. All other files stay as they are. A save
    that is killed while it renames is finished by the next one; until then `load_checkpoint` refuses the folder.

    Raises `ModelFileError` for a folder that holds something else, and for names that are not plain file names."""
    folder, files = Path(folder).expanduser().absolute(), files or {}
    dtype = str(params.dtype) if dtype is None else dtype
    _check_names(files, dtype)
    if is_half_saved(folder):
        _rename_all(folder)
    find_outdated(folder, files)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    for left_by_a_kill in folder.glob(UNFINISHED + "*"):
        shutil.rmtree(left_by_a_kill, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
    try:
        for name, content in files.items():
            _write(unfinished / name, [content.encode() if isinstance(content, str) else content])
        columns = small_columns(config, params)
        _write(unfinished / CONFIG, [_config_text(dataclasses.replace(config, dtype=dtype), bool(columns))])
        metadata = {COMPANIONS: sorted(files), METADATA: columns}
        _write(unfinished / WEIGHTS, _safetensors(config, params, dtype, metadata))
        unfinished.replace(folder / COMPLETE)
        _rename_all(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def _rename_all(folder: Path) -> None:
    """Put what was written to `COMPLETE` in the place of the earlier checkpoint. Killed at any step, it can be begun
    again: old and new weights say which files are theirs, and the new ones leave `COMPLETE` last."""
    complete = folder / COMPLETE
    for path in find_outdated(folder, _companions(complete / WEIGHTS)):
        path.unlink(missing_ok=True)
    for name in (*sorted({path.name for path in complete.iterdir()} - {WEIGHTS}), WEIGHTS):
        (complete / name).replace(folder / name)
    complete.rmdir()


def find_outdated(folder: Path, files: Collection[str] = ()) -> list[Path]:
    """The files of the checkpoint in `folder` that a new one with `files` beside its weights makes useless: shards and
    their index, and what an earlier save has written beside its weights.

    Raises `ModelFileError` if `folder` is not one to save a checkpoint in, so that what other people or programs wrote
    is never lost.
    """
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise ModelFileError(f"{folder} exists and is not a checkpoint but a file; choose another folder")
    there = {path.name for path in folder.iterdir() if not path.name.startswith(UNFINISHED)}
    if there and not is_half_saved(folder):
        _require_checkpoint(folder)
    for name in {*files, CONFIG, WEIGHTS} & there:
        if (folder / name).is_dir():
            raise ModelFileError(f"{folder / name} is a folder; choose another folder for the checkpoint")
    companions = _companions(folder / WEIGHTS) & there - {CONFIG, WEIGHTS}
    shards = [INDEX, *shard_names(folder)] if INDEX in there else []
    outdated = (companions | {name for name in shards if name in there}) - {*files}
    strange = sorted({*TOKENIZERS, *OTHER_FILES} & there - outdated - {*files, CONFIG})
    if files and strange:
        raise ModelFileError(
            f"{folder} holds {strange[0]} of another model, which would be read with this one; remove it or choose "
            "another folder"
        )
    return [folder / name for name in sorted(outdated, key=lambda name: (name == INDEX, name))]  # it names the others


def _require_checkpoint(folder: Path) -> None:
    """Raises `ModelFileError` unless there is a model of ours or of the Hub in this folder."""
    try:
        values = read_json(folder / CONFIG)
        read_config(folder)
        reason = None if {"architectures", "model_type"} & values.keys() else f"its {CONFIG} names no model"
    except UserError as problem:
        reason = str(problem)
    if reason is None and not any((folder / name).is_file() for name in (WEIGHTS, INDEX)):
        reason = f"it has no {WEIGHTS}"
    if reason is not None:
        raise ModelFileError(f"{folder} exists and is not a checkpoint ({reason}); choose another folder")


def _companions(weights: Path) -> set[str]:
    """What an earlier save has written beside these weights; nothing for weights that another program wrote."""
    try:
        with safetensors.safe_open(weights, framework="np") as file:
            names = json.loads((file.metadata() or {})[COMPANIONS])
    except (OSError, safetensors.SafetensorError, KeyError, ValueError, RecursionError):
        return set()
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def _check_names(files: Collection[str], dtype: str) -> None:
    if dtype not in SAFETENSORS_NAMES:
        raise ModelFileError(f"dtype is {dtype!r}; expected {' or '.join(SAFETENSORS_NAMES)}")
    for name in files:
        if name in ("", "..", CONFIG, WEIGHTS, INDEX) or Path(name).name != name:
            raise ModelFileError(f"{name!r} cannot be saved beside the weights; expected a plain file name")


def _config_text(config: LlamaConfig, has_small_numbers: bool) -> bytes:
    """`config.json`. Other programs read of small numbers there, and do not take them for weights."""
    said = {"quantization_config": QUANTIZATION} if has_small_numbers else {}
    return (json.dumps({**config.to_dict(), **said}, indent=2) + "\n").encode()


def _write(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())  # otherwise the rename may reach the disk before the content


def _safetensors(
    config: LlamaConfig, params: Params, dtype: str, metadata: Mapping[str, Any]
) -> Iterator[bytes | memoryview]:
    """The parts of a safetensors file: the size of the header, the header, then one tensor after the other
    (huggingface/safetensors, README, "Format")."""
    offset = 0
    # transformers refuses files without the format
    header: dict[str, dict[str, Any]] = {
        "__metadata__": {"format": "pt"} | {name: json.dumps(value) for name, value in metadata.items()}
    }
    for name, tensor in parts_to_save(config, params, dtype):
        end = offset + tensor.nbytes
        kind = (SAFETENSORS_NAMES | SMALL_NAMES)[str(tensor.dtype)]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for _, tensor in parts_to_save(config, params, dtype):
        yield np.ascontiguousarray(tensor).view(np.uint8).data
