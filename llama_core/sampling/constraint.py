"""A constrained reply on its way: each next mask is found in a thread, while the device goes on with other replies."""

from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait

import numpy as np
from jaxtyping import Bool

from llama_core.sampling.grammar import GrammarState, NextTokens


class Constraint:
    """One reply's grammar, as the scheduler sees it. After each token the reply pauses until the mask of the next one
    `is_sent` to the device. `finish_reason` says how the reply ended if its grammar did, or its length."""

    def __init__(self, state: GrammarState):
        self._state = state
        self._mask: Bool[np.ndarray, "V"] | None = None
        self._ends: frozenset[int] = frozenset()
        self._is_full = False
        self.search: Future[NextTokens] | None = None
        self.is_sent = False
        self.finish_reason: str | None = None

    def newest_mask(self, drawable: Bool[np.ndarray, "V"], ends: Collection[int]) -> Bool[np.ndarray, "V"]:
        """Which of the `drawable` ids could come when the newest token was chosen; before the first, which may begin
        the reply, the `ends` among them if it may be empty."""
        return self._make_mask(self._state.next, drawable, ends) if self._mask is None else self._mask

    def accept(self, token_id: int, is_full: bool, threads: Executor) -> None:
        """The reply goes on with this token; `is_full` says that it has no room for another."""
        self._is_full = is_full
        if token_id in self._ends:  # one that an update took from the stops meanwhile
            self.finish_reason = "stop"
        else:
            self.search = threads.submit(self._state.accept, token_id)

    def take_mask(self, drawable: Bool[np.ndarray, "V"], ends: Collection[int]) -> Bool[np.ndarray, "V"] | None:
        """Which ids may come next, if that was searched for and is found, and the reply goes on; to be sent at once.
        Raises what the search raised."""
        if self.search is None or not self.search.done():
            return None
        found, self.search = self.search.result(), None
        if found.may_end and not found.allowed.any():
            self.finish_reason = "stop"
        elif self._is_full:
            self.finish_reason = "length"
        else:
            self.is_sent = True
            return self._make_mask(found, drawable, ends)
        return None

    def _make_mask(
        self, found: NextTokens, drawable: Bool[np.ndarray, "V"], ends: Collection[int]
    ) -> Bool[np.ndarray, "V"]:
        self._mask = mask = found.allowed & drawable
        self._ends = frozenset(token_id for token_id in ends if found.may_end and not mask[token_id])
        mask[list(self._ends)] = True
        return mask


def wait_for_a_search(constraints: Collection[Constraint | None]) -> None:
    """Wait until one of the searches that are going on has come to its end; they are bounded by `grammar.LIMITS`."""
    searches = [constraint.search for constraint in constraints if constraint is not None and constraint.search]
    wait(searches, return_when=FIRST_COMPLETED)
