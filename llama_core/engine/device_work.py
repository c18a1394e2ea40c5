"""What the engine needs of a model, what it asks of the device, and what is still on its way: the interface of the
programs, a prompt's chunk between layers, results that nobody has waited for yet."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, Int32

from llama_core.engine.device_state import Drawable, SlotState
from llama_core.model.config import LlamaConfig
from llama_core.model.params import Params
from llama_core.runtime.arrays import AnyArray


class DeviceResult(NamedTuple):
    """Records on their way from the device, [T, N, P], and which of the N rows belongs to which slot. Without rows,
    something of any shape that is only waited for."""

    packed: AnyArray
    rows: dict[int, int]

    def to_host(self) -> dict[int, Int32[np.ndarray, "T P"]]:
        """Wait for the records; those of each slot."""
        host = np.asarray(self.packed)
        return {slot: host[:, row] for slot, row in self.rows.items()}


@dataclasses.dataclass
class PrefillChunk:
    """`length` tokens of a prompt from position `start` on, on their way through the layers: `hidden` came out of the
    last group of layers that was run, `last` is its row for the last token, `groups_done` counts the groups."""

    slot: int
    start: int
    length: int
    hidden: Float[Array, "1 T D"]
    last: Float[Array, "1 D"] | None = None
    groups_done: int = 0

    @property
    def size(self) -> int:
        """T: one of the form's chunk sizes; the places behind `length` are empty."""
        return self.hidden.shape[1]


@runtime_checkable
class EngineModel(Protocol):
    """What an engine needs of a model: `llama_core.checkpoint.Model` has it. If a model also says which ids are
    `drawable`, no other is ever drawn or counted."""

    @property
    def config(self) -> LlamaConfig:
        """The model's shape."""

    @property
    def params(self) -> Params:
        """Its weights."""


@runtime_checkable
class Programs(Protocol):
    """What the scheduler dispatches. `compiled.py` has the real ones; tests put NumPy in their place."""

    @property
    def num_layer_groups(self) -> int:
        """In how many programs, one after the other, a chunk goes through the layers."""

    def prepare(self, slot: int, row: SlotState, is_new: bool) -> None:
        """Give `slot` to a new request, or change how its reply is sampled from the next block on."""

    def allow(self, slot: int, allowed: Drawable) -> None:
        """Say what a constrained reply may go on with; it takes part in the next block again, with one token."""

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Copy the keys and values of the first `length` positions (or a few more) from one slot to another."""

    def clear_slot(self, slot: int) -> None:
        """Zero the keys and values of a slot."""

    def start_prefill(self, slot: int, ids: Sequence[int], start: int) -> PrefillChunk:
        """A chunk of a prompt, of at most the largest chunk size, before the first layer."""

    def prefill_layers(self, chunk: PrefillChunk, groups: int) -> DeviceResult:
        """Dispatch the chunk's next `groups` groups of layers. The result can only be waited for."""

    def sample_first(self, chunk: PrefillChunk) -> tuple[DeviceResult, AnyArray]:
        """Dispatch the first token of a reply, when the prompt's last chunk is through all layers: its record, and the
        logits [V] that it is drawn from."""

    def decode(self, slots: Collection[int], steps: int) -> DeviceResult:
        """Dispatch a block of up to `steps` tokens for each of these slots."""
