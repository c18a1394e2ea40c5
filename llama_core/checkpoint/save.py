"""A model → a folder in the Hub's format, which `load_checkpoint` and transformers can read."""

import dataclasses
import json
import math
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from llama_core.model.config import LlamaConfig
from llama_core.model.params import Params, hub_tensors, named_tensors
from llama_core.runtime.files import ModelFileError

# Number formats and their names in safetensors headers.
SAFETENSORS_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


def save_checkpoint(
    folder: str | Path,
    config: LlamaConfig,
    params: Params,
    files: Mapping[str, str | bytes] | None = None,
    dtype: str | None = None,
) -> None:
    """Write `config.json`, `model.safetensors` and `files` (name → content: tokenizer, chat template) to `folder`.

    Weights are stored in `dtype`, which defaults to that of `params`. Everything is written to a temporary folder
    beside `folder` and renamed at the end, so there is never half a checkpoint. An earlier checkpoint in `folder` is
    replaced as a whole.

    Raises `ModelFileError` for a folder that holds something else and for names that are not plain file names.
    """
    folder = Path(folder).expanduser().absolute()
    dtype = str(params.dtype) if dtype is None else dtype
    _check(folder, files or {}, dtype)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)  # mkdtemp makes folders that no other user may read
        _write(unfinished / "config.json", [dataclasses.replace(config, dtype=dtype).to_json().encode()])
        _write(unfinished / "model.safetensors", _safetensors(config, params, dtype))
        for name, content in (files or {}).items():
            _write(unfinished / name, [content.encode() if isinstance(content, str) else content])
        _rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _check(folder: Path, files: Mapping[str, str | bytes], dtype: str) -> None:
    if dtype not in SAFETENSORS_NAMES:
        raise ModelFileError(f"dtype is {dtype!r}; expected {' or '.join(SAFETENSORS_NAMES)}")
    for name in files:
        if name in ("", "..", "config.json", "model.safetensors") or Path(name).name != name:
            raise ModelFileError(f"{name!r} cannot be saved beside the weights; expected a plain file name")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "config.json").is_file())):
        raise ModelFileError(f"{folder} exists and is not a checkpoint; choose another folder")


def _write(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())  # otherwise the rename may reach the disk before the content


def _safetensors(config: LlamaConfig, params: Params, dtype: str) -> Iterator[bytes | memoryview]:
    """The parts of a safetensors file: the size of the header, the header, then one tensor after the other
    (huggingface/safetensors, README, "Format")."""
    number, offset = jnp.dtype(dtype), 0
    header: dict[str, dict[str, Any]] = {"__metadata__": {"format": "pt"}}  # transformers refuses files without it
    for name, shape in hub_tensors(config):
        end = offset + math.prod(shape) * number.itemsize
        header[name] = {"dtype": SAFETENSORS_NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for _, tensor in named_tensors(config, params):
        yield np.ascontiguousarray(tensor.astype(number, copy=False)).view(np.uint8).data


def _rename(source: Path, target: Path) -> None:
    """Move the folder `source` to `target`. An older `target` stays until the last moment and is then deleted."""
    if not target.exists():
        source.rename(target)
        return
    outdated = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    target.rename(outdated / "old")
    source.rename(target)
    shutil.rmtree(outdated)
