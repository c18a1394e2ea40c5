"""Tokenizers from the metadata of GGUF files against the libraries that they come from: every way of splitting text,
SentencePiece pieces, real vocabularies where they are here, ends, begin tokens and templates."""

import json

import numpy as np
import pytest
import sentencepiece
import tokenizers
from checkpoints import SHARED
from gguf_files import byte_level, tokenizer_keys
from hypothesis import given, settings
from tokenizer_kinds import CORPUS, KINDS, TEXTS, split_by, train
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from llama_core.runtime.files import ModelFileError
from llama_core.tokenizer.gguf_vocabulary import SPLITTINGS, gguf_template, gguf_tokenizer, gguf_tool_template
from llama_core.tokenizer.template_process import ChatError

# By `tokenizer.ggml.pre`: a tokenizer of the Hub that splits text in this way.
BYTE_LEVEL = {
    "gpt-2": KINDS["GPT-2"],
    "smollm": KINDS["SmolLM2: digits"],
    "llama-bpe": KINDS["Llama 3"],
    "llama-v3": KINDS["ignore_merges, but not all of them"],
    "smaug-bpe": lambda: train(split_by(GGUF_PRE_TOKENIZER_SPLITS["smaug-bpe"])),
    "qwen2": KINDS["Qwen2"],
    "tekken": lambda: train(split_by(GGUF_PRE_TOKENIZER_SPLITS["tekken"]), ignore_merges=True),
}


def tokenizer_of(keys):
    tokenizer, notes = gguf_tokenizer("x.gguf", as_read(keys))
    assert notes == ()
    return tokenizer


def as_read(keys):
    """The values as the reader of files gives them: numbers are arrays."""
    is_numbers = {key: isinstance(value, list) and not isinstance(value[0], str) for key, value in keys.items()}
    return {key: np.array(value) if is_numbers[key] else value for key, value in keys.items() if value is not None}


def byte_level_keys(library, pre="gpt-2", **changes):
    return tokenizer_keys(library, None, pre) | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


@pytest.fixture(scope="module", params=BYTE_LEVEL)
def pair(request):
    """Our tokenizer from metadata, and the library's of the `tokenizer.json` that the metadata was made from."""
    values = BYTE_LEVEL[request.param]()
    return tokenizer_of(byte_level_keys(values, request.param)), tokenizers.Tokenizer.from_str(json.dumps(values))


@given(text=TEXTS)
@settings(max_examples=80, deadline=None)
def test_ids_are_those_of_the_tokenizer_on_the_hub(pair, text):
    ours, theirs = pair
    theirs.encode_special_tokens = True  # typed markers are text
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    theirs.encode_special_tokens = False
    assert ours.encode_template(text) == theirs.encode(text, add_special_tokens=False).ids


PIECES = {
    "as Llama 2": ({"remove_extra_whitespaces": False}, {}),
    "no space in front": (
        {"remove_extra_whitespaces": False, "add_dummy_prefix": False},
        {"tokenizer.ggml.add_space_prefix": False},
    ),
    "extra spaces removed": ({"remove_extra_whitespaces": True}, {"tokenizer.ggml.remove_extra_whitespaces": True}),
}


@pytest.fixture(scope="module", params=PIECES)
def pieces_pair(request, tmp_path_factory):
    options, keys = PIECES[request.param]
    prefix = str(tmp_path_factory.mktemp("sp") / "sp")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_prefix=prefix,
        vocab_size=310,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        minloglevel=2,
        **options,
    )
    theirs = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    return tokenizer_of(piece_keys(theirs) | keys), theirs


def piece_keys(theirs):
    """As llama.cpp's converter writes the pieces of a SentencePiece model."""
    ids = range(theirs.vocab_size())
    kinds = [2 if theirs.is_unknown(i) else 3 if theirs.is_control(i) else 6 if theirs.is_byte(i) else 1 for i in ids]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [theirs.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": [theirs.get_score(i) for i in ids],
        "tokenizer.ggml.token_type": kinds,
    }


@given(text=TEXTS.filter(lambda text: "\x00" not in text))
@settings(max_examples=80, deadline=None)
def test_ids_are_those_of_sentencepiece(pieces_pair, text):
    ours, theirs = pieces_pair
    assert ours.encode(text) == theirs.encode(text)


def test_a_sentencepiece_vocabulary_has_its_usual_ids_and_begins_texts(pieces_pair):
    """Where no key says otherwise, as in old files."""
    ours, theirs = pieces_pair
    assert (ours.bos_id, ours.eos_ids, ours.begins_with_bos) == (1, (2,), True)
    assert ours.decode(theirs.encode("the cat")) == "the cat"


REAL_TEXTS = [
    "Hello world 1234",
    " don't  WE'LL\n\n",
    "naïve café 日本語 🙂👩‍👩‍👧",
    "नमस्ते العربية привет",
    "\t x=3;\r\n",
    "<|eot_id|>",
]


def test_llama3s_vocabulary_gives_its_ids():
    folder = SHARED / "tokenizers" / "llama3-hf"
    if not folder.is_dir():
        pytest.skip("Llama 3's tokenizer is not here")
    values = json.loads((folder / "tokenizer.json").read_text())
    ours = tokenizer_of(byte_level_keys(values, "llama-bpe", bos_token_id=128000, eos_token_id=128009))
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.encode_special_tokens = True
    for text in REAL_TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    assert ours.begins_with_bos and ours.special_tokens["<|begin_of_text|>"] == 128000


