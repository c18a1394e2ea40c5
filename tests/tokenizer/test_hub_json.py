"""`tokenizer.json` files of every kind, and two real ones, against the library that defines them."""

import json
import unicodedata

import pytest
import tokenizers
from checkpoints import SHARED
from hypothesis import given, settings
from tokenizer_kinds import KINDS, TEXTS, split_by, train, with_all_merges

from llama_core.tokenizer import load_tokenizer
from llama_core.tokenizer.hub_rules import merges_as_tiktoken
from llama_core.tokenizer.tiktoken_ranks import LLAMA3_PATTERN


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """Our tokenizer and the library's, of the same file."""
    path = tmp_path_factory.mktemp("kind") / "tokenizer.json"
    path.write_text(json.dumps(KINDS[request.param]()))
    return request.param, load_tokenizer(path), tokenizers.Tokenizer.from_file(str(path))


@given(text=TEXTS)
@settings(max_examples=80, deadline=None)
def test_ids_are_those_of_tokenizers(pair, text):
    _, ours, theirs = pair
    theirs.encode_special_tokens = True  # typed markers are text
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    theirs.encode_special_tokens = False
    assert ours.encode_template(text) == theirs.encode(text, add_special_tokens=False).ids


@given(text=TEXTS)
@settings(max_examples=40, deadline=None)
def test_streams_join_to_the_text(pair, text):
    name, ours, _ = pair
    if ("▁" in text and ours.encode("▁") == ours.encode(" ")) or "�" in text:
        return  # SentencePiece spells the space so
    stream = ours.stream()
    pieces = [stream.push(token_id) for token_id in ours.encode(text)] + [stream.flush()]
    expected = unicodedata.normalize("NFC", text) if name == "Qwen2" else text
    leading = "" if ours.adds_leading_space else " "
    assert "".join(pieces).removeprefix(leading) == expected.removeprefix(leading)
    assert not any("�" in piece for piece in pieces)


def test_two_neighbours_that_make_a_token_merge_only_where_the_file_says_so(tmp_path):
    """tiktoken would join "a" and "bc"; the file knows "ab" + "c" alone."""
    values = train(split_by(LLAMA3_PATTERN), ignore_merges=True)
    letters = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
    values["model"] |= {
        "vocab": {**letters, "bc": 26, "ab": 27, "abc": 28},
        "merges": [["b", "c"], ["a", "b"], ["ab", "c"]],
    }
    values["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    ours, theirs = load_tokenizer(tmp_path / "tokenizer.json"), tokenizers.Tokenizer.from_str(json.dumps(values))
    assert ours.encode("xabc") == theirs.encode("xabc").ids == [23, 0, 26]


def both(tmp_path, values):
    """Our tokenizer and the library's, of the same content."""
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    return load_tokenizer(tmp_path / "tokenizer.json"), tokenizers.Tokenizer.from_str(json.dumps(values))


def test_text_that_the_split_pattern_leaves_out_is_not_dropped(tmp_path):
    ours, theirs = both(tmp_path, with_all_merges(train(split_by(r"\p{L}+"))))
    assert ours.encode("the cat, 12!") == theirs.encode("the cat, 12!").ids
    assert ours.decode(ours.encode("the cat, 12!")) == "the cat, 12!"


def test_bytes_without_a_token_do_no_harm(tmp_path):
    values = with_all_merges(train(split_by(LLAMA3_PATTERN)))
    del values["model"]["vocab"]["#"]
    ours, theirs = both(tmp_path, values)
    assert ours.encode("a#b") == theirs.encode("a#b").ids


def test_a_long_piece_is_not_cut_at_each_of_its_letters(tmp_path):
    """That would take quadratic time."""
    cuts = []

    class Piece(str):
        def __getitem__(self, which):
            cuts.append(which)
            return super().__getitem__(which)

    values = with_all_merges(train(split_by(LLAMA3_PATTERN)))
    values["model"]["vocab"][Piece("x" * 100_000)] = len(values["model"]["vocab"])
    assert not merges_as_tiktoken(values["model"]) and cuts == []
    ours, _ = both(tmp_path, values)
    assert ours.decode(ours.encode("the cat")) == "the cat"


@pytest.mark.parametrize("kind", ["metaspace first", "metaspace always", "metaspace never"])
def test_a_leading_space_goes_where_metaspace_puts_it_within_a_sequence_too(tmp_path, kind):
    values = KINDS[kind]()
    digits = {"type": "Digits", "individual_digits": True}
    values["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [values["pre_tokenizer"], digits]}
    ours, theirs = both(tmp_path, values)
    for text in ("the cat<|end|>that 12<|begin|><|end|> mat", "<|begin|>the cat"):
        assert ours.encode_template(text) == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", ["llama3-hf", "llama2-hf"])
@given(text=TEXTS)
@settings(max_examples=100, deadline=None)
def test_ids_of_real_vocabularies_are_those_of_tokenizers(real, name, text):
    ours, theirs = real(name)
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


@pytest.fixture(scope="module")
def real():
    made = {}

    def get(name):
        path = SHARED / "tokenizers" / name / "tokenizer.json"
        if not path.is_file():
            pytest.skip(f"{name} is not here")
        if name not in made:
            made[name] = load_tokenizer(path), tokenizers.Tokenizer.from_file(str(path))
            made[name][1].encode_special_tokens = True
        return made[name]

    return get
