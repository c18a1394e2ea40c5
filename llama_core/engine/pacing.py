"""How much to dispatch per turn: enough to keep the device busy, little enough that nobody waits for the next word. All
of it follows from how long turns were measured to take, so a laptop and a large GPU need no setting."""

import statistics
from collections import defaultdict, deque
from collections.abc import Collection

from llama_core.runtime.forms import Form

# Words that arrive this often read as a stream, and a Stop is felt at once.
BLOCK_SECONDS = 0.03

# While prompts are prefilled, the gap between two words may be this many times the usual one: well below 3, because
# turn times vary (benchmarks/NOTES.md has the largest gaps for 1.6, 1.7 and 1.8).
LONGEST_GAP = 1.6

# Every so many turns beside replies one skips prefill, so that decoding is timed alone: it grows slower as chats grow.
TURNS_TO_A_LOOK = 8

# Only so many newest turns count: a single slow turn is the machine's fault.
REMEMBERED = 5


class BatchSizer:
    """Sizes of decode blocks, of prefill chunks, and of how many groups of layers a chunk passes per turn, from the
    measured seconds of the newest turns."""

    def __init__(self, form: Form):
        self._form = form
        # Seconds per decode step, with one reply alone and with several.
        self._step_seconds: dict[bool, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        # Seconds per group of layers for the chunk size in use, and the last known median for the others.
        self._size = 0
        self._group_seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._other_sizes: dict[int, float] = {}
        # The index of the largest chunk size to be used beside replies.
        self._largest = 1

    def decode_steps(self, alone: bool, hurried: bool) -> int:
        """How many tokens to decode per block, of one reply `alone` or of several; one if `hurried`."""
        if hurried or not self._step_seconds[alone]:
            return 1
        return max(1, min(self._form.max_block_steps, int(BLOCK_SECONDS / self._step(alone))))

    def chunk_length(self, remaining: int, decoding: int) -> int:
        """How many of the `remaining` tokens of a prompt to prefill next, while so many replies are decoded."""
        sizes = self._form.chunk_sizes
        # A chunk with empty places costs as much as a full one: from the second size on at most a quarter may be empty.
        length = max(size for size in sizes if size <= sizes[1] or remaining > size * 3 // 4)
        if decoding:
            self._fit_largest(self._spare_seconds(decoding == 1))
            length = min(length, sizes[self._largest])
        return min(remaining, length)

    def _fit_largest(self, spare: float) -> None:
        sizes, largest = self._form.chunk_sizes, self._largest
        if self._size != sizes[largest] or not self._group_seconds:
            return
        seconds = statistics.median(self._group_seconds)
        if seconds > spare:
            self._largest = max(largest - 1, 0)
        # A larger chunk takes longer than this one by the ratio of their lengths at most.
        elif largest + 1 < len(sizes) and seconds * sizes[largest + 1] / sizes[largest] <= spare:
            self._largest = largest + 1

    def groups_per_turn(self, size: int, decoding: int) -> int:
        """Through how many groups of layers a chunk of this size may go between two words of so many replies."""
        self._change_size(size)
        if not self._group_seconds:
            return 1
        return max(1, int(self._spare_seconds(decoding == 1) / statistics.median(self._group_seconds)))

    def _change_size(self, size: int) -> None:
        """Start from an estimate when the chunk size changes. What was measured for the new size before may be from
        another depth of the prompt, so it is kept within two bounds: a chunk of another size takes a different time
        than the last one, but by the ratio of their lengths at most."""
        if size == self._size:
            return
        estimate = []
        if self._group_seconds:
            seconds = self._other_sizes[self._size] = statistics.median(self._group_seconds)
            least, most = sorted((seconds, seconds * size / self._size))
            estimate = [min(max(self._other_sizes.get(size, most), least), most)]
        self._size, self._group_seconds = size, deque(estimate, maxlen=REMEMBERED)

    def observe(self, seconds: float, steps: int, alone: bool, sizes: Collection[int] = (), groups: int = 0) -> None:
        """A turn took `seconds` that decoded `steps` tokens of one or of several replies, and took chunks of these
        sizes through so many groups of layers."""
        if steps and not groups:
            self._step_seconds[alone].append(seconds / steps)
        elif steps and set(sizes) == {self._size}:
            # Turns vary by more than a short group takes, so the next turn may do twice as many at most.
            prefill = max(seconds - steps * self._step(alone), self._spare_seconds(alone) / 2)
            self._group_seconds.append(prefill / groups)

    def _step(self, alone: bool) -> float:
        """Seconds per decode step; before the first measurement as long as one may take. The shortest of the newest:
        with too large a number prefill beside decoding would seem to cost nothing."""
        return min(self._step_seconds[alone], default=BLOCK_SECONDS)

    def _spare_seconds(self, alone: bool) -> float:
        """Seconds per turn that are left for prefill."""
        return LONGEST_GAP * max(self._step(alone), BLOCK_SECONDS) - self._step(alone)
