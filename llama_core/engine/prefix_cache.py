"""The prefix cache: a slot keeps the keys and values of its tokens after a reply ends, and a prompt that begins with
the same tokens does not prefill them again. Here only token ids are compared; the scheduler has the cache itself
copied."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class CacheScope:
    """Who may find the tokens of a prompt and its reply in the prefix cache: the first `shared_length` everybody, the
    others only requests with the same `salt`. Without a salt everybody may find everything.

    A program that tells how many tokens were cached, or how soon the first word came, would otherwise confirm guesses
    of what somebody else has written. (vLLM has `cache_salt` for this.)
    """

    salt: str | None = None
    shared_length: int = 0

    def reach(self, other: "CacheScope") -> float:
        """How many tokens of a slot with the scope `other` a request of this scope may find."""
        if self.salt == other.salt:
            return np.inf
        return min(np.inf if scope.salt is None else scope.shared_length for scope in (self, other))


EVERYBODY = CacheScope()


@dataclass
class Slot:
    """One sequence of the key/value cache. `ids` are the tokens whose keys and values it holds, from position 0 on, and
    `scope` says who may find them."""

    index: int
    ids: list[int] = field(default_factory=list)
    in_use: bool = False
    last_used: int = 0
    scope: CacheScope = EVERYBODY

    def belong_to(self, scope: CacheScope, prefix: int) -> None:
        """A request of this scope goes on behind the first `prefix` tokens. What lies behind them was not its own."""
        if scope != self.scope:
            del self.ids[prefix:]
            self.scope = scope

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


def reusable_prefix(slot: Slot, prompt: Sequence[int], scope: CacheScope) -> int:
    """How many tokens of the prompt need not be prefilled thanks to this slot. The last token always is: the first
    token of the reply is drawn from its output."""
    return int(min(common_prefix(slot.ids, prompt[:-1]), scope.reach(slot.scope)))


def choose_slot(slots: Sequence[Slot], prompt: Sequence[int], scope: CacheScope = EVERYBODY) -> SlotChoice | None:
    """The slot for a prompt; None while all are in use. The one with the longest common prefix, if going on there
    throws away no more cached tokens than it saves; else the least recently used one, with the prefix copied into it.
    """
    free = [slot for slot in slots if not slot.in_use]
    if not free:
        return None
    prefixes = {slot.index: reusable_prefix(slot, prompt, scope) for slot in slots}
    source = max(slots, key=lambda slot: prefixes[slot.index])
    prefix = prefixes[source.index]
    nearest = max(free, key=lambda slot: (prefixes[slot.index], -slot.last_used))
    lost = len(nearest.ids) - prefix
    if prefix and prefixes[nearest.index] == prefix and (lost <= prefix or free == [nearest]):
        return SlotChoice(nearest, prefix)
    oldest = min(free, key=lambda slot: (slot is nearest and prefix > 0, slot.last_used))
    return SlotChoice(oldest, prefix, source if prefix > prefixes[oldest.index] else None)
