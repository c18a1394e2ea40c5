"""SentencePiece models with every normalisation against the library that defines them."""

import pytest
import sentencepiece
from hypothesis import given, settings
from tokenizer_kinds import CORPUS, TEXTS

from llama_core.runtime.files import ModelFileError
from llama_core.tokenizer import load_tokenizer

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


def test_a_piece_of_absurd_length_is_refused_instead_of_taking_quadratic_time(tmp_path):
    text = b"a" * 100_000
    piece = b"\x0a" + varint(len(text)) + text
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"\x0a" + varint(len(piece)) + piece + b"\x12\x02\x18\x02")  # the trainer's kind is BPE
    with pytest.raises(ModelFileError, match="tokenizer.model .*a piece has 100000 characters, expected at most"):
        load_tokenizer(path)


def varint(number):
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])
