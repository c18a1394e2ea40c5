"""A tokenizer for models with random weights, which have no tokenizer of their own."""

from dataclasses import replace

from llama_core.tokenizer.tiktoken_ranks import GPT2_PATTERN, byte_level_tokenizer
from llama_core.tokenizer.tokenizer import Tokenizer

SYLLABLES = [consonant + vowel for consonant in "bcdfghjklmnprstvwxyz" for vowel in "aeiou"]


def random_tokenizer(vocab_size: int, bos_id: int | None, eos_ids: tuple[int, ...]) -> Tokenizer:
    """A vocabulary of the 256 bytes and, after them, made-up words: a random model writes something pronounceable."""
    special = {} if bos_id is None else {"<|begin_of_text|>": bos_id}
    special |= {f"<|end_of_text_{i}|>": eos_id for i, eos_id in enumerate(eos_ids)}
    ids = [token_id for token_id in range(vocab_size) if token_id not in special.values()]
    ranks = {bytes([token_id]) if token_id < 256 else _word(token_id - 256): token_id for token_id in ids}
    return replace(byte_level_tokenizer(GPT2_PATTERN, ranks, special), bos_id=bos_id, eos_ids=eos_ids)


def _word(number: int) -> bytes:
    """A space and a number written in syllables, so that different numbers are different words."""
    text = ""
    while number or not text:
        number, digit = divmod(number, len(SYLLABLES))
        text += SYLLABLES[digit]
    return b" " + text.encode()
