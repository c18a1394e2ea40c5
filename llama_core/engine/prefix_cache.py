"""Which slot a request gets: a slot keeps what it has read after its reply ends, and a request that begins the same way
does not read it again. Token ids only; the engine moves the cache."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Slot:
    """A place in the cache: `ids` are the tokens whose keys and values lie in it, `tenant` is who uses it now."""

    index: int
    ids: list[int] = field(default_factory=list)
    tenant: Any = None
    last_used: int = 0

    def keep(self, start: int, ids: Sequence[int]) -> None:
        """Tokens are about to be read into positions `start`…; what lies there and behind stays good only if it is the
        same already."""
        if self.ids[start : start + len(ids)] != list(ids):
            del self.ids[start:]

    def write(self, start: int, ids: Sequence[int]) -> None:
        """They have been read."""
        self.keep(start, ids)
        if len(self.ids) == start:
            self.ids.extend(ids)


@dataclass(frozen=True)
class Placement:
    """`prefix` tokens of the prompt need not be read: they lie in `slot`, or are copied there from `source`."""

    slot: Slot
    prefix: int
    source: Slot | None = None


def common_prefix(cached: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens the two have in common from the start."""
    length = min(len(cached), len(prompt))
    differs = np.asarray(cached[:length]) != np.asarray(prompt[:length])
    return int(np.argmax(differs)) if differs.any() else length


def place(slots: Sequence[Slot], prompt: Sequence[int]) -> Placement | None:
    """The slot for a prompt, or None while all are taken: the one with the longest common prefix, if little of what it
    remembers is lost by going on there; else the least recently used, with the prefix copied into it.

    The last token of the prompt is always read: what follows it is drawn from its output.
    """
    free = [slot for slot in slots if slot.tenant is None]
    if not free:
        return None
    prefixes = {slot.index: common_prefix(slot.ids, prompt[:-1]) for slot in slots}
    source = max(slots, key=lambda slot: prefixes[slot.index])
    kept = prefixes[source.index]
    nearest = max(free, key=lambda slot: (prefixes[slot.index], -slot.last_used))
    lost = len(nearest.ids) - kept
    if kept and prefixes[nearest.index] == kept and (lost <= kept or free == [nearest]):
        return Placement(nearest, kept)
    oldest = min(free, key=lambda slot: (slot is nearest and kept > 0, slot.last_used))
    return Placement(oldest, kept, source if kept > prefixes[oldest.index] else None)
