"""Added tokens of a `tokenizer.json`: their flags, and which of them typed text and replies may hold."""

import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_kinds import KINDS
from tokenizers import AddedToken

from llama_core.tokenizer import load_tokenizer

ADDED = [
    AddedToken("<|left|>", lstrip=True, special=True),
    AddedToken("<|right|>", rstrip=True, special=True),
    AddedToken("<|word|>", single_word=True, special=True),
    AddedToken("<|both|>", lstrip=True, rstrip=True, special=True),
    AddedToken("<think>", special=False, normalized=False),
    AddedToken("catnip", special=False, normalized=False),
    AddedToken("whole", special=False, single_word=True, normalized=False),
]


@pytest.fixture(scope="module", params=["GPT-2", "Llama 3", "Llama 2: prepend"])
def with_added(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("added") / "tokenizer.json"
    library = tokenizers.Tokenizer.from_str(json.dumps(KINDS[request.param]()))
    library.add_tokens(ADDED)
    library.save(str(path))
    return load_tokenizer(path), tokenizers.Tokenizer.from_file(str(path))


BESIDE = [" ", "\n\n", "a", "the cat", "_", "é", "."]


@given(parts=st.lists(st.sampled_from([*(token.content for token in ADDED), *BESIDE]), max_size=10))
@settings(max_examples=100, deadline=None)
def test_added_tokens_keep_their_flags_in_templates(with_added, parts):
    ours, theirs = with_added
    assert ours.encode_template("".join(parts)) == theirs.encode("".join(parts), add_special_tokens=False).ids


def test_typed_markers_stay_text_also_those_that_are_not_called_special(with_added):
    ours, theirs = with_added
    for marker in ("<|left|>", "<think>", "<|word|>"):
        assert theirs.token_to_id(marker) not in ours.encode(f"a {marker} b")
        assert ours.decode(ours.encode(f"a {marker} b")) == f"a {marker} b"
    # A word that was added to the language is no marker.
    assert theirs.token_to_id("catnip") in ours.encode("the catnip")


def test_replies_show_added_tokens_that_are_not_special(with_added):
    """The thoughts of a reasoning model end with a marker that must be seen."""
    ours, theirs = with_added
    ids = [theirs.token_to_id(token.content) for token in ADDED]
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True).replace(" ", "") == "<think>catnipwhole"
