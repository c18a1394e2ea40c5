"""Reads the small files of a checkpoint. Files that are huge, damaged or only Git LFS pointers are refused."""

import json
from pathlib import Path
from typing import Any

from llama_core.errors import UserError

# Larger than any tokenizer or configuration file, far smaller than a machine's memory.
MAX_FILE_BYTES = 128 * 1024**2
GIT_LFS_MARK = b"version https://git-lfs"


class ModelFileError(UserError):
    """A file of a model that cannot be used; one line that names the file, what was found and the remedy."""


def check_file(path: Path) -> None:
    """Raises `ModelFileError` if `path` cannot be read or is only a Git LFS pointer."""
    try:
        with path.open("rb") as file:
            start = file.read(len(GIT_LFS_MARK))
    except OSError as problem:
        raise ModelFileError(f"{path} cannot be read ({problem.strerror}); check the folder") from None
    if start == GIT_LFS_MARK:
        raise ModelFileError(f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder")


def read_bytes(path: Path) -> bytes:
    """The content of a small file. Raises `ModelFileError`."""
    check_file(path)
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ModelFileError(f"{path} has {size} bytes, expected at most {MAX_FILE_BYTES}; this is not such a file")
    return path.read_bytes()


def read_text(path: Path) -> str:
    """The content of a small text file in UTF-8. Raises `ModelFileError`."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise ModelFileError(f"{path} is not text in UTF-8; download it again") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises `ModelFileError`."""
    text = read_text(path)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as problem:  # a number of 5000 digits is a ValueError of another kind
        raise ModelFileError(f"{path} is not valid JSON ({problem}); download it again") from None
    if not isinstance(values, dict):
        raise ModelFileError(f"{path} holds a {type(values).__name__}, expected an object; download it again")
    return values
