"""An engine without a model: a thread that chooses the next word of a fixed text, at a set pace, with alternatives."""

import asyncio
import itertools
import math
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from llama_core.engine import EngineError
from llama_core.engine.prefix_cache import EVERYBODY, Slot, reusable_prefix
from llama_core.engine.request import Token, TokenAlternative
from llama_core.model.config import LlamaConfig
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizer.chat_template import Chat
from llama_core.tokenizer.tokenizer import Tokenizer

WORDS = ["", " the", " cat", " sat", " on", " a", " mat", ".", "\n", " and", " it", " saw", " dog", " ran", "é"]
EOS = 0
CONFIG = LlamaConfig(
    vocab_size=len(WORDS) + 256,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=100_000,
    bos_token_id=None,
    eos_token_id=(EOS,),
)


class TrainedChat(Chat):
    """As of a model that was trained to chat; its prompts have one message a line."""

    has_template = True


def fake_model(name="fake", bytes_of=None):
    """A `Model` whose words are WORDS, then single bytes; text from people is read byte by byte."""
    token_bytes = [*(word.encode() for word in WORDS), *(bytes([value]) for value in range(256))]
    tokenizer = Tokenizer(
        lambda text, is_start: [len(WORDS) + value for value in text.encode()],
        bytes_of or token_bytes,
        {"<|end|>": EOS},
        eos_ids=(EOS,),
    )
    return SimpleNamespace(
        id=f"{name}-id",
        name=name,
        config=CONFIG,
        params=None,
        tokenizer=tokenizer,
        chat=TrainedChat(tokenizer),
        defaults=SamplingParams(),
        is_random=False,
        dtype="float32",
        weights="float32",
        quantize="none",
        stored="F32, 32.0 bits a weight",
        parameter_count=12_345,
        drawable=np.ones(CONFIG.vocab_size, bool),
        weight_bytes=49_380,
        devices=1,
    )


def next_id(ids):
    """The word after these ids, never the end."""
    return 1 + sum(ids) % (len(WORDS) - 1)


class FakeRequest:
    """As the engine's `Request`."""

    def __init__(self, prompt_ids, params, cached, place):
        self.prompt_ids, self.params, self.cached_tokens, self.queue_position = prompt_ids, params, cached, place
        self.tokens, self.changes, self.finish_reason, self.error = [], [], None, None
        self.pending = None
        self.submitted, self.first, self.cancelled = time.perf_counter(), None, threading.Event()
        self.ended = None  # wall clock, to be compared with a browser's

    prompt_tokens = property(lambda self: len(self.prompt_ids))
    token_ids = property(lambda self: [token.id for token in self.tokens])
    time_to_first_token = property(lambda self: self.first and self.first - self.submitted)

    @property
    def tokens_per_second(self):
        seconds = time.perf_counter() - (self.first or time.perf_counter())
        return (len(self.tokens) - 1) / seconds if len(self.tokens) > 1 and seconds > 0 else None

    def update(self, params):
        self.pending = replace(params, seed=self.params.seed, logprobs=self.params.logprobs)

    def take_update(self):
        if self.pending not in (None, self.params):
            self.params = self.pending
            self.changes.append((len(self.tokens), self.params))

    def cancel(self):
        self.cancelled.set()

    async def batches(self, interval=0.0):
        count = 0
        while True:
            ended = self.finish_reason is not None
            batch = self.tokens[count:]
            if batch:
                count += len(batch)
                yield batch
                await asyncio.sleep(interval)
            elif ended:
                break
            else:
                await asyncio.sleep(0.002)
        if self.error is not None:
            raise self.error


