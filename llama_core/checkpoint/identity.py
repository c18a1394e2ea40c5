"""The id of a model in a folder: a name and a hash, made from a sample of its files.

The same checkpoint has the same id on every machine, in one file or in shards; a retrained one has another. Two
checkpoints in folders of the same name are two models. Nothing big is read: 4 KiB per tensor are enough, because
training changes nearly every number of the tensors that it changes at all.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from llama_core.checkpoint.layout import OTHER_FILES, tokenizer_path, weight_paths
from llama_core.checkpoint.read_tensors import StoredTensor
from llama_core.checkpoint.safetensors_reader import stored_tensors
from llama_core.runtime.files import read_bytes

SAMPLE_BYTES = 4096


def folder_id(folder: Path) -> str:
    """The folder's name and eight hex digits, such as `guide-1a2b3c4d`. Raises `ModelFileError`."""
    tokenizer = tokenizer_path(folder)
    small_files = [*(folder / name for name in OTHER_FILES if (folder / name).is_file())]
    tensors = [stored for path in weight_paths(folder) for stored in stored_tensors(path)]
    digest = hashlib.sha256()
    for path in [*small_files, *([tokenizer] if tokenizer else [])]:
        _add(digest, path.name, read_bytes(path))
    return _named(folder.resolve().name, digest, tensors)


def gguf_id(name: str, metadata: Mapping[str, object], tensors: Iterable[StoredTensor]) -> str:
    """The same for the GGUF files of the model `name`, whose metadata takes the place of the small files. What says how
    the model is split is left out of it."""
    digest = hashlib.sha256()
    for key in sorted(key for key in metadata if not key.startswith("split.")):
        value = metadata[key]
        _add(digest, key, value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return _named(name, digest, tensors)


def _named(name: str, digest: "hashlib._Hash", tensors: Iterable[StoredTensor]) -> str:
    for stored in sorted(tensors, key=lambda stored: stored.name):
        _add(digest, f"{stored.name} {stored.format} {list(stored.shape)}", _sample(stored))
    return f"{name}-{digest.hexdigest()[:8]}"


def _add(digest: "hashlib._Hash", label: str, content: bytes) -> None:
    digest.update(f"{label!r} {len(content)}\n".encode())
    digest.update(content)


def _sample(stored: StoredTensor) -> bytes:
    with stored.path.open("rb") as file:
        file.seek(stored.start)
        return file.read(min(SAMPLE_BYTES, stored.size))
