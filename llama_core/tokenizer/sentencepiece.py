"""SentencePiece `tokenizer.model` files: a reader of the few protocol-buffer fields that Llama needs (`parse`), and the
same tokenizer in the form of a Hub `tokenizer.json` (`to_hub`).

Field numbers: google/sentencepiece, src/sentencepiece_model.proto. Wire format: protobuf.dev, "Encoding".
"""

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

# ModelProto.SentencePiece.Type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
# TrainerSpec.ModelType
BPE = 2
# Wire types: how the value of a field is stored. The sizes are those of the two kinds of fixed length.
VARINT, LENGTH_DELIMITED = 0, 2
FIXED_SIZES = {1: 8, 5: 4}
# SentencePiece makes pieces of at most 16 characters unless told otherwise. The search for merges is quadratic in it.
MAX_PIECE = 512


class Piece(NamedTuple):
    """A row of the vocabulary. Pieces with higher scores are merged first; `kind` is one of the four types above."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieceModel:
    """The pieces in the order of their ids, and the settings that change how text is encoded."""

    pieces: list[Piece]
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
        model = _Message(data)  # ModelProto
        pieces = [_piece(_Message(piece)) for piece in model.repeated(1)]
        trainer, normalizer = _Message(model.bytes_of(2)), _Message(model.bytes_of(3))
        return _model(pieces, trainer, normalizer) if pieces else None
    except (ValueError, IndexError, struct.error):
        return None


def _model(pieces: list[Piece], trainer: "_Message", normalizer: "_Message") -> SentencePieceModel:
    def id_of(field_number: int, default: int) -> int | None:
        token_id = trainer.integer(field_number, default)
        return token_id if token_id < len(pieces) else None  # -1 means none, and as a varint it is 2⁶⁴ - 1

    return SentencePieceModel(
        pieces,
        is_bpe=trainer.integer(3, 1) == BPE,
        byte_fallback=bool(trainer.integer(35, 0)),
        add_dummy_prefix=bool(normalizer.integer(3, 1)),
        remove_extra_whitespaces=bool(normalizer.integer(4, 1)),
        charsmap=normalizer.bytes_of(2),
        bos_id=id_of(41, 1),
        eos_id=id_of(42, 2),
    )


def _piece(message: "_Message") -> Piece:
    [score] = struct.unpack("<f", message.bytes_of(2, bytes(4)))
    return Piece(message.bytes_of(1).decode("utf-8"), score, message.integer(3, NORMAL))


class _Message:
    """The fields of one protocol-buffer message. Raises `ValueError` or `IndexError` for bytes that are none."""

    def __init__(self, data: bytes):
        self._fields = list(_fields(data))
        self._last = dict(self._fields)  # of a field that occurs twice, the last one counts

    def repeated(self, field_number: int) -> list[bytes]:
        """All values of a repeated field."""
        values = [value for number, value in self._fields if number == field_number]
        return [_expect_bytes(value) for value in values]

    def bytes_of(self, field_number: int, default: bytes = b"") -> bytes:
        """The value of a field that is a text, a message or a float."""
        return _expect_bytes(self._last.get(field_number, default))

    def integer(self, field_number: int, default: int) -> int:
        """The value of a field that is a number, an enum or a bool."""
        value = self._last.get(field_number, default)
        if not isinstance(value, int):
            raise ValueError(f"field {field_number} is not a varint")
        return value


def _expect_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a field is a varint, expected bytes")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field, in the order of the file."""
    offset = 0
    while offset < len(data):
        tag, offset = _varint(data, offset)
        field_number, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            number, offset = _varint(data, offset)
            yield field_number, number
            continue
        if wire_type == LENGTH_DELIMITED:
            size, offset = _varint(data, offset)
        elif wire_type in FIXED_SIZES:
            size = FIXED_SIZES[wire_type]
        else:
            raise ValueError("not a protocol buffer")
        if offset + size > len(data):
            raise ValueError("not a protocol buffer")
        yield field_number, data[offset : offset + size]
        offset += size


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """The number that begins at `offset`, seven bits per byte, and the offset behind it."""
    number = shift = 0
    while True:
        byte = data[offset]
        number |= (byte & 127) << shift
        offset, shift = offset + 1, shift + 7
        if byte < 128:
            return number, offset
        if shift > 63:
            raise ValueError("not a protocol buffer")


def to_hub(model: SentencePieceModel) -> dict[str, Any]:
    """The same tokenizer as the content of a Hub `tokenizer.json`."""
    vocabulary = {piece.text: i for i, piece in enumerate(model.pieces)}
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if model.add_dummy_prefix else []
    return {
        "version": "1.0",
        "added_tokens": _added_tokens(model),
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(model)},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": strip},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": next((piece.text for piece in model.pieces if piece.kind == UNKNOWN), None),
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": model.byte_fallback,
            "vocab": vocabulary,
            "merges": _merges(model, vocabulary),
        },
    }


def _added_tokens(model: SentencePieceModel) -> list[dict[str, Any]]:
    flags = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": i, "content": piece.text, **flags}
        for i, piece in enumerate(model.pieces)
        if piece.kind in (CONTROL, USER_DEFINED, UNKNOWN)
    ]


def _normalizers(model: SentencePieceModel) -> list[dict[str, Any]]:
    """What SentencePiece does to text before it looks for pieces, step by step."""
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
    if model.remove_extra_whitespaces:  # SentencePiece removes a typed ▁ at the end like a space
        steps.append({"type": "Replace", "pattern": {"Regex": r"▁+\z"}, "content": ""})
    return steps


def _merges(model: SentencePieceModel, vocabulary: dict[str, int]) -> list[list[str]]:
    """The pairs of pieces that make each piece, best score first.

    The file has no merges: SentencePiece joins the two neighbours that make the piece with the best score.
    """
    found = []
    longest = max((len(piece.text) for piece in model.pieces), default=0)
    if longest > MAX_PIECE:
        raise ValueError(f"a piece has {longest} characters, expected at most {MAX_PIECE}")
    for piece in model.pieces:
        if piece.kind == NORMAL:
            halves = ([piece.text[:i], piece.text[i:]] for i in range(1, len(piece.text)))
            pairs = [pair for pair in halves if pair[0] in vocabulary and pair[1] in vocabulary]
            found += [(-piece.score, vocabulary[left], vocabulary[right], [left, right]) for left, right in pairs]
    return [pair for *_, pair in sorted(found, key=lambda row: row[:3])]
