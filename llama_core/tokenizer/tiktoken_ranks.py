"""Byte-level BPE by tiktoken for any vocabulary, and Meta's `tokenizer.model` of Llama 3, which is a list of ranks."""

import base64
import binascii
import re
from dataclasses import replace

import tiktoken

from llama_core.tokenizer.rust_panics import translate_panics
from llama_core.tokenizer.tokenizer import Tokenizer

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# tiktoken needs quadratic time for a long run of letters or spaces, and its pattern engine fails on longer texts
# (meta-llama/llama-models, models/llama3/tokenizer.py, where these two numbers come from).
MAX_RUN, MAX_TEXT = 25_000, 400_000
# The largest vocabularies have 262144 tokens. A table up to this id takes 16 MB.
MAX_TOKEN_ID = 2 * 1024**2
_RUN = re.compile(r"\S+|\s+")
_LONG_RUN = re.compile(rf"\S{{1,{MAX_RUN}}}|\s{{1,{MAX_RUN}}}")

# Llama 3 has 256 special tokens after its 128000 ranks. These have names; keys count from the first special token
# (meta-llama/llama-models, models/llama3/tokenizer.py).
_LLAMA3_NAMED = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    4: "<|finetune_right_pad_id|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    8: "<|eom_id|>",
    9: "<|eot_id|>",
    10: "<|python_tag|>",
}


def parse_ranks(data: bytes) -> dict[bytes, int] | None:
    """Token → rank, from lines that hold a token in base64 and its rank; None for a file of another form."""
    try:
        rows = [line.split() for line in data.splitlines() if line]
        return {base64.b64decode(token, validate=True): int(rank) for token, rank in rows}
    except (ValueError, binascii.Error):
        return None


def has_all_bytes(ranks: dict[bytes, int]) -> bool:
    """Whether every text can be encoded; tiktoken panics at a byte that has no token."""
    return all(bytes([byte]) in ranks for byte in range(256))


def meta_tokenizer(ranks: dict[bytes, int]) -> Tokenizer:
    """Llama 3's tokenizer: its ranks, then its 256 special tokens.

    Raises `ValueError` for ranks that tiktoken cannot use.
    """
    if not has_all_bytes(ranks):
        raise ValueError("some of the 256 bytes have no rank")
    first, unnamed = len(ranks), 0
    special = {}
    for i in range(256):
        if i in _LLAMA3_NAMED:
            special[_LLAMA3_NAMED[i]] = first + i
        else:
            special[f"<|reserved_special_token_{unnamed}|>"] = first + i
            unnamed += 1
    ends = tuple(special[name] for name in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"))
    return replace(byte_level_tokenizer(LLAMA3_PATTERN, ranks, special), bos_id=first, eos_ids=ends)


def byte_level_tokenizer(
    pattern: str, ranks: dict[bytes, int], special: dict[str, int], visible: dict[int, bytes] | None = None
) -> Tokenizer:
    """Byte-level BPE by tiktoken. The rank of a token is its id, and of two possible merges the lower rank goes first.

    Special tokens decode to nothing, except for those in `visible`. Raises `ValueError` for two tokens with one rank.
    """
    tokens = {rank: token for token, rank in ranks.items()}
    if len(tokens) != len(ranks):
        raise ValueError(f"{len(ranks)} tokens have {len(tokens)} ranks, expected one rank per token")
    token_bytes = token_table(tokens, special, visible or {})
    encoding = tiktoken.Encoding("llama", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)

    def encode(text: str, is_start: bool) -> list[int]:
        with translate_panics("the tokenizer failed on a text"):
            return [token_id for part in _split_long_text(text) for token_id in encoding.encode_ordinary(part)]

    return Tokenizer(encode, token_bytes, special)


def token_table(tokens: dict[int, bytes], special: dict[str, int], visible: dict[int, bytes]) -> list[bytes]:
    """What each id decodes to: nothing for special tokens (unless `visible` has them) and for unused ids.

    Raises `ValueError` for ids below 0 or above `MAX_TOKEN_ID`, before memory is taken for them.
    """
    ids = [*tokens, *special.values(), *visible]
    for token_id in (min(ids, default=0), max(ids, default=0)):
        if not 0 <= token_id <= MAX_TOKEN_ID:
            raise ValueError(f"a token has the id {token_id}, expected 0 to {MAX_TOKEN_ID}")
    table = [b""] * (1 + max(ids, default=-1))
    for token_id, token in {**tokens, **dict.fromkeys(special.values(), b""), **visible}.items():
        table[token_id] = token
    return table


def _split_long_text(text: str) -> list[str]:
    """The text in parts that tiktoken can take, cut between runs of letters and of spaces; nearly always one."""
    if len(text) <= MAX_RUN:
        return [text]
    # A run of more than MAX_RUN covers two of these places.
    step = MAX_RUN // 2
    is_long = any(_RUN.match(text, at).end() - at >= step for at in range(0, len(text), step))  # type: ignore[union-attr]
    return _cut_long_runs(text) if is_long else _cut_between_runs(text)


def _cut_between_runs(text: str) -> list[str]:
    parts, begin = [], 0
    while begin < len(text):
        end = begin + MAX_TEXT
        while end < len(text) and text[end - 1].isspace() == text[end].isspace():
            end -= 1
        parts.append(text[begin:end])
        begin = end
    return parts


def _cut_long_runs(text: str) -> list[str]:
    parts, begin, before = [], 0, 0  # where the part begins, and the last run
    for run in _LONG_RUN.finditer(text):
        start, end = run.span()
        is_same_run = start - before == MAX_RUN and text[start - 1].isspace() == text[start].isspace()
        if is_same_run or end - begin > MAX_TEXT:
            parts.append(text[begin:start])
            begin = start
        before = start
    return [*parts, text[begin:]]
