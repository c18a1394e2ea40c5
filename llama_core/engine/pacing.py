"""How much to ask of the device at once: long enough to keep it busy, short enough that nobody waits for the next word.
All of it follows what turns were measured to take, so it is the same on a laptop and on a large GPU."""

import statistics
from collections import defaultdict, deque
from collections.abc import Collection

from llama_core.runtime.forms import CHUNK_SIZES, MAX_STEPS

# Words that arrive this often read as a stream, and a Stop is felt at once.
BLOCK_SECONDS = 0.03

# While prompts are read, words may come this many times later than usual: below 3 by as much as turns vary.
LONGEST_GAP = 1.6

# One in so many turns beside replies reads nothing, so that it is known how long their words take by now.
TURNS_TO_A_LOOK = 8

# So many newest turns count: one slow turn is the machine's.
REMEMBERED = 5


class Pace:
    """What was measured so far, and what follows from it."""

    def __init__(self):
        # For one reply alone, and for several.
        self._step_seconds: dict[bool, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        # For a part of a chunk of the size that is read now, and what it came to for other sizes.
        self._size, self._part_seconds = 0, deque(maxlen=REMEMBERED)
        self._others: dict[int, float] = {}
        # The largest of CHUNK_SIZES to be used beside replies.
        self._largest = 1

    def steps(self, alone: bool, hurried: bool) -> int:
        """How many tokens a block has, of one reply `alone` or of several; one if `hurried`."""
        if hurried or not self._step_seconds[alone]:
            return 1
        return max(1, min(MAX_STEPS, int(BLOCK_SECONDS / self._step(alone))))

    def chunk(self, remaining: int, writing: int) -> int:
        """How many of the `remaining` tokens of a prompt to read next, beside this many replies that are written."""
        # A chunk with empty places costs what a full one does: at most a quarter may be empty.
        usual = CHUNK_SIZES[1]
        fitting = max(size for size in CHUNK_SIZES if size <= usual or remaining > size * 3 // 4)
        if writing:
            self._fit_largest(self._spare(writing == 1))
            fitting = min(fitting, CHUNK_SIZES[self._largest])
        return min(remaining, fitting)

    def _fit_largest(self, spare: float) -> None:
        size, place = CHUNK_SIZES[self._largest], self._largest
        if self._size != size or not self._part_seconds:
            return
        part = statistics.median(self._part_seconds)
        if part > spare:
            self._largest = max(place - 1, 0)
        elif place + 1 < len(CHUNK_SIZES) and part * CHUNK_SIZES[place + 1] / size <= spare:  # at most by its length
            self._largest = place + 1

    def parts(self, size: int, writing: int) -> int:
        """How many parts of a chunk of this size to read between two words of so many replies."""
        self._turn_to(size)
        if not self._part_seconds:
            return 1
        return max(1, int(self._spare(writing == 1) / statistics.median(self._part_seconds)))

    def _turn_to(self, size: int) -> None:
        """From another size. What is remembered of this one was measured at another depth of a prompt: at this depth a
        larger chunk takes longer than a smaller one, by its length at most."""
        if size == self._size:
            return
        guess = []
        if self._part_seconds:
            part = self._others[self._size] = statistics.median(self._part_seconds)
            least, most = sorted((part, part * size / self._size))
            guess = [min(max(self._others.get(size, most), least), most)]
        self._size, self._part_seconds = size, deque(guess, maxlen=REMEMBERED)

    def observe(self, seconds: float, steps: int, alone: bool, sizes: Collection[int] = (), parts: int = 0) -> None:
        """A turn that wrote `steps` tokens of one or of several replies and read some parts of chunks of these sizes
        took `seconds`."""
        if steps and not parts:
            self._step_seconds[alone].append(seconds / steps)
        elif steps and set(sizes) == {self._size}:
            # Turns vary more than a short part takes: a next turn reads at most twice as many.
            reading = max(seconds - steps * self._step(alone), self._spare(alone) / 2)
            self._part_seconds.append(reading / parts)

    def _step(self, alone: bool) -> float:
        """Seconds of a step, as long as one may take if none was measured without reading beside it. The shortest of
        the newest: taken for longer than it is, reading beside it would seem to cost nothing."""
        return min(self._step_seconds[alone], default=BLOCK_SECONDS)

    def _spare(self, alone: bool) -> float:
        """Seconds of a turn that are left for reading."""
        return LONGEST_GAP * max(self._step(alone), BLOCK_SECONDS) - self._step(alone)