class FakeEngine:
    """Replies of `max_new_tokens` tokens, `pace` a second (0: at once). A prompt with "boom" in it breaks off after
    three tokens, one with "script" is answered by `hostile`. A cold one gets ready as `heat` lets its 8 programs
    through."""

    def __init__(self, pace=0.0, slots=2, max_seq_len=4096, hostile=None, cold=False):
        self.pace, self.slots, self.max_seq_len, self.hostile = pace, slots, max_seq_len, hostile
        self.generations, self.healthy, self.device, self.closed = [], True, "CPU, 2 cores", False
        self.failure = None
        self.hold = None  # a place in line: nothing begins until it is None
        self.ready, self.compiled, self._heat = not cold, (0, 0), threading.Semaphore(0 if cold else 8)

    def heat(self, programs):
        self._heat.release(programs)

    def warm_up(self, progress):
        for done in range(1, 9):
            self._heat.acquire()
            self.compiled = done, 8
            progress(done, 8)
        self.ready = True

    def submit(self, prompt_ids, params, reply_ids=(), cache_scope=EVERYBODY):
        prompt_ids = [*prompt_ids, *reply_ids]
        if len(prompt_ids) >= self.max_seq_len:
            raise EngineError(f"the prompt has {len(prompt_ids)} tokens; shorten it")
        params = replace(params, seed=0 if params.seed is None else params.seed)
        earlier = [Slot(0, [*old.prompt_ids, *old.token_ids], scope=old.scope) for old in self.generations]
        cached = max((reusable_prefix(slot, [*prompt_ids, -1], cache_scope) for slot in earlier), default=0)
        generation = FakeRequest(prompt_ids, params, cached, self.hold)
        generation.scope = cache_scope
        self.generations.append(generation)
        threading.Thread(target=self._write, args=(generation,), daemon=True).start()
        return generation

    def _write(self, generation):
        self._choose_all(generation)
        generation.ended = time.time()

    def _choose_all(self, generation):
        while (self.hold or not self.ready) and not generation.cancelled.wait(0.01):
            generation.queue_position = self.hold
        generation.queue_position = None
        text = bytes(value - len(WORDS) for value in generation.prompt_ids if value >= len(WORDS))
        script = [len(WORDS) + value for value in self.hostile.encode()] if self.hostile and b"script" in text else None
        begin = time.perf_counter()
        for index in itertools.count():
            generation.take_update()
            if generation.cancelled.is_set():
                generation.finish_reason = "cancelled"
                return
            if index >= (len(script) if script else generation.params.max_new_tokens):
                generation.finish_reason = "stop" if script else "length"
                return
            if b"boom" in text and index == 3:
                generation.error, generation.finish_reason = EngineError("out of words"), "error"
                return
            before = [generation.params.seed, *generation.prompt_ids, *generation.token_ids]
            chosen = script[index] if script else next_id(before)
            self._add(generation, chosen)
            if self.pace and not script:
                time.sleep(max(0.0, begin + (index + 1) / self.pace - time.perf_counter()))

    def _add(self, generation, chosen):
        share = (0.05, 0.3, 0.6, 0.9, 0.99)[len(generation.tokens) % 5]
        others = [(chosen + step) % len(WORDS) for step in range(1, 5)] if chosen < len(WORDS) else []
        top = [TokenAlternative(chosen, math.log(share), math.log(min(1.0, share + 0.005)))]
        top += [
            TokenAlternative(other, math.log((1 - share) / 4), -math.inf if rank else math.log(0.005))
            for rank, other in enumerate(others)
        ]
        generation.first = generation.first or time.perf_counter()
        generation.tokens.append(Token(*(top[0].id, top[0].logprob, top[0].final_logprob), tuple(top)))

    async def next_token_logits_async(self, ids, cache_scope=EVERYBODY):
        logits = np.full(CONFIG.vocab_size, -9.0, np.float32)
        # The order of `_add`: what comes next, and then the words after it.
        logits[: len(WORDS)] = np.roll(-np.arange(len(WORDS), dtype=np.float32) / 2, next_id(ids))
        return logits

    def stats(self):
        running = [other for other in self.generations if other.finish_reason is None]
        return SimpleNamespace(
            slots=self.slots,
            busy=len(running),
            queued=0,
            requests=len(self.generations),
            tokens_in=0,
            tokens_out=0,
            tokens_cached=0,
            tokens_per_second=0.0,
            time_to_first_token=0.1,
            attention="blocks",
            context_used=100,
            context_size=self.slots * self.max_seq_len,
        )

    def close(self):
        self.closed = True
        for generation in self.generations:
            generation.cancel()