def test_llama2s_vocabulary_gives_its_ids():
    path = SHARED / "tokenizers" / "llama2" / "tokenizer.model"
    if not path.is_file():
        pytest.skip("Llama 2's tokenizer is not here")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
    ours = tokenizer_of(piece_keys(theirs))
    for text in REAL_TEXTS:
        assert ours.encode(text) == theirs.encode(text)


def test_every_name_of_a_splitting_gives_a_tokenizer():
    for pre in SPLITTINGS:
        assert tokenizer_of(byte_level_keys(byte_level(), pre)).encode("th") == [259], pre


@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        ({}, (1,)),
        ({"eos_token_id": None}, ()),
        ({"eot_token_id": 2}, (1, 2)),
        ({"eom_token_id": 2, "eos_token_id": None}, (2,)),
        ({"eos_token_id": 2**32 - 1}, ()),  # what llama.cpp writes for none
    ],
)
def test_every_end_that_a_key_names_is_an_end(changes, ends):
    assert tokenizer_of(byte_level_keys(byte_level(), **changes)).eos_ids == ends


def test_a_token_that_is_spelled_like_an_end_of_turn_is_one_and_is_no_text():
    """Also where the file calls it a normal token, as some do."""
    for kind in (1, 3, 4):
        keys = byte_level_keys(byte_level())
        keys["tokenizer.ggml.tokens"][2], keys["tokenizer.ggml.token_type"][2] = "<|im_end|>", kind
        ours = tokenizer_of(keys)
        assert ours.eos_ids == (1, 2) and 2 not in ours.encode("<|im_end|>")
        assert ours.encode_template("<|im_end|>") == [2] and ours.decode([2]) == ""


def test_words_that_were_added_to_the_vocabulary_are_found_in_text_and_markers_are_not():
    keys = byte_level_keys(byte_level())
    keys["tokenizer.ggml.tokens"] += ["thing", "<think>"]
    keys["tokenizer.ggml.token_type"] += [4, 4]
    ours = tokenizer_of(keys)
    assert ours.encode("thing") == [260] and ours.decode([260, 261]) == "thing<think>"
    assert 261 not in ours.encode("<think>") and ours.encode_template("<think>") == [261]


def test_padding_is_no_token():
    keys = byte_level_keys(byte_level())
    keys["tokenizer.ggml.tokens"] += ["[PAD260]"]
    keys["tokenizer.ggml.token_type"] += [5]
    ours = tokenizer_of(keys)
    assert 260 not in ours.encode("[PAD260]") and "[PAD260]" not in ours.special_tokens


@pytest.mark.parametrize(
    ("pre", "changes", "expected"),
    [
        ("gpt-2", {}, False),
        ("gpt-2", {"add_bos_token": True}, True),
        ("llama-bpe", {}, True),
        ("llama-bpe", {"add_bos_token": False}, False),
        ("tekken", {"bos_token_id": None}, False),
    ],
)
def test_a_text_begins_with_the_begin_token_where_the_file_or_its_kind_says_so(pre, changes, expected):
    assert tokenizer_of(byte_level_keys(byte_level(), pre, **changes)).begins_with_bos is expected


def test_an_id_outside_of_the_vocabulary_is_ignored_with_a_note():
    keys = byte_level_keys(byte_level(), eot_token_id=10**6)
    ours, notes = gguf_tokenizer("x.gguf", as_read(keys))
    assert ours.eos_ids == (1,)
    assert notes == ("x.gguf: tokenizer.ggml.eot_token_id 1000000 is ignored; expected a whole number from 0 to 259",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "t5"}, "the tokenizer 't5' is not supported, expected gpt2 or llama"),
        ({"model": None}, "the tokenizer 'None' is not supported"),
        ({"pre": "gemma-9"}, "splits text in the way 'gemma-9', which is not known; expected one of default, gpt-2"),
        ({"tokens": None}, "tokenizer.ggml.tokens is missing"),
        ({"merges": None}, "tokenizer.ggml.merges is missing"),
        ({"merges": ["t h", "a b c"]}, "is not a tokenizer that can be used"),
        ({"merges": ["t zzz"]}, "is not a tokenizer that can be used"),
        ({"token_type": [1, 1]}, "tokenizer.ggml.token_type has 2 numbers for 260 tokens"),
        ({"model": "llama", "scores": [1.0]}, "tokenizer.ggml.scores has 1 numbers for 260 tokens"),
        ({"model": "llama", "scores": [float("nan")] * 260}, "tokenizer.ggml.scores holds NaN"),
        ({"model": "llama", "tokens": ["a" * 20000], "scores": [0.0], "token_type": [1]}, "too long to search"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(changes, words):
    keys = byte_level_keys(byte_level(), **changes)
    with pytest.raises(ModelFileError, match="x.gguf.*" + words) as refusal:
        gguf_tokenizer("x.gguf", as_read(keys))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, None),
        ({"": "a"}, "a"),
        ({"": "  "}, None),
        ({"": "a", ".rag": "b"}, "a"),
        ({".tool_use": "b", ".short": "c"}, "c"),
        ({".rag": "b", ".default": "c"}, "c"),
    ],
)
def test_of_named_templates_the_one_for_plain_chat_is_taken(keys, expected):
    assert gguf_template({f"tokenizer.chat_template{name}": value for name, value in keys.items()}) == expected


def test_a_template_that_is_no_text_is_refused():
    with pytest.raises(ChatError, match="tokenizer.chat_template is a int, expected text"):
        gguf_template({"tokenizer.chat_template": 3})


def test_a_template_for_tools_is_found_beside_the_one_for_chat():
    assert gguf_tool_template({"tokenizer.chat_template": "C", "tokenizer.chat_template.tool_use": "T"}) == "T"
    assert gguf_tool_template({"tokenizer.chat_template": "C"}) is None
