"""How much to ask of the device at once: long enough to keep it busy, short enough that nobody waits for the next word.
All of it follows what turns were measured to take, so it is the same on a laptop and on a large GPU."""

import statistics
from collections import defaultdict, deque
from collections.abc import Collection

from llama_core.programs import CHUNK_SIZES
from llama_core.steps import MAX_STEPS

# Words that arrive this often read as a stream, and a Stop is felt at once.
BLOCK_SECONDS = 0.03

# While prompts are read, words may come this many times later than usual: below 3 by as much as turns vary.
LONGEST_GAP = 2.0

# What takes how long is the median of so many newest turns: one slow turn is the machine's.
REMEMBERED = 5


class Pace:
    """What was measured so far, and what follows from it."""

    def __init__(self):
        # For one reply alone, and for several.
        self._step_seconds: dict[bool, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        # For a part of a chunk of each size.
        self._part_seconds: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        # The largest of CHUNK_SIZES to be used beside replies.
        self._largest = 1

    def steps(self, alone: bool, hurried: bool) -> int:
        """How many tokens a block has, of one reply `alone` or of several; one if `hurried`."""
        if hurried or not self._step_seconds[alone]:
            return 1
        return max(1, min(MAX_STEPS, int(BLOCK_SECONDS / self._step(alone))))

    def chunk(self, remaining: int, writing: int) -> int:
        """How many of the `remaining` tokens of a prompt to read next, beside this many replies that are written."""
        # A chunk with empty places costs what a full one does: at most half may be empty.
        usual = CHUNK_SIZES[1]
        fitting = max(size for size in CHUNK_SIZES if size <= usual or remaining > size // 2)
        if writing:
            self._fit_largest(self._spare(writing == 1))
            fitting = min(fitting, CHUNK_SIZES[self._largest])
        return min(remaining, fitting)

    def _fit_largest(self, spare: float) -> None:
        size = CHUNK_SIZES[self._largest]
        if not self._part_seconds[size]:
            return
        part, place = statistics.median(self._part_seconds[size]), self._largest
        if part > spare and place > 0:
            self._use(place - 1, part)
        elif place + 1 < len(CHUNK_SIZES):
            by_length = part * CHUNK_SIZES[place + 1] / size  # it takes less
            if by_length <= spare:
                self._use(place + 1, by_length)

    def _use(self, place: int, guess: float) -> None:
        """What was measured at another depth of the prompt no longer holds."""
        self._largest = place
        self._part_seconds[CHUNK_SIZES[place]] = deque([guess], maxlen=REMEMBERED)

    def parts(self, size: int, writing: int) -> int:
        """How many parts of a chunk of this size to read between two words of so many replies."""
        seconds = self._part_seconds[size]
        return max(1, int(self._spare(writing == 1) / statistics.median(seconds))) if seconds else 1

    def observe(self, seconds: float, steps: int, alone: bool, sizes: Collection[int] = (), parts: int = 0) -> None:
        """A turn that wrote `steps` tokens of one or of several replies and read some parts of chunks of these sizes
        took `seconds`."""
        if steps and not parts:
            self._step_seconds[alone].append(seconds / steps)
        elif steps and len(sizes) == 1:
            # Turns vary more than a short part takes: a next turn reads at most twice as many.
            reading = max(seconds - steps * self._step(alone), self._spare(alone) / 2)
            self._part_seconds[min(sizes)].append(reading / parts)

    def _step(self, alone: bool) -> float:
        """Seconds of a step, as long as one may take if none was measured without reading beside it."""
        return statistics.median(self._step_seconds[alone] or [BLOCK_SECONDS])

    def _spare(self, alone: bool) -> float:
        """Seconds of a turn that are left for reading."""
        return LONGEST_GAP * max(self._step(alone), BLOCK_SECONDS) - self._step(alone)
