"""The header of a GGUF file on the Hub, before the rest of the file is downloaded."""

from pathlib import Path

from llama_core.checkpoint.download import fetch_start
from llama_core.checkpoint.gguf.header import MAX_HEADER, CutOff, GgufFile, Header, read_header

FIRST_BYTES = 1 << 20  # SmolLM2's header has 1.7 MB, Llama 3's 7.8


def fetch_header(repo_id: str, name: str, commit: str, blobs: Path, size: int) -> Header:
    """The header of a file of `size` bytes. As much of the file as that takes is left in the folder `blobs`;
    `fetch_file` goes on from it.

    Raises `CheckpointError` for anything but a GGUF file, and what `fetch_start` raises.
    """
    wanted = FIRST_BYTES
    while True:
        file = GgufFile(fetch_start(repo_id, name, commit, blobs, wanted), name, size)
        try:
            return read_header(file)
        except CutOff:
            if wanted >= min(size, MAX_HEADER):
                raise
            wanted *= 4
