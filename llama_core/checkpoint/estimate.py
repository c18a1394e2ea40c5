"""How big a model is, before it is loaded: the size of its files, and what it will take in memory."""

import dataclasses

import jax

from llama_core.checkpoint import hub
from llama_core.checkpoint.configs import read_config
from llama_core.checkpoint.gguf.open import gguf_weight_bytes, read_gguf_config
from llama_core.checkpoint.memory_plan import NONE, Plan, free_bytes, resolve_dtype, resolve_quantize
from llama_core.checkpoint.random_model import is_random_name, random_config
from llama_core.model.params import count_params


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


def estimate(name: str, dtype: str, slots: int, max_seq_len: int, quantize: str = NONE) -> Estimate:
    """The sizes of a folder, a GGUF file, a Hub id or `random:NAME`. Of a Hub id only the small files are downloaded,
    of GGUF files their headers.

    Raises `HubError`, `ConfigError` and `ModelFileError`.
    """
    device = jax.devices()[0]
    dtype, quantize = resolve_dtype(dtype, device), resolve_quantize(quantize)
    weight_bytes, file_bytes = None, 0
    if is_random_name(name):
        config = random_config(name)
    else:
        located, file_bytes = hub.preview(name)
        config = read_gguf_config(located.gguf) if located.gguf else read_config(located.folder)
        weight_bytes = gguf_weight_bytes(located.gguf, dtype, quantize) if located.gguf else None
    plan = Plan(config, dtype, slots, max_seq_len, quantize, weight_bytes)
    return Estimate(count_params(config), file_bytes, plan, free_bytes(device))
