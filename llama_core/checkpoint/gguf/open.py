"""The GGUF files of a model, opened: its configuration before they are whole, and everything once they are."""

from collections.abc import Sequence
from dataclasses import dataclass

from llama_core.checkpoint.gguf.config import gguf_config, with_rope_factors
from llama_core.checkpoint.gguf.header import GgufFile, Header, Value, read_header
from llama_core.checkpoint.gguf.tensors import GgufTensor, find_gguf_tensors, read_rope_factors
from llama_core.checkpoint.layout import CheckpointError
from llama_core.model.config import LlamaConfig


@dataclass(frozen=True)
class OpenedGguf:
    """A model in GGUF files: its configuration (without ends of a reply, which the tokenizer knows), where its tensors
    lie, and the metadata."""

    config: LlamaConfig
    tensors: dict[str, GgufTensor]
    metadata: dict[str, Value]


def read_gguf_config(files: Sequence[GgufFile]) -> LlamaConfig:
    """The configuration of a model of which the beginnings of the files may be all that is here: its shape is known,
    its rotary scaling may not be.

    Raises `CheckpointError`, `ConfigError`.
    """
    return _config([read_header(file) for file in files])


def open_gguf(files: Sequence[GgufFile]) -> OpenedGguf:
    """A model whose files are here. Raises `CheckpointError`, `ConfigError`."""
    headers = [read_header(file) for file in files]
    config = _config(headers)
    factors = read_rope_factors(headers)
    if factors is not None:
        config = with_rope_factors(config, factors, files[0].name)
    return OpenedGguf(config, find_gguf_tensors(headers, config), headers[0].metadata)


def _config(headers: Sequence[Header]) -> LlamaConfig:
    for number, header in enumerate(headers):
        parts = header.metadata.get("split.count", 1)
        if parts != len(headers) or header.metadata.get("split.no", 0) != number:
            raise CheckpointError(
                f"{header.file.name} is part {header.metadata.get('split.no', 0)} of {parts} by its metadata, expected "
                f"part {number} of {len(headers)}; keep the name that the file had, beside the other parts"
            )
    return gguf_config(headers[0], frozenset(info.name for header in headers for info in header.tensors))
