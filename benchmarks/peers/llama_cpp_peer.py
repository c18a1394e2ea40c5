"""llama.cpp as a process that measures what it is asked to, for `benchmarks.cpu`. It runs in the environment that has
llama-cpp-python, which need not be ours: a line of JSON in, a line out."""

import json
import sys
import time
from collections.abc import Iterable

import llama_cpp


def decode(model: llama_cpp.llama_model_p, threads: int, chats: int, context: int, tokens: int) -> dict[str, float]:
    """Tokens a second of a prompt of `context` tokens, and of `chats` replies after it, all of one step in a batch."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = chats * (context + tokens + 16)
    params.n_batch = params.n_ubatch = 512
    params.n_seq_max = chats
    params.n_threads = params.n_threads_batch = threads
    running = llama_cpp.llama_init_from_model(model, params)
    batch = llama_cpp.llama_batch_init(512, 0, 1)
    try:
        start = time.perf_counter()
        for chat in range(chats):
            for first in range(0, context, 512):
                places = range(first, min(first + 512, context))
                _run(running, batch, [(3 + place % 500, place, chat) for place in places])
        llama_cpp.llama_synchronize(running)
        prefill = chats * context / (time.perf_counter() - start)
        start = time.perf_counter()
        for step in range(tokens):
            _run(running, batch, [(7 + step + chat, context + step, chat) for chat in range(chats)], all_logits=True)
            llama_cpp.llama_synchronize(running)
        return {"prefill": prefill, "decode": chats * tokens / (time.perf_counter() - start)}
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(running)


def _run(running: object, batch: object, rows: Iterable[tuple[int, int, int]], all_logits: bool = False) -> None:
    rows = list(rows)
    batch.n_tokens = len(rows)
    for i, (token, position, chat) in enumerate(rows):
        batch.token[i], batch.pos[i] = token, position
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, chat
        batch.logits[i] = all_logits or i == len(rows) - 1
    if llama_cpp.llama_decode(running, batch):
        raise RuntimeError("llama.cpp refused the batch")


def main() -> None:
    """Serve until the input ends."""
    threads = int(sys.argv[2])
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(sys.argv[1].encode(), params)
    print(json.dumps({"version": llama_cpp.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(decode(model, threads, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
