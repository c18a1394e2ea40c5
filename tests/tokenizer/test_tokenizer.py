"""Tokenizers against transformers and sentencepiece, on real files where they are here and on our own ones always."""

import base64
import functools
import json
import tracemalloc
from dataclasses import replace

import pytest
import sentencepiece
import tokenizers
import transformers
from checkpoints import SHARED, SPECIAL, STORIES, write_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.runtime.files import ModelFileError
from llama_core.tokenizer import load_tokenizer
from llama_core.tokenizer.random_words import random_tokenizer
from llama_core.tokenizer.tiktoken_ranks import LLAMA3_PATTERN, byte_level_tokenizer

TEXTS = [
    "Hello world",
    "  two  spaces ",
    "",
    "a",
    "\n\nHi\n",
    "naïve café 日本語 🙂👩‍👩‍👧",
    "1234567 x=3;",
    "don't WE'LL",
    "\t tab\r\n",
    "zero\u200bwidth 𝔘",
    " ",
    "the cat that sat",
]
MARKERS = ["<|eot_id|>", "<|begin_of_text|>", "<s>", "</s>", "<unk>", *SPECIAL, "<|end_of_text_0|>", "<|python_tag|>"]


@pytest.fixture(scope="module")
def own_files(tmp_path_factory):
    """A byte-level file with merges and a SentencePiece model, made here."""
    folder = tmp_path_factory.mktemp("tokenizers")
    write_tokenizer(folder)
    corpus = folder / "corpus.txt"
    corpus.write_text("the cat sat on the mat\nthat hat is the hat of the cat\n" * 50)
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "sp"),
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return {"byte-level": folder / "tokenizer.json", "sentencepiece": folder / "sp.model"}


REAL = {
    "llama3": "tokenizers/llama3/tokenizer.model",
    "llama3-hf": "tokenizers/llama3-hf/tokenizer.json",
    "llama2": "tokenizers/llama2/tokenizer.model",
    "llama2-hf": "tokenizers/llama2-hf/tokenizer.json",
    "stories": "models/stories260K/tokenizer.json",
}


@pytest.fixture(scope="module")
def load(own_files):
    """Tokenizers by their names, each read once (the real ones take seconds), and their files."""

    @functools.cache
    def load_(name):
        path = own_files.get(name) or SHARED / REAL[name]
        if not path.is_file():
            pytest.skip(f"{name} is not here")
        return load_tokenizer(path), path

    return load_


@pytest.fixture(scope="module", params=["byte-level", "sentencepiece", "random", *REAL])
def named(request, load):
    """Each tokenizer with its name."""
    name = request.param
    return name, random_tokenizer(1000, 998, (999,)) if name == "random" else load(name)[0]


def test_text_survives(named):
    for text in TEXTS:
        assert named[1].decode(named[1].encode(text)) == text


@given(text=st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_text_survives_and_streams_without_half_characters(named, text):
    tokenizer = named[1]
    if "▁" in text and tokenizer.adds_leading_space:
        return  # SentencePiece spells the space so: the two cannot be told apart
    ids = tokenizer.encode(text)
    stream = tokenizer.stream()
    pieces = [stream.push(token_id) for token_id in ids] + [stream.flush()]
    assert "".join(pieces) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)
    later = tokenizer.stream(is_start=False)
    going_on = "".join([*(later.push(token_id) for token_id in ids), later.flush()])
    assert going_on in ([f" {text}"] if tokenizer.adds_leading_space and ids else [text])


def test_typed_markers_stay_text(named):
    tokenizer = named[1]
    for marker in [*MARKERS, *tokenizer.special_tokens]:
        text = f"a {marker} b{marker}"
        ids = tokenizer.encode(text)
        assert not set(ids) & set(tokenizer.special_tokens.values())
        assert tokenizer.decode(ids) == text


def test_markers_of_a_template_are_special_and_shielded_ones_are_not(named):
    tokenizer = named[1]
    for marker, token_id in list(tokenizer.special_tokens.items())[:12]:
        ids = tokenizer.encode_template(marker + "x" + tokenizer.shield(marker) + "y" + marker)
        assert ids[0] == ids[-1] == token_id
        assert not set(ids[1:-1]) & set(tokenizer.special_tokens.values())
        assert marker in tokenizer.decode(ids)


def test_invalid_utf8_becomes_replacement_characters(named):
    tokenizer = named[1]
    byte_ids = {tokenizer.token_bytes[i]: i for i in range(tokenizer.vocab_size)}
    broken = [byte_ids[b"\xf0"], byte_ids[b"\x9f"], byte_ids[b"\x99"]]
    stream = tokenizer.stream()
    assert [stream.push(token_id) for token_id in broken] == ["", "", ""]
    assert stream.flush() == "\ufffd"


def test_long_runs_do_not_take_forever(named):
    for text in ("a" * 30_000, "ab c" * 7_500, " " * 12_500 + "end"):
        assert named[1].decode(named[1].encode(text)) == text


def test_begin_of_text_is_put_only_when_asked_for(named):
    tokenizer = named[1]
    if tokenizer.bos_id is None:
        with pytest.raises(ModelFileError, match="no begin-of-text"):
            tokenizer.encode("a", bos=True)
    else:
        assert tokenizer.encode("a", bos=True) == [tokenizer.bos_id, *tokenizer.encode("a")]


