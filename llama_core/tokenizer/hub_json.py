"""Hub `tokenizer.json` files. Byte-level BPE runs on tiktoken where tiktoken can express it, the rest on the
`tokenizers` library."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers

from llama_core.tokenizer.tiktoken_ranks import GPT2_PATTERN, byte_level_tokenizer, token_table
from llama_core.tokenizer.tokenizer import Manners, Tokenizer, TokenizerError


def hub_tokenizer(values: dict[str, Any], path: Path) -> Tokenizer:
    """The tokenizer of a Hub `tokenizer.json`; `path` is for error messages. Raises `TokenizerError`."""
    model = values.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
        found = model.get("type") if isinstance(model, dict) else model
        raise TokenizerError(f"{path}: the model is {found!r}, expected a BPE with a vocabulary")
    added = values.get("added_tokens") or []
    special = {row["content"]: row["id"] for row in added if not _is_word(row)}
    shown = {row["id"]: row["content"].encode() for row in added if not row.get("special")}
    vocabulary = {token_id: piece for piece, token_id in model["vocab"].items()}
    pattern = _tiktoken_pattern(values)
    if pattern is not None and not any(map(_is_word, added)) and _merges_as_tiktoken(model):
        ranks = {_from_unicode(piece): i for i, piece in vocabulary.items() if piece not in special}
        tokenizer = byte_level_tokenizer(pattern, ranks, special, shown)
    else:
        byte_level = "ByteLevel" in json.dumps([values.get("pre_tokenizer"), values.get("decoder")])
        spell = _from_unicode if byte_level else _from_metaspace
        table = token_table(
            {i: spell(piece) for i, piece in vocabulary.items() if piece not in special}, special, shown
        )
        tokenizer = Tokenizer(_library_encoder(values), table, special, adds_leading_space=_strips_space(values))
    return replace(tokenizer, manners=_manners(added))


def _is_word(added: dict[str, Any]) -> bool:
    """Whether an added token is part of the language: not special, and spelled without punctuation. All others are
    markers, also those that their makers forgot to call special: typed text never becomes one."""
    return not added.get("special") and re.fullmatch(r"[\w\s]+", added["content"]) is not None


def _manners(added: list[dict[str, Any]]) -> dict[str, Manners]:
    names = ("lstrip", "rstrip", "single_word")
    found = {row["content"]: Manners(**{name: row.get(name, False) for name in names}) for row in added}
    return {content: manners for content, manners in found.items() if manners != Manners()}


def _tiktoken_pattern(values: dict[str, Any]) -> str | None:
    """The pattern that splits text before byte-level BPE; None for anything that tiktoken would do differently."""
    pre = values.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre]) if isinstance(pre, dict) else []
    if values.get("normalizer") or not steps or steps[-1].get("type") != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return None
    if len(steps) == 1:
        return GPT2_PATTERN if steps[0].get("use_regex", True) else None
    split, last = steps[0], steps[-1]
    whole = split.get("type") == "Split" and split.get("behavior") == "Isolated" and not split.get("invert")
    return split["pattern"].get("Regex") if len(steps) == 2 and whole and not last.get("use_regex", True) else None


def _merges_as_tiktoken(model: dict[str, Any]) -> bool:
    """Whether merges are what tiktoken takes for granted: a word of the vocabulary is one token at once, every two
    neighbours that make a token may merge, and the smallest id goes first."""
    vocabulary = model["vocab"]
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    ids = [vocabulary[left + right] for left, right in merges]
    if not model.get("ignore_merges") or any(before > after for before, after in zip(ids, ids[1:], strict=False)):
        return False
    pairs = sum(
        piece[:i] in vocabulary and piece[i:] in vocabulary for piece in vocabulary for i in range(1, len(piece))
    )
    return pairs == len(merges)


def _library_encoder(values: dict[str, Any]) -> Callable[[str, bool], list[int]]:
    """Encoding by the `tokenizers` library; at the start of a sequence and after it by Metaspace's rule "first"."""
    at_start = _library(values)
    pre = values.get("pre_tokenizer") or {}
    later = (
        _library({**values, "pre_tokenizer": {**pre, "prepend_scheme": "never"}})
        if (pre.get("type") == "Metaspace" and pre.get("prepend_scheme") == "first")
        else at_start
    )

    def encode(text: str, is_start: bool) -> list[int]:
        return (at_start if is_start else later).encode(text, add_special_tokens=False).ids

    return encode


def _library(values: dict[str, Any]) -> tokenizers.Tokenizer:
    # Markers count as special, so that none is found in typed text.
    added = [{**row, "special": not _is_word(row)} for row in values.get("added_tokens") or ()]
    settled = {"added_tokens": added, "post_processor": None, "truncation": None, "padding": None}
    library = tokenizers.Tokenizer.from_str(json.dumps({**values, **settled}))
    library.encode_special_tokens = True
    return library


def _strips_space(values: dict[str, Any]) -> bool:
    decoder = values.get("decoder") or {}
    steps = decoder.get("decoders", [decoder])
    return any(
        (step.get("type") == "Strip" and step.get("start") == 1)
        or (step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never")
        for step in steps
    )


@cache
def _unicode_to_byte() -> dict[str, int]:
    """How GPT-2 and its heirs spell bytes in vocabularies: printable ones as they are, the others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _from_unicode(piece: str) -> bytes:
    letters = _unicode_to_byte()
    return bytes(letters[letter] for letter in piece) if all(letter in letters for letter in piece) else piece.encode()


def _from_metaspace(piece: str) -> bytes:
    byte = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode()
