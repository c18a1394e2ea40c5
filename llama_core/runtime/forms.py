"""How programs are cut."""

# Prompts are read in chunks of these many tokens; pacing.py says when which (benchmarks/NOTES.md).
CHUNK_SIZES = (8, 32, 128, 512)

# They go through at most this many layers at once (the largest divisor of L that is not above it).
LAYERS_AT_ONCE = 2

# A block is at most this many tokens of every reply.
MAX_STEPS = 16
