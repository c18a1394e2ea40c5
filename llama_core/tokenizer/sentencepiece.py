"""SentencePiece `tokenizer.model` files: the few fields of the protocol buffer that Llama needs, and the same
vocabulary in the form of a Hub `tokenizer.json`.

Field numbers: google/sentencepiece, src/sentencepiece_model.proto. Wire format: protobuf.dev, "Encoding".
"""

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

CONTROL, USER_DEFINED, UNKNOWN = 3, 4, 2  # kinds of pieces
BPE = 2


@dataclass(frozen=True)
class SentencePieceModel:
    """The pieces as (text, score, kind) in the order of their ids, and the flags that change what text becomes."""

    pieces: list[tuple[str, float, int]]
    is_bpe: bool
    byte_fallback: bool
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    charsmap: bytes
    bos_id: int | None
    eos_id: int | None


def parse(data: bytes) -> SentencePieceModel | None:
    """The model in these bytes; None if they are something else."""
    try:
        fields = list(_fields(data))
        pieces = [_piece(value) for number, value in fields if number == 1]
        trainer = dict(_fields(next((value for number, value in fields if number == 2), b"")))
        normalizer = dict(_fields(next((value for number, value in fields if number == 3), b"")))
    except (ValueError, IndexError, TypeError, struct.error):
        return None
    if not pieces:
        return None
    ends = (trainer.get(41, 1), trainer.get(42, 2))
    bos_id, eos_id = (token_id if token_id < len(pieces) else None for token_id in ends)  # -1, for none, is huge here
    return SentencePieceModel(
        pieces,
        trainer.get(3, 1) == BPE,
        bool(trainer.get(35, 0)),
        bool(normalizer.get(3, 1)),
        bool(normalizer.get(4, 1)),
        normalizer.get(2, b""),
        bos_id,
        eos_id,
    )


def _piece(data: bytes) -> tuple[str, float, int]:
    values = dict(_fields(data))
    score = struct.unpack("<f", values.get(2, bytes(4)))[0]
    return values.get(1, b"").decode("utf-8"), score, values.get(3, 1)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: an int for varints, bytes for the others."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(data, place)
        else:
            size, place = _varint(data, place) if kind == 2 else ({1: 8, 5: 4}[kind] if kind in (1, 5) else -1, place)
            if size < 0 or place + size > len(data):
                raise ValueError("not a protocol buffer")
            value, place = data[place : place + size], place + size
        yield tag >> 3, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place
        if shift > 63:
            raise ValueError("not a protocol buffer")


def to_hub(model: SentencePieceModel) -> dict[str, Any]:
    """The same tokenizer as a Hub `tokenizer.json`."""
    vocabulary = {piece: i for i, (piece, _, _) in enumerate(model.pieces)}
    added = [
        {
            "id": i,
            "content": piece,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for i, (piece, _, kind) in enumerate(model.pieces)
        if kind in (CONTROL, USER_DEFINED, UNKNOWN)
    ]
    steps: list[dict[str, Any]] = []
    if model.charsmap:
        charsmap = base64.b64encode(model.charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if model.remove_extra_whitespaces:
        steps.append({"type": "Replace", "pattern": {"Regex": r"\A +"}, "content": ""})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if model.add_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": "▁"})
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    if model.remove_extra_whitespaces:  # a typed ▁ at the end counts as space there
        steps.append({"type": "Replace", "pattern": {"Regex": r"▁+\z"}, "content": ""})
    unknown = next((piece for piece, _, kind in model.pieces if kind == UNKNOWN), None)
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if model.add_dummy_prefix else []
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": strip},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": model.byte_fallback,
            "vocab": vocabulary,
            "merges": _merges(model, vocabulary),
        },
    }


def _merges(model: SentencePieceModel, vocabulary: dict[str, int]) -> list[list[str]]:
    """The pairs that make each piece, best score first: SentencePiece joins the neighbours whose piece scores best."""
    found = []
    for piece, score, kind in model.pieces:
        if kind == 1:
            halves = ([piece[:i], piece[i:]] for i in range(1, len(piece)))
            pairs = [pair for pair in halves if pair[0] in vocabulary and pair[1] in vocabulary]
            found += [(-score, vocabulary[left], vocabulary[right], [left, right]) for left, right in pairs]
    return [pair for *_, pair in sorted(found, key=lambda row: row[:3])]
