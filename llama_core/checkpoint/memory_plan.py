"""Will it fit? The memory that a model takes on a device, computed from its configuration, against what is free."""

import dataclasses
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp

from llama_core.errors import UserError
from llama_core.model.config import LlamaConfig
from llama_core.model.lens import inspection_bytes
from llama_core.model.mesh.sharding import share_of_cache, share_of_weights
from llama_core.model.params import count_params, params_bytes, placements
from llama_core.runtime.forms import Form, form_here

AUTO = "auto"  # as a dtype: what suits the device; as a rounding: what is small in its file stays small
NONE = "none"  # as a rounding: weights stay in their number format
# Limit and use of a container's memory, in version 2 and version 1 of cgroups.
CGROUP_FILES = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
SHORTEST_CONTEXT = 256
LONGEST_AUTOMATIC_CONTEXT = 4096
# Replies at the same time where the settings name no number. A GPU writes 32 nearly as fast as one; on a CPU each one
# more slows the others down.
SLOTS, GPU_SLOTS = 4, (32, 16, 8)


class MemoryShortage(UserError):
    """A model that needs more memory than is free; the message has the numbers and what would fit."""


class BadFormat(UserError):
    """A number format that the device does not compute."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a model is to run: its number format, how many replies at the same time (`slots`), how many tokens a
    conversation may have, and to what its weights are rounded (`quantize`). `weight_bytes` is what the weights take
    where that is known; formats of files differ from those that weights are rounded to. `form` is that of the programs
    (None: that of the first device). The properties are bytes on each of `devices` that share the model."""

    config: LlamaConfig
    dtype: str
    slots: int
    max_seq_len: int
    quantize: str = NONE
    weight_bytes: int | None = None
    form: Form | None = None
    devices: int = 1

    @property
    def weights(self) -> str:
        """The format of the weights in words."""
        if self.quantize == AUTO:
            return f"{8 * self._all_params / count_params(self.config):.1f} bits a weight"
        return self.dtype if self.quantize == NONE else self.quantize

    @property
    def params(self) -> int:
        """The weights."""
        return math.ceil(self._all_params * share_of_weights(self.config, self.devices))

    @property
    def _all_params(self) -> int:
        if self.weight_bytes is not None:
            return self.weight_bytes
        keeps_bfloat16 = self.quantize == AUTO and self.config.dtype == "bfloat16"
        return params_bytes(self.config, self.dtype, "bf16" if keeps_bfloat16 else self.quantize)

    @property
    def cache(self) -> int:
        """The KV cache."""
        config, length = self.config, min(self.max_seq_len, self.config.longest_context)
        numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        share = share_of_cache(self.config, self.devices)
        return math.ceil(share * numbers * self.slots * length * jnp.dtype(self.dtype).itemsize)

    @property
    def workspace(self) -> int:
        """Temporary arrays: those of the largest program (activations of a prefill chunk, attention scores in float32,
        logits and their sort order) and of one look inside, or while loading those of the largest array."""
        config, form = self.config, self.form or form_here(self.dtype, self.config.head_dim)
        length = min(self.max_seq_len, config.longest_context)
        tokens = max(*form.chunks_of(length), self.slots)
        widths = 8 * config.hidden_size + 3 * config.intermediate_size
        scores = 2 * config.num_attention_heads * length if form.writes_scores else 0
        running = 4 * (tokens * (widths + scores) + 6 * self.slots * config.vocab_size)
        if self.quantize != NONE:  # for a chunk of a prompt the largest matrix of a block is written out
            running += 4 * 2 * config.intermediate_size * config.hidden_size
        loading = 4 * max(math.prod(placement.shape) for placement in placements(config))
        return max(running + inspection_bytes(config, length), loading)

    @property
    def total(self) -> int:
        """Weights, cache and workspace."""
        return self.params + self.cache + self.workspace


def require_memory(plan: Plan, free: int | None = None) -> None:
    """Raises `MemoryShortage` if the model does not fit into `free` bytes (default: what the first device has)."""
    free = free_for(plan) if free is None else free
    if free is None or plan.total <= free:
        return
    fitting = next((words for other, words in _smaller(plan) if other.total <= free), None)
    remedy = f"{fitting} would fit" if fitting else "choose a smaller model or a machine with more memory"
    raise MemoryShortage(
        f"the model needs {_gb(plan.total)} ({_gb(plan.params)} weights in {plan.weights}, {_gb(plan.cache)} cache for "
        f"{plan.slots} x {plan.max_seq_len} tokens, {_gb(plan.workspace)} workspace) and {_gb(free)} are free; {remedy}"
    )


def require_room_for_weights(size: int, weights: str, free: int | None = None) -> None:
    """Raises `MemoryShortage` if weights of `size` bytes in this format do not fit into `free` bytes (default: what the
    first device has), whatever else there is to be room for."""
    free = free_bytes(jax.devices()[0]) if free is None else free
    if free is not None and size > free:
        raise MemoryShortage(
            f"the weights take {_gb(size)} in {weights} and {_gb(free)} are free; choose a smaller file or a machine "
            "with more memory"
        )


