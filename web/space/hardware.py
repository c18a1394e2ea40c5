"""The machines of Hugging Face Spaces on which the app can run."""

from dataclasses import dataclass

from llama_core.errors import UserError

GB = 10**9


class SpaceError(UserError):
    """A Space that cannot be made or reached, and what to do about it."""


@dataclass(frozen=True)
class Hardware:
    """A flavour: its memory in GB (of a GPU the card's), its price in dollars an hour, and the number format that
    `--dtype auto` takes there."""

    name: str
    memory: int
    price: float
    has_gpu: bool = False
    dtype: str = "float32"


# huggingface.co/docs/hub/spaces-overview and spaces-gpus, August 2026. Prices change: `priced` asks the Hub.
FLAVOURS = {
    row.name: row
    for row in (
        Hardware("cpu-basic", 16, 0.0),
        Hardware("cpu-upgrade", 32, 0.03),
        Hardware("t4-small", 16, 0.40, True, "float16"),
        Hardware("t4-medium", 16, 0.60, True, "float16"),
        Hardware("l4x1", 24, 0.80, True, "bfloat16"),
        Hardware("a10g-small", 24, 1.00, True, "bfloat16"),
        Hardware("a10g-large", 24, 1.50, True, "bfloat16"),
        Hardware("l40sx1", 48, 1.80, True, "bfloat16"),
        Hardware("a100-large", 80, 2.50, True, "bfloat16"),
    )
}


def find_hardware(name: str) -> Hardware:
    """The flavour of this name. Raises `SpaceError`."""
    if name.startswith("zero"):
        raise SpaceError("ZeroGPU cannot run JAX on its GPU (it serves PyTorch alone); choose cpu-basic or a GPU")
    if name not in FLAVOURS:
        raise SpaceError(f"there is no hardware {name!r}; expected {', '.join(FLAVOURS)}")
    return FLAVOURS[name]
