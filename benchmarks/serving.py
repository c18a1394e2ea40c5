"""Serving: one chat, eight chats and long prompts, this engine and transformers on the same random checkpoint,
interleaved in one run; what the engine adds to its compiled program; how much of the memory bandwidth is used.

    python -m benchmarks.serving --model random:135M
    python -m benchmarks.serving --model random:1B --tokens 24 --rounds 3

Prints a table, and as its last line one JSON object. `overhead` is the engine's time a token over that of the bare
program called in a loop; `bandwidth_fraction` is how fast decoding reads the bytes of the weights, compared with the
fastest plain read, eight tokens and a read in turn.
"""

import json
import statistics
import time

from benchmarks.common import (
    bandwidth_share,
    bytes_a_token,
    chat_options,
    machine,
    make_pair,
    medians,
    random_prompts,
    speed,
    transformers_replies,
)
from llama_core import Engine, SamplingParams
from llama_core.engine.compiled import CompiledPrograms, compile_programs
from llama_core.engine.device_state import new_slot_state
from llama_core.model.config import NAMED_CONFIGS

CHATS = 8
LONG_PROMPTS = 3


def main() -> None:
    parser = chat_options(__doc__)
    parser.add_argument("--long", type=int, default=512, help="length of the long prompt in tokens")
    options = parser.parse_args()
    config = NAMED_CONFIGS[options.model.removeprefix("random:")]
    theirs, ours = make_pair(config)
    kept = []

    def keep(*arguments):
        kept.append(compile_programs(*arguments))
        return kept[0]

    length = max(options.long, options.prompt + options.tokens) + 2
    with Engine(ours, slots=CHATS, max_seq_len=length, compile=keep) as engine:
        figures = medians(measure(engine, theirs, config, options, seed) for seed in range(options.rounds + 1))
        over = overhead(engine, kept[0], config, options)
        begin_endless_reply(kept[0], *random_prompts(config, 1, options.prompt, seed=0), config.vocab_size)
        share, read = bandwidth_share(lambda: kept[0].decode([0], 8).to_host(), 8 * bytes_a_token(config))
        report(
            options,
            engine.device,
            figures,
            {
                # What one chat's ratio would be if every weight came at the speed of the plain read.
                "ratio_at_plain_read": round(read / bytes_a_token(config) / figures["one_transformers"], 2),
                "overhead": round(over, 3),
                "bandwidth_gb_per_second": round(read / 1e9, 2),
                "bandwidth_fraction": round(share, 3),
            },
        )


def measure(engine: Engine, theirs, config, options, seed: int) -> dict[str, float]:
    """One round: each measurement once, ours and theirs in turn. Times and speeds by name."""
    prompts = random_prompts(config, 1 + CHATS, options.prompt, seed)
    long_prompts = random_prompts(config, LONG_PROMPTS, options.long, seed)
    params = SamplingParams(temperature=0.0, max_new_tokens=options.tokens, ignore_eos=True)
    decode = []

    def our_replies(chosen, params):
        generations = [engine.submit(prompt, params) for prompt in chosen]
        replies = [[token.id for token in generation] for generation in generations]
        decode.append(generations[0].tokens_per_second)
        return replies

    def read_speed(reply):
        return options.long * speed(lambda: [ids for prompt in long_prompts for ids in reply(prompt)])

    one_token = SamplingParams(temperature=0.0, max_new_tokens=1)
    return {
        "one": speed(lambda: our_replies(prompts[:1], params)),
        "one_transformers": speed(lambda: transformers_replies(theirs, prompts[:1], options.tokens)),
        "eight": speed(lambda: our_replies(prompts[1:], params)),
        "eight_transformers": speed(lambda: transformers_replies(theirs, prompts[1:], options.tokens)),
        "prefill": read_speed(lambda prompt: our_replies([prompt], one_token)),
        "prefill_transformers": read_speed(lambda prompt: transformers_replies(theirs, [prompt], 1)),
        "decode": decode[0],
    }


def overhead(engine: Engine, programs: CompiledPrograms, config, options, tokens: int = 16, pairs: int = 8) -> float:
    """The engine's time a token over that of the bare program, less one: the median of pairs in turn."""
    params, over = SamplingParams(temperature=0.0, max_new_tokens=tokens, ignore_eos=True), []
    for prompt in random_prompts(config, pairs, options.prompt, seed=options.rounds + 1):
        generation = engine.submit(prompt, params)
        list(generation)
        over.append(bare_speed(programs, prompt, tokens, config.vocab_size) / generation.tokens_per_second - 1)
    return statistics.median(over)


def bare_speed(programs: CompiledPrograms, prompt: list[int], tokens: int, vocab_size: int) -> float:
    """Tokens a second of the decode program without the engine, each block dispatched before the last is read. Only
    while the engine is idle: the state is shared."""
    begin_endless_reply(programs, prompt, vocab_size)
    start, last = time.perf_counter(), None
    for _ in range(tokens):
        current = programs.decode([0], 1)
        if last is not None:
            last.to_host()
        last = current
    last.to_host()
    return tokens / (time.perf_counter() - start)


def begin_endless_reply(programs: CompiledPrograms, prompt: list[int], vocab_size: int) -> None:
    """From now on slot 0 can be decoded as often as one likes."""
    programs.prepare(0, new_slot_state(prompt, 0, 10**6, [], SamplingParams(temperature=0.0), vocab_size), True)
    for start in range(0, len(prompt), 16):
        chunk = programs.start_prefill(0, prompt[start : start + 16], start)
        programs.prefill_layers(chunk, programs.num_layer_groups)
    programs.sample_first(chunk)[0].to_host()
    programs.decode([0], 1).to_host()


def report(options, device: str, speeds: dict[str, float], others: dict[str, float]) -> None:
    ratios = {name: round(speeds[name] / speeds[f"{name}_transformers"], 3) for name in ("one", "eight", "prefill")}
    result = {
        "benchmark": "serving",
        "model": options.model,
        "prompt": options.prompt,
        "tokens": options.tokens,
        "long": options.long,
        "rounds": options.rounds,
        **machine(device),
        **{f"{name}_tokens_per_second": round(value, 2) for name, value in speeds.items()},
        "ratios_to_transformers": ratios,
        "eight_over_one": round(speeds["eight"] / speeds["one"], 3),
        **others,
    }
    print(f"{'tokens/s':24}{'this engine':>14}{'transformers':>14}{'ratio':>8}")
    for label, name in (("one chat", "one"), ("eight chats together", "eight"), ("reading a prompt", "prefill")):
        print(f"{label:24}{speeds[name]:14.1f}{speeds[f'{name}_transformers']:14.1f}{ratios[name]:8.2f}")
    print(f"eight chats are {result['eight_over_one']} times one; the engine adds {result['overhead']:.1%}")
    print(
        f"decoding reads {result['bandwidth_fraction']:.0%} of {result['bandwidth_gb_per_second']} GB/s; "
        f"with all of it one chat would be {result['ratio_at_plain_read']} times transformers"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
