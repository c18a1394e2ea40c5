"""Whether a long prompt holds up other people's words: three chats are written, then a fourth asks with 4 000 tokens.

    python -m benchmarks.stall --model random:135M

Prints the usual gap between words and the largest one while the prompt is read, and as its last line one JSON object.
"""

import argparse
import json
import statistics
import threading
import time

from benchmarks.common import machine, random_prompts
from llama_core import Engine, SamplingParams, load_checkpoint
from llama_core.model.config import NAMED_CONFIGS

CHATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="random:135M", choices=[f"random:{name}" for name in NAMED_CONFIGS])
    parser.add_argument("--long", type=int, default=4000, help="length of the long prompt in tokens")
    parser.add_argument("--history", type=int, default=512, help="length of the prompts of the three chats")
    parser.add_argument("--aside", type=float, default=5.0, help="seconds of undisturbed writing before and after")
    options = parser.parse_args()
    model = load_checkpoint(options.model)
    with Engine(model, slots=CHATS + 1, max_seq_len=options.long + 96) as engine:
        usual, disturbed, seconds = measure(engine, model.config, options)
        device = engine.device
    result = {
        "benchmark": "stall",
        "model": options.model,
        "long": options.long,
        "history": options.history,
        **machine(device),
        "usual_gap_ms": round(1e3 * statistics.median(usual), 1),
        "usual_largest_gap_ms": round(1e3 * max(usual), 1),
        "largest_gap_ms": round(1e3 * max(disturbed), 1),
        "median_gap_ms": round(1e3 * statistics.median(disturbed), 1),
        "gaps_over_three_times_usual": sum(gap > 3 * statistics.median(usual) for gap in disturbed) / len(disturbed),
        "largest_over_usual": round(max(disturbed) / statistics.median(usual), 2),
        "first_token_after_seconds": round(seconds, 1),
    }
    print(
        f"usually a word every {result['usual_gap_ms']} ms; while {options.long} tokens are read, one every "
        f"{result['median_gap_ms']} ms; the largest gap is {result['largest_over_usual']} times the usual one"
    )
    print(json.dumps(result))


def measure(engine: Engine, config, options) -> tuple[list[float], list[float], float]:
    """Gaps between the words of each chat, in seconds: before and after the prompt is read (a chat that has grown is
    slower), and meanwhile; how long that takes."""
    params = SamplingParams(temperature=0.0, max_new_tokens=options.long, ignore_eos=True)
    chats = [engine.submit(prompt, params) for prompt in random_prompts(config, CHATS, options.history, seed=1)]
    arrivals = [[] for _ in chats]

    def listen(chat, times):
        for _ in chat:
            times.append(time.perf_counter())

    threads = [threading.Thread(target=listen, args=pair) for pair in zip(chats, arrivals, strict=True)]
    for thread in threads:
        thread.start()
    while not all(arrivals):
        time.sleep(0.1)
    began = time.perf_counter()
    time.sleep(options.aside)
    [long_prompt] = random_prompts(config, 1, options.long, seed=2)
    asked = time.perf_counter()
    reading = engine.submit(long_prompt, SamplingParams(temperature=0.0, max_new_tokens=1))
    list(reading)
    answered = time.perf_counter()
    time.sleep(options.aside)
    ended = time.perf_counter()
    for chat, thread in zip(chats, threads, strict=True):
        chat.cancel()
        thread.join()
    gaps = [(late, late - early) for times in arrivals for early, late in zip(times, times[1:], strict=False)]
    usual = [gap for when, gap in gaps if began + 0.5 < when < asked or answered + 0.5 < when < ended]
    disturbed = [gap for when, gap in gaps if asked <= when <= answered]
    return usual, disturbed, answered - asked


if __name__ == "__main__":
    main()