@pytest.mark.parametrize("name", ["byte-level", "llama3", "llama3-hf", "llama2-hf", "stories"])
def test_ids_are_those_of_transformers(name, load):
    ours, path = load(name)
    reference = SHARED / REAL["llama3-hf"] if name == "llama3" else path
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(reference))
    assert theirs.get_added_vocab() == ours.special_tokens
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False), text
    template = "".join(f"{marker}\n\nthe cat {marker}" for marker in list(ours.special_tokens)[:10])
    assert ours.encode_template(template) == theirs.encode(template, add_special_tokens=False)


@pytest.mark.parametrize("name", ["sentencepiece", "llama2"])
def test_ids_are_those_of_sentencepiece(name, load):
    ours, path = load(name)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
    assert (ours.bos_id, ours.eos_ids) == (theirs.bos_id(), (theirs.eos_id(),))
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text), text


def test_extra_spaces_go_where_the_model_says_so():
    if not STORIES.is_dir():
        pytest.skip("stories260K is not here")
    ours = load_tokenizer(STORIES / "tokenizer.model")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(STORIES / "tokenizer.model"))
    for text in ("a  b", " a b ", "Once   upon"):
        assert ours.encode(text) == theirs.encode(text)


def test_what_tiktoken_cannot_express_runs_on_the_tokenizers_library(tmp_path):
    """Digits one by one before the GPT-2 pattern, as in SmolLM2."""
    write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    values = json.loads(path.read_text())
    values["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, values["pre_tokenizer"]],
    }
    path.write_text(json.dumps(values))
    ours, theirs = load_tokenizer(path), tokenizers.Tokenizer.from_file(str(path))
    for text in [*TEXTS, "in 1234 days"]:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
        assert ours.decode(ours.encode(text)) == text


def test_half_characters_from_json_do_no_harm(named):
    assert named[1].decode(named[1].encode("a\ud83d b")) == "a\ufffd b"


def test_words_of_random_models_are_all_different():
    words = random_tokenizer(128256, 128000, (128001,)).token_bytes
    assert len({word for word in words if word}) == 128254


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.json", b"{", "not valid JSON"),
        ("tokenizer.json", b"[]", "expected an object"),
        ("tokenizer.json", b'{"model": {"type": "Unigram", "vocab": []}}', "'Unigram', expected a BPE"),
        ("tokenizer.json", b'{"model": {"type": "BPE", "vocab": {"a": "x"}}}', "download it again"),
        ("tokenizer.json", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("tokenizer.model", b"\x80\x04\x95junk", "neither tiktoken ranks nor a SentencePiece"),
        ("tokenizer.model", b"", "neither"),
        ("tokenizer.model", base64.b64encode(b"a") + b" zero\n", "neither"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=words) as refusal:
        load_tokenizer(tmp_path / name)
    assert name in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_unknown_ids_are_refused():
    tokenizer = byte_level_tokenizer(LLAMA3_PATTERN, {bytes([i]): i for i in range(256)}, {})
    with pytest.raises(ModelFileError, match="token id 256"):
        tokenizer.decode([256])


def test_the_padding_of_a_models_vocabulary_decodes_to_nothing():
    tokenizer = byte_level_tokenizer(LLAMA3_PATTERN, {bytes([i]): i for i in range(256)}, {})
    padded = replace(tokenizer, model_vocab_size=300)
    assert padded.vocab_size == 256 and padded.decode([97, 299, 98, 256]) == "ab"
    for token_id in (300, -1):
        with pytest.raises(ModelFileError, match=f"token id {token_id} is not in the vocabulary of 300"):
            padded.stream().push(token_id)


def test_a_stop_text_that_names_a_special_token_has_its_id(named):
    tokenizer = named[1]
    for marker, token_id in list(tokenizer.special_tokens.items())[:5]:
        assert tokenizer.special_id(marker) == tokenizer.special_id(f" {marker}\n") == token_id
    assert tokenizer.special_id("END") is None and tokenizer.special_id("") is None


def ranks_file(folder, rows):
    path = folder / "tokenizer.model"
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in rows))
    return path


BYTES = [(bytes([i]), i) for i in range(256)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([*BYTES, (b"ab", 7)], "257 tokens have 256 ranks"),
        ([*BYTES, (b"ab", 10**8)], "id 100000000"),
        ([*BYTES, (b"ab", -1)], "id -1"),
        (BYTES[1:], "some of the 256 bytes have no rank"),
    ],
)
def test_ranks_that_tiktoken_panics_at_are_refused_by_name(tmp_path, rows, words):
    with pytest.raises(ModelFileError, match=words) as refusal:
        load_tokenizer(ranks_file(tmp_path, rows))
    assert "tokenizer.model" in str(refusal.value)


def test_a_panic_of_a_library_is_an_error_of_ours():
    tokenizer = byte_level_tokenizer(LLAMA3_PATTERN, {b"a": 0}, {})
    with pytest.raises(ModelFileError, match="the tokenizer failed on a text"):
        tokenizer.encode("b")


@pytest.mark.parametrize("place", ["added_tokens", "vocab"])
def test_an_absurd_id_is_refused_before_memory_is_taken(tmp_path, place):
    write_tokenizer(tmp_path)
    values = json.loads((tmp_path / "tokenizer.json").read_text())
    if place == "vocab":
        values["model"]["vocab"]["xyz"] = 10**8
    else:
        values["added_tokens"][0]["id"] = 10**8
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="id 100000000, expected 0 to"):
            load_tokenizer(tmp_path / "tokenizer.json")
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
