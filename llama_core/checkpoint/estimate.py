"""What a model will take, before it is loaded: the size of its files, and its plan in memory."""

import dataclasses

import jax

from llama_core.checkpoint import hub, memory_plan
from llama_core.checkpoint.load import AUTO, RANDOM, CheckpointError
from llama_core.checkpoint.memory_plan import Plan
from llama_core.model.config import NAMED_CONFIGS, LlamaConfig
from llama_core.model.params import count_params
from llama_core.runtime.files import read_text


@dataclasses.dataclass(frozen=True)
class Estimate:
    """`file_bytes` have to be on the disk, `plan` says what memory is wanted, `free` (None: unknown) what there is."""

    parameters: int
    file_bytes: int
    plan: Plan
    free: int | None

    @property
    def fits(self) -> bool:
        """As far as is known."""
        return self.free is None or self.plan.total <= self.free


def estimate(name: str, dtype: str, slots: int, max_seq_len: int) -> Estimate:
    """The sizes of a folder, a Hub id or `random:NAME`; of a Hub id only the small files are fetched.

    Raises `HubError`, `ConfigError` and `ModelFileError`.
    """
    config, file_bytes = _read(name)
    device = jax.devices()[0]
    plan = Plan(config, memory_plan.best_dtype(device) if dtype == AUTO else dtype, slots, max_seq_len)
    return Estimate(count_params(config), file_bytes, plan, memory_plan.free_bytes(device))


def _read(name: str) -> tuple[LlamaConfig, int]:
    if name.startswith(RANDOM):
        config = NAMED_CONFIGS.get(name.removeprefix(RANDOM))
        if config is None:
            known = ", ".join(RANDOM + shape for shape in NAMED_CONFIGS)
            raise CheckpointError(f"there is no model {name}; the random ones are {known}")
        return config, 0
    folder, size = hub.preview(name)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} has no config.json; give the folder of a model in the Hub's format")
    return LlamaConfig.from_json(read_text(folder / "config.json")), size
