"""Ask the guide a question and print its answer word by word: `python -m examples.stream_a_reply "Your question"`."""

import asyncio
import sys
from pathlib import Path

from llama_core import Engine, SamplingParams, load_checkpoint
from llama_core.engine.text import Reply

GUIDE = Path(__file__).parents[1] / "weights" / "guide"


async def main(question: str) -> None:
    """Load the model, start an engine, stream one reply."""
    model = load_checkpoint(str(GUIDE))
    with Engine(model, slots=1, max_seq_len=512) as engine:  # compiles its programs: some seconds
        prompt_ids = model.chat.prompt_ids([{"role": "user", "content": question}])
        request = engine.submit(prompt_ids, SamplingParams(temperature=0.7, seed=1, max_new_tokens=100))
        async for piece in Reply(request, model.tokenizer).pieces():
            print(piece, end="", flush=True)
        speed = request.tokens_per_second
        print(f"\n({request.finish_reason}" + (f", {speed:.0f} tokens/s)" if speed else ")"))


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "What is temperature?"))
