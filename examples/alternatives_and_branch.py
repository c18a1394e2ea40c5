"""See what else the model could have said, take one of these alternatives and let it go on from there, as a click on a
token does on the page. Run `python -m examples.alternatives_and_branch`."""

import math
from pathlib import Path

from llama_core import Engine, SamplingParams, load_checkpoint

GUIDE = Path(__file__).parents[1] / "weights" / "guide"


def main() -> None:
    """A reply with the alternatives of each token, then a second reply that branches off at the least certain one."""
    model = load_checkpoint(str(GUIDE))
    decode = model.tokenizer.decode
    params = SamplingParams(temperature=0.0, max_new_tokens=40, logprobs=3)
    with Engine(model, slots=1, max_seq_len=512) as engine:
        prompt_ids = model.chat.prompt_ids([{"role": "user", "content": "Tell me a story."}])
        tokens = list(engine.submit(prompt_ids, params))
        logprobs = [token.logprob or 0.0 for token in tokens]  # never None: they were asked for
        for token, logprob in zip(tokens, logprobs, strict=True):
            others = ", ".join(f"{decode([other.id])!r} {math.exp(other.logprob):.0%}" for other in token.top)
            print(f"{decode([token.id])!r:12} {math.exp(logprob):4.0%}   of {others}")

        # The least certain token, and the likeliest of those that it was chosen over.
        index = logprobs.index(min(logprobs))
        other = next(other for other in tokens[index].top if other.id != tokens[index].id)
        begun = [*(token.id for token in tokens[:index]), other.id]
        branch = engine.submit([*prompt_ids, *begun], params)  # prefills one token: the rest is in the prefix cache
        rest = [token.id for token in branch]
        print(f"\nas it came:  {decode([token.id for token in tokens])}")
        print(f"\ninstead of token {index}:  {decode([*begun, *rest])}")
        print(f"\n({branch.cached_tokens} of {len(branch.prompt_ids)} tokens were in the cache)")


if __name__ == "__main__":
    main()