def fitting_context(plan: Plan, free: int | None = None) -> int:
    """The longest conversation, in tokens, where the settings name none: the longest that the model is made for,
    at most that of `plan`, halved until it fits into `free` bytes (default: what the first device has).

    Raises `MemoryShortage` if not even the shortest fits.
    """
    free = free_for(plan) if free is None else free
    plan = dataclasses.replace(plan, max_seq_len=min(plan.max_seq_len, plan.config.longest_context))
    while plan.max_seq_len // 2 >= SHORTEST_CONTEXT and free is not None and plan.total > free:
        plan = dataclasses.replace(plan, max_seq_len=plan.max_seq_len // 2)
    require_memory(plan, free)
    return plan.max_seq_len


def fitting_slots(plan: Plan, device: jax.Device | None = None) -> int:
    """How many replies at the same time, where the settings name no number: on a GPU up to 32, as many as there is room
    for with all else that `plan` says. `device`: by default the first."""
    device = device or jax.devices()[0]
    free = free_bytes(device) if device.platform != "cpu" else None
    fitting = (slots for slots in GPU_SLOTS if free and dataclasses.replace(plan, slots=slots).total <= free)
    return next(fitting, SLOTS)


def no_room(plan: Plan) -> str:
    """What to say where memory ran out although `plan` seemed to fit: its numbers, and what needs half of it beside the
    weights."""
    half = (plan.total - plan.params) / 2
    fitting = (words for other, words in _smaller(plan) if other.total - other.params <= half)
    left = free_for(plan)
    return (
        f"the device ran out of memory: the model takes {_gb(plan.total)} ({_gb(plan.params)} weights, "
        f"{_gb(plan.cache)} cache for {plan.slots} x {plan.max_seq_len} tokens, {_gb(plan.workspace)} workspace)"
        + ("" if left is None else f", and {_gb(left)} are left")
        + f"; start the app with {next(fitting, 'a smaller model')}"
    )


def _smaller(plan: Plan) -> Iterator[tuple[Plan, str]]:
    """Plans that need less, the mildest change first, with the command line options that choose them."""
    lengths = [1 << power for power in range(30, 0, -1) if SHORTEST_CONTEXT <= 1 << power < plan.max_seq_len]
    dtypes = [plan.dtype] if plan.dtype != "float32" or plan.quantize != NONE else ["float32", "bfloat16"]
    weights = [(dtype, plan.quantize) for dtype in dtypes]
    if plan.quantize == NONE and plan.weight_bytes is None:
        weights.append((plan.dtype, "q8" if jax.devices()[0].platform == "cpu" else "int8"))
    for dtype, quantize in weights:
        for slots in dict.fromkeys((plan.slots, max(1, plan.slots // 2), 1)):
            for length in (plan.max_seq_len, *lengths):
                other = dataclasses.replace(plan, dtype=dtype, slots=slots, max_seq_len=length, quantize=quantize)
                yield (
                    other,
                    " ".join(
                        f"--{name.replace('_', '-')} {getattr(other, name)}"
                        for name in ("dtype", "slots", "max_seq_len", "quantize")
                        if getattr(other, name) != getattr(plan, name)
                    ),
                )


def free_bytes(device: jax.Device) -> int | None:
    """Memory that is free on the device; None where the device does not say."""
    if device.platform == "cpu":
        return min(_machine_free() + _container_free(Path("/sys/fs/cgroup")) + _space_free(os.environ), default=None)
    stats = device.memory_stats() or {}
    return stats["bytes_limit"] - stats["bytes_in_use"] if {"bytes_limit", "bytes_in_use"} <= stats.keys() else None


def free_for(plan: Plan) -> int | None:
    """What is free on each device of the plan. Devices that are CPUs share the memory of their host."""
    device = jax.local_devices()[0]
    free = free_bytes(device)
    return free if free is None or device.platform != "cpu" else free // min(plan.devices, jax.local_device_count())


def _machine_free() -> list[int]:
    try:
        rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return [int(rows["MemAvailable"].split()[0]) * 1024]
    except (OSError, KeyError, ValueError):
        return []


def _container_free(root: Path) -> list[int]:
    """What is left of a container's limit, which can be less than the machine has; empty without a limit. Cached files
    count as free, because the system drops them when memory is needed."""
    for limit, used in CGROUP_FILES:
        try:
            numbers = int((root / limit).read_text()), int((root / used).read_text())
            rows = dict(line.split() for line in (root / used).with_name("memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # the file is not there, or says "max": no limit
            continue
        return [numbers[0] - numbers[1] + int(rows.get("inactive_file", 0))]
    return []


def _space_free(environment: Mapping[str, str]) -> list[int]:
    """What a Hugging Face Space has by its variable MEMORY ("16Gi"), less what this process holds; empty elsewhere."""
    said = re.fullmatch(r"(\d+(?:\.\d+)?)([MG])i", environment.get("MEMORY", ""))
    if "SPACE_ID" not in environment or said is None:
        return []
    unit = {"M": 2**20, "G": 2**30}[said[2]]
    try:
        held = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        held = 0
    return [int(float(said[1]) * unit) - held]


def best_dtype(device: jax.Device) -> str:
    """The number format in which this device computes fastest: bfloat16 where there is hardware for it, float16 on
    older GPUs (a T4 has capability 7.5), float32 on a CPU, which would convert bfloat16 for every product."""
    if device.platform == "cpu":
        return "float32"
    major = str(getattr(device, "compute_capability", "")).partition(".")[0]
    return "float16" if major.isdigit() and int(major) < 8 else "bfloat16"  # AMD's read gfx90a


def resolve_dtype(dtype: str, device: jax.Device) -> str:
    """`dtype`, or for "auto" the best one for this device. Raises `BadFormat` for one that it does not compute."""
    best = best_dtype(device)
    if dtype == "bfloat16" and best == "float16":
        raise BadFormat(
            f"{device.device_kind} does not compute bfloat16: that takes compute capability 8.0 (Ampere), and this one "
            f"has {device.compute_capability}; start the app with --dtype float16, or float32 if float16 is too narrow"
        )
    return best if dtype == AUTO else dtype


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
