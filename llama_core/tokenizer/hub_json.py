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

from llama_core.tokenizer.tiktoken_ranks import GPT2_PATTERN, byte_level_tokenizer, token_table
from llama_core.tokenizer.tokenizer import AddedTokenFlags, Tokenizer, TokenizerError

Json = dict[str, Any]  # an object of the file; its form is that of huggingface/tokenizers


def hub_tokenizer(values: Json, path: Path) -> Tokenizer:
    """The tokenizer that a Hub `tokenizer.json` describes; `path` is for error messages.

    Raises `TokenizerError` for models other than BPE.
    """
    model = values.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
        found = model.get("type") if isinstance(model, dict) else model
        raise TokenizerError(f"{path}: the model is {found!r}, expected a BPE with a vocabulary")
    added = values.get("added_tokens") or []
    special = {row["content"]: row["id"] for row in added if not is_plain_word(row)}
    visible = {row["id"]: row["content"].encode() for row in added if not row.get("special")}
    pieces = {token_id: piece for piece, token_id in model["vocab"].items() if piece not in special}
    pattern = _tiktoken_pattern(values)
    if pattern is not None and not any(map(is_plain_word, added)) and _merges_as_tiktoken(model):
        ranks = {_byte_level_bytes(piece): token_id for token_id, piece in pieces.items()}
        tokenizer = byte_level_tokenizer(pattern, ranks, special, visible)
    else:
        byte_level = "ByteLevel" in json.dumps([values.get("pre_tokenizer"), values.get("decoder")])
        bytes_of = _byte_level_bytes if byte_level else _metaspace_bytes
        table = token_table({token_id: bytes_of(piece) for token_id, piece in pieces.items()}, special, visible)
        tokenizer = Tokenizer(_library_encoder(values), table, special, adds_leading_space=_strips_space(values))
    return replace(tokenizer, added_token_flags=_added_token_flags(added))


def is_plain_word(added: Json) -> bool:
    """Whether an added token is ordinary language: not special, and spelled without punctuation.

    All others are markers, also those that the file does not call special (`<think>`): typed text never becomes one.
    """
    return not added.get("special") and re.fullmatch(r"[\w\s]+", added["content"]) is not None


def _added_token_flags(added: list[Json]) -> dict[str, AddedTokenFlags]:
    names = ("lstrip", "rstrip", "single_word")
    found = {row["content"]: AddedTokenFlags(**{name: row.get(name, False) for name in names}) for row in added}
    return {content: flags for content, flags in found.items() if flags != AddedTokenFlags()}


def _tiktoken_pattern(values: Json) -> str | None:
    """The pattern that splits text before byte-level BPE; None where tiktoken would split differently."""
    pre = values.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre]) if isinstance(pre, dict) else []
    if values.get("normalizer") or not steps or steps[-1].get("type") != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return None
    if len(steps) == 1:
        return GPT2_PATTERN if steps[0].get("use_regex", True) else None
    split, last = steps[0], steps[-1]
    isolates = split.get("type") == "Split" and split.get("behavior") == "Isolated" and not split.get("invert")
    return split["pattern"].get("Regex") if len(steps) == 2 and isolates and not last.get("use_regex", True) else None


def _merges_as_tiktoken(model: Json) -> bool:
    """Whether the merges follow tiktoken's assumptions: a word of the vocabulary is one token at once
    (`ignore_merges`), every two neighbours that make a token may merge, and the smallest id merges first."""
    vocabulary = model["vocab"]
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    ids = [vocabulary[left + right] for left, right in merges]
    if not model.get("ignore_merges") or any(before > after for before, after in zip(ids, ids[1:], strict=False)):
        return False
    possible_merges = sum(
        piece[:i] in vocabulary and piece[i:] in vocabulary for piece in vocabulary for i in range(1, len(piece))
    )
    return possible_merges == len(merges)


def _library_encoder(values: Json) -> Callable[[str, bool], list[int]]:
    """An `encode_plain` by the `tokenizers` library. With Metaspace's prepend scheme "first", text that begins the
    sequence gets a leading space and later text does not."""
    at_start = _library_tokenizer(values)
    pre = values.get("pre_tokenizer") or {}
    later = at_start
    if pre.get("type") == "Metaspace" and pre.get("prepend_scheme") == "first":
        later = _library_tokenizer({**values, "pre_tokenizer": {**pre, "prepend_scheme": "never"}})

    def encode(text: str, is_start: bool) -> list[int]:
        return (at_start if is_start else later).encode(text, add_special_tokens=False).ids

    return encode


def _library_tokenizer(values: Json) -> tokenizers.Tokenizer:
    # Markers are declared special, and encode_special_tokens turns the search for special tokens off: none is found in
    # typed text.
    added = [{**row, "special": not is_plain_word(row)} for row in values.get("added_tokens") or ()]
    changes = {"added_tokens": added, "post_processor": None, "truncation": None, "padding": None}
    library = tokenizers.Tokenizer.from_str(json.dumps({**values, **changes}))
    library.encode_special_tokens = True
    return library


def _strips_space(values: Json) -> bool:
    """Whether the decoder removes a space at the start of the text."""
    decoder = values.get("decoder") or {}
    steps = decoder.get("decoders", [decoder])
    return any(
        (step.get("type") == "Strip" and step.get("start") == 1)
        or (step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never")
        for step in steps
    )


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
