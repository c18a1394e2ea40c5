"""The machines of Hugging Face Spaces on which the app can run."""

from dataclasses import dataclass

from llama_core.errors import UserError

GB = 10**9


class SpaceError(UserError):
    """A Space that cannot be made or reached, and what to do about it."""


@dataclass(frozen=True)
class Hardware:
    """A flavour: its memory in GB (of GPUs that of each card), its price in dollars an hour, how many GPUs it has, and
    the number format that `--dtype auto` takes there."""

    name: str
    memory: int
    price: float
    gpus: int = 0
    dtype: str = "float32"

    @property
    def has_gpu(self) -> bool:
        """Whether there is any."""
        return self.gpus > 0


# huggingface.co/docs/hub/spaces-gpus, August 2026. Prices change: `price_of` asks the Hub.
FLAVOURS = {
    row.name: row
    for row in (
        Hardware("cpu-basic", 16, 0.0),
        Hardware("cpu-upgrade", 32, 0.03),
        Hardware("t4-small", 16, 0.40, 1, "float16"),
        Hardware("t4-medium", 16, 0.60, 1, "float16"),
        Hardware("l4x1", 24, 0.80, 1, "bfloat16"),
        Hardware("l4x4", 24, 3.80, 4, "bfloat16"),
        Hardware("a10g-small", 24, 1.00, 1, "bfloat16"),
        Hardware("a10g-large", 24, 1.50, 1, "bfloat16"),
        Hardware("a10g-largex2", 24, 3.00, 2, "bfloat16"),
        Hardware("a10g-largex4", 24, 5.00, 4, "bfloat16"),
        Hardware("l40sx1", 48, 1.80, 1, "bfloat16"),
        Hardware("l40sx4", 48, 8.30, 4, "bfloat16"),
        Hardware("l40sx8", 48, 23.50, 8, "bfloat16"),
        Hardware("a100-large", 80, 2.50, 1, "bfloat16"),
        Hardware("a100x4", 80, 10.00, 4, "bfloat16"),
        Hardware("a100x8", 80, 20.00, 8, "bfloat16"),
    )
}


def find_hardware(name: str) -> Hardware:
    """The flavour of this name. Raises `SpaceError`."""
    if name.startswith("zero"):
        raise SpaceError("ZeroGPU cannot run JAX on its GPU (it serves PyTorch alone); choose cpu-basic or a GPU")
    if name not in FLAVOURS:
        raise SpaceError(f"there is no hardware {name!r}; expected {', '.join(FLAVOURS)}")
    return FLAVOURS[name]
