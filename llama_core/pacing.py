"""How much to ask of the device at once: long enough to keep it busy, short enough that nobody waits for the next word.
All of it follows what turns were measured to take, so it is the same on a laptop and on a large GPU."""

from collections import deque

from llama_core.programs import CHUNK_SIZES, MAX_STEPS

# Words that arrive this often read as a stream, and a Stop is felt at once.
BLOCK_SECONDS = 0.03

# While prompts are read, words may come this many times later than usual.
LONGEST_GAP = 2.7


class Pace:
    """What was measured so far, and what follows from it."""

    def __init__(self):
        self._step_seconds: dict[bool, float] = {}  # for one reply alone, and for several
        self.begin_prompt()

    def begin_prompt(self) -> None:
        """Another prompt is read from now on; the chunks that the last one came down to were for its depth."""
        self._use(1)

    def _use(self, company_size: int) -> None:
        """An index in CHUNK_SIZES; how long turns with such chunks take is not known yet."""
        self._company_size, self._recent = company_size, deque(maxlen=3)

    def steps(self, alone: bool, hurried: bool) -> int:
        """How many tokens a block has, of one reply `alone` or of several; one if `hurried`."""
        if hurried or alone not in self._step_seconds:
            return 1
        return max(1, min(MAX_STEPS, int(BLOCK_SECONDS / self._step_seconds[alone])))

    def chunk(self, remaining: int, in_company: bool) -> int:
        """How many of the `remaining` tokens of a prompt to read next; `in_company`: replies are being written too."""
        if in_company:
            return min(remaining, CHUNK_SIZES[self._company_size])
        # A chunk with empty places costs what a full one does: at most half may be empty.
        usual = CHUNK_SIZES[1]
        return min(remaining, max(size for size in CHUNK_SIZES if size <= usual or remaining > size // 2))

    def observe(self, seconds: float, chunk: int, steps: int, alone: bool) -> None:
        """A turn that read `chunk` tokens of a prompt and wrote `steps` of one or of several replies took `seconds`."""
        if steps and not chunk:
            self._step_seconds[alone] = seconds / steps
        if steps and chunk and alone in self._step_seconds:
            longest = LONGEST_GAP * max(self._step_seconds[alone], BLOCK_SECONDS)
            self._recent.append(seconds)
            average = sum(self._recent) / len(self._recent)  # one slow turn is the machine's
            is_sure = len(self._recent) == self._recent.maxlen
            if is_sure and average > longest and self._company_size > 0:
                self._use(self._company_size - 1)
            elif is_sure and average < longest / 3 and self._company_size < len(CHUNK_SIZES) - 1:
                self._use(self._company_size + 1)
