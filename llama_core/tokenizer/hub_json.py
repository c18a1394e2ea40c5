"""Hub `tokenizer.json` files → `Tokenizer`. Byte-level BPE runs on tiktoken, which is faster, where tiktoken gives the
same ids; everything else runs on the `tokenizers` library."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers

from llama_core.tokenizer.hub_rules import (
    adds_bos,
    merges_as_tiktoken,
    strips_space,
    tiktoken_pattern,
    with_settings,
    without_leading_space,
)
from llama_core.tokenizer.rust_panics import translate_panics
from llama_core.tokenizer.settings import TokenizerSettings
from llama_core.tokenizer.tiktoken_ranks import byte_level_tokenizer, has_all_bytes, token_table
from llama_core.tokenizer.tokenizer import AddedTokenFlags, Tokenizer, TokenizerError

Json = dict[str, Any]  # an object of the file; its form is that of huggingface/tokenizers


def hub_tokenizer(values: Json, path: Path | str, settings: TokenizerSettings | None = None) -> Tokenizer:
    """The tokenizer that a Hub `tokenizer.json` and the settings beside it describe; `path` is for error messages.

    Raises `TokenizerError` for models other than BPE.
    """
    model = values.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
        found = model.get("type") if isinstance(model, dict) else model
        raise TokenizerError(f"{path}: the model is {found!r}, expected a BPE with a vocabulary")
    values = with_settings(values, settings or TokenizerSettings())
    added = values["added_tokens"]
    special = {row["content"]: row["id"] for row in added if not is_plain_word(row)}
    visible = {row["id"]: row["content"].encode() for row in added if not row.get("special")}
    pieces = {token_id: piece for piece, token_id in model["vocab"].items() if piece not in special}
    tokenizer = _by_tiktoken(values, pieces, special, visible) or _by_library(values, pieces, special, visible)
    begins_with_bos = adds_bos(values, settings or TokenizerSettings())
    return replace(tokenizer, added_token_flags=_added_token_flags(added), begins_with_bos=begins_with_bos)


def _by_tiktoken(
    values: Json, pieces: dict[int, str], special: dict[str, int], visible: dict[int, bytes]
) -> Tokenizer | None:
    """The tokenizer on tiktoken; None where its ids could differ from those of the `tokenizers` library."""
    pattern = tiktoken_pattern(values)
    if pattern is None or any(map(is_plain_word, values["added_tokens"])) or not merges_as_tiktoken(values["model"]):
        return None
    ranks = {_byte_level_bytes(piece): token_id for token_id, piece in pieces.items()}
    return byte_level_tokenizer(pattern, ranks, special, visible) if has_all_bytes(ranks) else None


def _by_library(values: Json, pieces: dict[int, str], special: dict[str, int], visible: dict[int, bytes]) -> Tokenizer:
    byte_level = "ByteLevel" in json.dumps([values.get("pre_tokenizer"), values.get("decoder")])
    bytes_of = _byte_level_bytes if byte_level else _metaspace_bytes
    table = token_table({token_id: bytes_of(piece) for token_id, piece in pieces.items()}, special, visible)
    return Tokenizer(_library_encoder(values), table, special, adds_leading_space=strips_space(values))


def is_plain_word(added: Json) -> bool:
    """Whether an added token is ordinary language: not special, and spelled without punctuation.

    All others are markers, also those that the file does not call special (`<think>`): typed text never becomes one.
    """
    return not added.get("special") and re.fullmatch(r"[\w\s]+", added["content"]) is not None


def _added_token_flags(added: list[Json]) -> dict[str, AddedTokenFlags]:
    names = ("lstrip", "rstrip", "single_word")
    found = {row["content"]: AddedTokenFlags(**{name: row.get(name, False) for name in names}) for row in added}
    return {content: flags for content, flags in found.items() if flags != AddedTokenFlags()}


def _library_encoder(values: Json) -> Callable[[str, bool], list[int]]:
    """An `encode_plain` by the `tokenizers` library. With Metaspace's prepend scheme "first", text that begins the
    sequence gets a leading space and later text does not."""
    at_start = _library_tokenizer(values)
    for_later_text = without_leading_space(values)
    later = at_start if for_later_text == values else _library_tokenizer(for_later_text)

    def encode(text: str, is_start: bool) -> list[int]:
        with translate_panics("the tokenizer failed on a text"):
            # As a batch: unlike `encode`, it lets other threads run meanwhile.
            [found] = (at_start if is_start else later).encode_batch_fast([text], add_special_tokens=False)
            return found.ids

    return encode


def _library_tokenizer(values: Json) -> tokenizers.Tokenizer:
    # Markers are declared special, and encode_special_tokens turns the search for special tokens off: none is found in
    # typed text.
    added = [{**row, "special": not is_plain_word(row)} for row in values["added_tokens"]]
    changes = {"added_tokens": added, "post_processor": None, "truncation": None, "padding": None}
    library = tokenizers.Tokenizer.from_str(json.dumps({**values, **changes}))
    library.encode_special_tokens = True
    return library


@cache
def _byte_level_alphabet() -> dict[str, int]:
    """How GPT-2 spells bytes in its vocabulary: printable ones as themselves, the others from U+0100 on
    (openai/gpt-2, src/encoder.py, bytes_to_unicode)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _byte_level_bytes(piece: str) -> bytes:
    """The bytes of a piece in GPT-2's spelling; an added token with other characters stands for itself."""
    alphabet = _byte_level_alphabet()
    if any(letter not in alphabet for letter in piece):
        return piece.encode()
    return bytes(alphabet[letter] for letter in piece)


def _metaspace_bytes(piece: str) -> bytes:
    """The bytes of a piece in SentencePiece's spelling: ▁ is a space, <0x0A> a byte."""
    byte = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode()
