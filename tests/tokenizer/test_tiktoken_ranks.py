"""Meta's `tokenizer.model`, made here and the real one, against tiktoken put together as Meta's code does."""

import base64

import pytest
import tiktoken
from checkpoints import SHARED
from hypothesis import given, settings
from tokenizer_kinds import TEXTS

from llama_core.tokenizer import load_tokenizer

# meta-llama/llama-models, models/llama3/tokenizer.py
META_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|"
    r"\s+"
)


@pytest.fixture(scope="module", params=["made here", "Meta's own"])
def meta_pair(request, tmp_path_factory):
    """Our tokenizer of a `tokenizer.model` in Meta's format, and tiktoken put together as Meta's code does."""
    path = SHARED / "tokenizers/llama3/tokenizer.model"
    if request.param == "made here":
        words = [bytes([byte]) for byte in range(256)] + [b" t", b"th", b" th", b" the", b"at", b"cat", b" cat"]
        path = tmp_path_factory.mktemp("meta") / "tokenizer.model"
        path.write_bytes(b"".join(base64.b64encode(word) + b" %d\n" % i for i, word in enumerate(words)))
    elif not path.is_file():
        pytest.skip("llama3 is not here")
    rows = [line.split() for line in path.read_bytes().splitlines()]
    ranks = {base64.b64decode(word): int(rank) for word, rank in rows}
    return load_tokenizer(path), tiktoken.Encoding(
        "meta", pat_str=META_PATTERN, mergeable_ranks=ranks, special_tokens={}
    )


@given(text=TEXTS)
@settings(max_examples=100, deadline=None)
def test_ids_are_those_of_tiktoken_with_metas_pattern(meta_pair, text):
    ours, theirs = meta_pair
    assert ours.encode(text) == theirs.encode(text, disallowed_special=())
