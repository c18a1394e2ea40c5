"""A tokenizer for models of random weights, which have none of their own."""

from dataclasses import replace

from llama_core.tokenizer.tiktoken_ranks import GPT2_PATTERN, byte_level_tokenizer
from llama_core.tokenizer.tokenizer import Tokenizer


def random_tokenizer(vocab_size: int, bos_id: int, eos_ids: tuple[int, ...]) -> Tokenizer:
    """A vocabulary for random models: the bytes, then made-up words, so that noise can be read aloud."""
    special = {"<|begin_of_text|>": bos_id} | {f"<|end_of_text_{i}|>": eos_id for i, eos_id in enumerate(eos_ids)}
    syllables = [consonant + vowel for consonant in "bcdfghjklmnprstvwxyz" for vowel in "aeiou"]

    def word(i: int) -> bytes:
        text = ""
        while i or not text:
            i, part = divmod(i, len(syllables))
            text += syllables[part]
        return b" " + text.encode()

    ids = [token_id for token_id in range(vocab_size) if token_id not in special.values()]
    ranks = {bytes([token_id]) if token_id < 256 else word(token_id - 256): token_id for token_id in ids}
    return replace(byte_level_tokenizer(GPT2_PATTERN, ranks, special), bos_id=bos_id, eos_ids=eos_ids)
