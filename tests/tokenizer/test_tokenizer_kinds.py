"""Every kind of tokenizer file against the library that defines it: `tokenizers`, `sentencepiece`, tiktoken."""

import base64
import json
import unicodedata

import pytest
import sentencepiece
import tiktoken
import tokenizers
from checkpoints import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from llama_core.tokenizer import load_tokenizer
from llama_core.tokenizer.tiktoken_ranks import LLAMA3_PATTERN

CORPUS = ["the cat sat on the mat", "the hat of the cat", "that is that, 1234 is not 12", "def f(x):\n    return x"] * 3
SPECIAL = ["<|begin|>", "<|end|>"]
# huggingface.co/Qwen/Qwen2.5-0.5B, tokenizer.json
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# meta-llama/llama-models, models/llama3/tokenizer.py
META_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|"
    r"\s+"
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


SENTENCEPIECE = {
    "as Llama 2": dict(normalization_rule_name="identity", remove_extra_whitespaces=False),
    "no dummy prefix": dict(normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False),
    "extra whitespaces removed": dict(normalization_rule_name="identity", remove_extra_whitespaces=True),
    "normalised": dict(normalization_rule_name="nmt_nfkc", remove_extra_whitespaces=True),
    "neither": dict(normalization_rule_name="nmt_nfkc", remove_extra_whitespaces=True, add_dummy_prefix=False),
}


@pytest.fixture(scope="module", params=SENTENCEPIECE)
def sentencepiece_pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sp")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_prefix=str(folder / "sp"),
        vocab_size=310,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
        **SENTENCEPIECE[request.param],
    )
    return load_tokenizer(folder / "sp.model"), sentencepiece.SentencePieceProcessor(
        model_file=str(folder / "sp.model")
    )


@given(text=TEXTS.filter(lambda text: "\x00" not in text))
@settings(max_examples=80, deadline=None)
def test_ids_are_those_of_sentencepiece(sentencepiece_pair, text):
    ours, theirs = sentencepiece_pair
    assert ours.encode(text) == theirs.encode(text)


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
