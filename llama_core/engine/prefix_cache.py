"""The prefix cache: a slot keeps the keys and values of its tokens after a reply ends, and a prompt that begins with
the same tokens does not prefill them again. Here only token ids are compared; the scheduler has the cache itself
copied."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Slot:
    """One sequence of the key/value cache. `ids` are the tokens whose keys and values it holds, from position 0 on."""

    index: int
    ids: list[int] = field(default_factory=list)
    in_use: bool = False
    last_used: int = 0

    def invalidate_from(self, start: int, ids: Sequence[int]) -> None:
        """`ids` are about to be written to the positions from `start` on: cached tokens from there on stay valid only
        if they are these already."""
        if self.ids[start : start + len(ids)] != list(ids):
            del self.ids[start:]

    def extend(self, start: int, ids: Sequence[int]) -> None:
        """Record that the keys and values of `ids` are now in the cache, from position `start` on."""
        self.invalidate_from(start, ids)
        if len(self.ids) == start:
            self.ids.extend(ids)


@dataclass(frozen=True)
class SlotChoice:
    """A slot for a prompt, whose first `prefix` tokens need no prefill: `slot` holds them already, or they are to be
    copied there from `source`."""

    slot: Slot
    prefix: int
    source: Slot | None = None


def common_prefix(cached: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens the two have in common from the start."""
    length = min(len(cached), len(prompt))
    differs = np.asarray(cached[:length]) != np.asarray(prompt[:length])
    return int(np.argmax(differs)) if differs.any() else length


def choose_slot(slots: Sequence[Slot], prompt: Sequence[int]) -> SlotChoice | None:
    """The slot for a prompt; None while all are in use. The one with the longest common prefix, if going on there
    throws away no more cached tokens than it saves; else the least recently used one, with the prefix copied into it.

    The last token of the prompt is always prefilled: the first token of the reply is drawn from its output.
    """
    free = [slot for slot in slots if not slot.in_use]
    if not free:
        return None
    prefixes = {slot.index: common_prefix(slot.ids, prompt[:-1]) for slot in slots}
    source = max(slots, key=lambda slot: prefixes[slot.index])
    prefix = prefixes[source.index]
    nearest = max(free, key=lambda slot: (prefixes[slot.index], -slot.last_used))
    lost = len(nearest.ids) - prefix
    if prefix and prefixes[nearest.index] == prefix and (lost <= prefix or free == [nearest]):
        return SlotChoice(nearest, prefix)
    oldest = min(free, key=lambda slot: (slot is nearest and prefix > 0, slot.last_used))
    return SlotChoice(oldest, prefix, source if prefix > prefixes[oldest.index] else None)
