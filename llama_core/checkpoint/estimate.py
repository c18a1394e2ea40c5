"""How big a model is, before it is loaded: the size of its files, and what it will take in memory."""

import dataclasses
from pathlib import Path

import jax

from llama_core.checkpoint import hub
from llama_core.checkpoint.configs import read_config
from llama_core.checkpoint.find_tensors import HEAD, find_tensors
from llama_core.checkpoint.gguf.open import gguf_weight_bytes, read_gguf_config
from llama_core.checkpoint.layout import INDEX, WEIGHTS, shard_names
from llama_core.checkpoint.memory_plan import NONE, Plan, free_for, resolve_dtype
from llama_core.checkpoint.random_model import is_random_name, random_config
from llama_core.checkpoint.weights.forms import resolve_quantize
from llama_core.model.config import LlamaConfig
from llama_core.model.mesh.sharding import choose_devices
from llama_core.model.params import count_params
from llama_core.runtime.files import read_json


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The number of parameters, the bytes of the weight files on disk, the plan in memory, and the free bytes of the
    device (None: unknown)."""

    parameters: int
    file_bytes: int
    plan: Plan
    free: int | None

    @property
    def fits(self) -> bool:
        """Whether the plan fits into what is free; true where that is unknown."""
        return self.free is None or self.plan.total <= self.free


def estimate(name: str, dtype: str, slots: int, max_seq_len: int, quantize: str = NONE, mesh: int = 1) -> Estimate:
    """The sizes of a folder, a GGUF file, a Hub id or `random:NAME`. Of a Hub id only the small files are downloaded,
    of GGUF files their headers.

    Raises `HubError`, `ConfigError`, `ModelFileError` and `MeshError`.
    """
    if is_random_name(name):
        return estimate_shape(random_config(name), 0, dtype, slots, max_seq_len, quantize, mesh)
    located, file_bytes = hub.preview(name)
    if not located.gguf:
        config = _with_own_head(located.folder, read_config(located.folder))
        return estimate_shape(config, file_bytes, dtype, slots, max_seq_len, quantize, mesh)
    config = read_gguf_config(located.gguf)
    known = resolve_dtype(dtype, jax.devices()[0]), resolve_quantize(quantize, config)
    weight_bytes = gguf_weight_bytes(located.gguf, *known)
    return estimate_shape(config, file_bytes, dtype, slots, max_seq_len, quantize, mesh, weight_bytes)


def estimate_shape(
    config: LlamaConfig,
    file_bytes: int,
    dtype: str,
    slots: int,
    max_seq_len: int,
    quantize: str = NONE,
    mesh: int = 1,
    weight_bytes: int | None = None,
) -> Estimate:
    """The sizes of a model whose shape is known, without a look at any file, on each device of a `mesh` as
    `load_checkpoint` takes it. `weight_bytes`: as `Plan` has them. Raises `MeshError`."""
    dtype, quantize = resolve_dtype(dtype, jax.devices()[0]), resolve_quantize(quantize, config)
    plan = Plan(config, dtype, slots, max_seq_len, quantize, weight_bytes, devices=choose_devices(mesh, config))
    return Estimate(count_params(config), file_bytes, plan, free_for(plan))


def _with_own_head(folder: Path, config: LlamaConfig) -> LlamaConfig:
    """What is true of the weights: a model that is said to be tied can have a head of its own. Of shards that are not
    downloaded the index names the head, which then counts; of one file nothing is known before."""
    if not config.tie_word_embeddings:
        return config
    index = folder / INDEX
    names = shard_names(folder) if index.is_file() else [WEIGHTS]
    if (folder / WEIGHTS).is_file() or all((folder / name).is_file() for name in names):
        return find_tensors(folder, config)[0]
    names_head = index.is_file() and HEAD in read_json(index)["weight_map"]
    return dataclasses.replace(config, tie_word_embeddings=not names_head)
