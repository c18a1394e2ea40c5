"""Tokenizer files of every kind in small, trained here by the libraries that define them, and texts to try on them."""

import json

import tokenizers
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from llama_core.tokenizer.tiktoken_ranks import LLAMA3_PATTERN

CORPUS = ["the cat sat on the mat", "the hat of the cat", "that is that, 1234 is not 12", "def f(x):\n    return x"] * 3
SPECIAL = ["<|begin|>", "<|end|>"]
# huggingface.co/Qwen/Qwen2.5-0.5B, tokenizer.json
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
FRAGMENTS = [
    "the cat",
    " that",
    "  ",
    "\n\n",
    "\t",
    "\r\n",
    " \n ",
    "1234567",
    "x=3;",
    "don't",
    "WE'LL",
    "日本語",
    "नमस्ते",
    "العربية",
    "привет",
    "ไทย",
    "🙂",
    "👩‍👩‍👧",
    "é",
    "e\u0301",
    "ﬁ",
    "\u200b",
    "\u3000",
    "𝔘",
    "<|end|>",
    "<s>",
    "</s>",
    "▁",
    "if (a < b) {",
    "    return x",
    "[/INST]",
    "\x00",
    "\ufeff",
    "ſ",
    "K",
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=8).map("".join)


def split_by(pattern):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def train(pre, normalizer=None, decoder=None, **model):
    library = tokenizers.Tokenizer(models.BPE(**model))
    library.pre_tokenizer, library.decoder = pre, decoder or decoders.ByteLevel()
    if normalizer is not None:
        library.normalizer = normalizer
    byte_level = decoder is None
    fallback = [f"<0x{byte:02X}>" for byte in range(256)] if model.get("byte_fallback") else []
    library.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=len(fallback) + 340 * byte_level + 60,
            special_tokens=SPECIAL + fallback,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if byte_level else [],
        ),
    )
    return json.loads(library.to_str())


def without_fallback_bytes_as_added(values):
    """In real files the 256 byte tokens are in the vocabulary alone."""
    return {**values, "added_tokens": [row for row in values["added_tokens"] if row["content"] in SPECIAL]}


def with_all_merges(values):
    """As Meta's vocabulary is converted: every pair that makes a token may merge."""
    vocabulary = values["model"]["vocab"]
    pieces = sorted((piece for piece in vocabulary if piece not in SPECIAL), key=vocabulary.get)
    halves = ([piece[:i], piece[i:]] for piece in pieces for i in range(1, len(piece)))
    merges = [pair for pair in halves if pair[0] in vocabulary and pair[1] in vocabulary]
    return {**values, "model": {**values["model"], "merges": merges, "ignore_merges": True}}


def with_merges_as_strings(values):
    merges = [" ".join(pair) for pair in values["model"]["merges"]]
    return {**values, "model": {**values["model"], "merges": merges}}


SPACES = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
SP_DECODER = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
)
KINDS = {
    "GPT-2": lambda: train(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "prefix space": lambda: train(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "Llama 3": lambda: with_all_merges(train(split_by(LLAMA3_PATTERN))),
    "Llama 3, merges as strings": lambda: with_merges_as_strings(with_all_merges(train(split_by(LLAMA3_PATTERN)))),
    "ignore_merges, but not all of them": lambda: train(split_by(LLAMA3_PATTERN), ignore_merges=True),
    "Qwen2": lambda: train(split_by(QWEN_PATTERN), normalizers.NFC()),
    "SmolLM2: digits": lambda: train(
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    ),
    "Llama 2: prepend": lambda: without_fallback_bytes_as_added(
        train(None, SPACES, SP_DECODER, byte_fallback=True, unk_token="<|end|>", fuse_unk=True)
    ),
    **{
        f"metaspace {scheme}": lambda scheme=scheme: without_fallback_bytes_as_added(
            train(
                pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False),
                None,
                decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
                byte_fallback=True,
            )
        )
        for scheme in ("always", "first", "never")
    },
}
