"""How much to ask of the device at once: long enough to keep it busy, short enough that nobody waits for the next word.
All of it follows what turns were measured to take, so it is the same on a laptop and on a large GPU."""

import statistics
from collections import defaultdict, deque

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
        self.begin_prompt()

    def begin_prompt(self) -> None:
        """Another prompt is read from now on; what was measured deep in the last one does not hold for it."""
        self._use(1)

    def _use(self, company_size: int) -> None:
        """Beside replies, read in chunks of this one of CHUNK_SIZES; how long their parts take is not known yet."""
        self._company_size, self._part_seconds = company_size, deque(maxlen=REMEMBERED)

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
            self._fit_company_size(self._spare(writing == 1))
            fitting = min(fitting, CHUNK_SIZES[self._company_size])
        return min(remaining, fitting)

    def _fit_company_size(self, spare: float) -> None:
        if not self._part_seconds:
            return
        part, last = statistics.median(self._part_seconds), len(CHUNK_SIZES) - 1
        smaller, larger = max(self._company_size - 1, 0), min(self._company_size + 1, last)
        # A larger chunk takes longer by its length at most.
        if part > spare and smaller < self._company_size:
            self._use(smaller)
        elif part * CHUNK_SIZES[larger] / CHUNK_SIZES[self._company_size] <= spare and larger > self._company_size:
            self._use(larger)

    def parts(self, writing: int) -> int:
        """How many parts of a chunk to read between two words of so many replies."""
        if not self._part_seconds:
            return 1
        return max(1, int(self._spare(writing == 1) / statistics.median(self._part_seconds)))

    def observe(self, seconds: float, steps: int, alone: bool, size: int = 0, parts: int = 0) -> None:
        """A turn that wrote `steps` tokens of one or of several replies and read some parts of a chunk of this size
        took `seconds`."""
        if steps and not parts:
            self._step_seconds[alone].append(seconds / steps)
        if steps and parts and size == CHUNK_SIZES[self._company_size] and self._step_seconds[alone]:
            self._part_seconds.append(max(seconds - steps * self._step(alone), 1e-6) / parts)

    def _step(self, alone: bool) -> float:
        return statistics.median(self._step_seconds[alone])

    def _spare(self, alone: bool) -> float:
        """Seconds of a turn that are left for reading."""
        if not self._step_seconds[alone]:
            return 0.0
        return LONGEST_GAP * max(self._step(alone), BLOCK_SECONDS) - self._step(alone)
