"""What a model will take, before it is loaded: the size of its files, and of its weights and cache in memory."""

import dataclasses
from pathlib import Path

import huggingface_hub
import jax
import jax.numpy as jnp

from llama_core import hub
from llama_core.checkpoint import RANDOM, CheckpointError
from llama_core.config import NAMED_CONFIGS, LlamaConfig
from llama_core.files import read_text
from llama_core.params import count_params, params_bytes


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Sizes in bytes; `file_bytes` is what has to be on the disk."""

    name: str
    config: LlamaConfig
    parameters: int
    file_bytes: int
    weight_bytes: int
    cache_bytes: int

    @property
    def memory_bytes(self) -> int:
        """Weights and cache together."""
        return self.weight_bytes + self.cache_bytes


def estimate(name: str, dtype: str, slots: int, max_seq_len: int) -> Estimate:
    """The sizes of a folder, a Hub id or `random:NAME`; of a Hub id only config.json is fetched.

    Raises `HubError`, `ConfigError` and `ModelFileError`.
    """
    config, file_bytes = _read(name)
    return sizes_of(name, config, dtype, slots, min(max_seq_len, config.max_position_embeddings), file_bytes)


def sizes_of(name: str, config: LlamaConfig, dtype: str, slots: int, length: int, file_bytes: int = 0) -> Estimate:
    """The sizes of a model of this configuration with a cache of `slots` times `length` tokens."""
    return Estimate(
        name, config, count_params(config), file_bytes, params_bytes(config, jnp.dtype(dtype)),
        cache_bytes(config, slots * length, dtype),
    )


def cache_bytes(config: LlamaConfig, tokens: int, dtype: str) -> int:
    """A key and a value for each layer and key/value head of that many tokens."""
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return tokens * numbers * jnp.dtype(dtype).itemsize


def _read(name: str) -> tuple[LlamaConfig, int]:
    if name.startswith(RANDOM):
        config = NAMED_CONFIGS.get(name.removeprefix(RANDOM))
        if config is None:
            known = ", ".join(RANDOM + shape for shape in NAMED_CONFIGS)
            raise CheckpointError(f"there is no model {name}; the random ones are {known}")
        return config, 0
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return _read_hub(name)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} has no config.json; give the folder of a model in the Hub's format")
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return LlamaConfig.from_json(read_text(folder / "config.json")), size


def _read_hub(name: str) -> tuple[LlamaConfig, int]:
    sizes = hub.sizes(name)
    repo_id, _, revision = name.partition("@")
    with hub.explained(repo_id, revision):
        path = huggingface_hub.hf_hub_download(repo_id, "config.json", revision=revision or None)
    return LlamaConfig.from_json(read_text(Path(path))), sum(sizes.values())


def free_bytes() -> int | None:
    """What is free where models are put: the accelerator's memory, else the machine's. None where it is not told."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    rows = dict(line.split(":", 1) for line in lines)
    return int(rows["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in rows else None
