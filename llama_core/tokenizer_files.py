"""The files tokenizers come in: Hub `tokenizer.json`, Meta's `tokenizer.model`, SentencePiece `tokenizer.model`.

Byte-level BPE runs on tiktoken where tiktoken can express it. The rest runs on the `tokenizers` library.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import tiktoken
import tokenizers

from llama_core import sentencepiece_model
from llama_core.files import ModelFileError, read_bytes, read_json
from llama_core.tokenizer import Manners, Tokenizer, TokenizerError

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# tiktoken needs quadratic time on one long run, and its pattern engine fails on longer texts
# (meta-llama/llama-models, models/llama3/tokenizer.py, where these two numbers come from).
MAX_RUN, MAX_TEXT = 25_000, 400_000
_LONG_RUN = re.compile(rf"\S{{1,{MAX_RUN}}}|\s{{1,{MAX_RUN}}}")

# Llama 3 has 256 special tokens after its 128000 ranks; these have names, by distance from the first one
# (meta-llama/llama-models, models/llama3/tokenizer.py).
_LLAMA3_NAMED = {
    0: "<|begin_of_text|>", 1: "<|end_of_text|>", 4: "<|finetune_right_pad_id|>", 6: "<|start_header_id|>",
    7: "<|end_header_id|>", 8: "<|eom_id|>", 9: "<|eot_id|>", 10: "<|python_tag|>",
}


def read(path: Path) -> Tokenizer:
    """The tokenizer in this file, by what the file holds. Raises `ModelFileError`."""
    try:
        return _read(path)
    except ModelFileError:
        raise
    except Exception as problem:  # the two libraries raise bare Exceptions
        raise TokenizerError(f"{path} is not a tokenizer that can be used ({problem}); download it again") from problem


def _read(path: Path) -> Tokenizer:
    if path.suffix == ".json":
        return _with_named_ends(_from_hub(read_json(path), path), path)
    data = read_bytes(path)
    ranks = _tiktoken_ranks(data)
    if ranks:
        return _from_meta(ranks)
    pieces = sentencepiece_model.parse(data)
    if pieces is None:
        raise TokenizerError(f"{path} holds neither tiktoken ranks nor a SentencePiece model; download it again")
    return _with_named_ends(_from_sentencepiece(pieces, path), path)


def _tiktoken_ranks(data: bytes) -> dict[bytes, int] | None:
    """Lines of a token in base64 and its rank; None if the file is not like that."""
    try:
        rows = [line.split() for line in data.splitlines() if line]
        return {base64.b64decode(token, validate=True): int(rank) for token, rank in rows}
    except (ValueError, binascii.Error):
        return None


def _from_meta(ranks: dict[bytes, int]) -> Tokenizer:
    first, unnamed = len(ranks), 0
    special = {}
    for i in range(256):
        if i in _LLAMA3_NAMED:
            special[_LLAMA3_NAMED[i]] = first + i
        else:
            special[f"<|reserved_special_token_{unnamed}|>"] = first + i
            unnamed += 1
    ends = tuple(special[name] for name in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"))
    return replace(byte_level_tokenizer(LLAMA3_PATTERN, ranks, special), bos_id=first, eos_ids=ends)


def byte_level_tokenizer(
    pattern: str, ranks: dict[bytes, int], special: dict[str, int], shown: dict[int, bytes] | None = None
) -> Tokenizer:
    """Byte-level BPE by tiktoken; a token's id is its rank in the order of merges. Special tokens are decoded to
    nothing, but for those in `shown`."""
    encoding = tiktoken.Encoding("llama", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    token_bytes = _table({rank: token for token, rank in ranks.items()}, special, shown or {})

    def encode(text: str, is_start: bool) -> list[int]:
        return [token_id for part in _chopped(text) for token_id in encoding.encode_ordinary(part)]

    return Tokenizer(encode, token_bytes, special)


def _chopped(text: str) -> list[str]:
    """The text in pieces that tiktoken can take; nearly always one."""
    if len(text) <= MAX_RUN:
        return [text]
    parts, size, was = [""], 0, ""
    for run in _LONG_RUN.findall(text):
        continued = len(was) == MAX_RUN and was[-1].isspace() == run[0].isspace()
        if continued or size + len(run) > MAX_TEXT:
            parts.append("")
            size = 0
        parts[-1] += run
        size, was = size + len(run), run
    return parts


def _table(tokens: dict[int, bytes], special: dict[str, int], shown: dict[int, bytes]) -> list[bytes]:
    """What each id stands for; special tokens and unused ids stand for nothing."""
    table = [b""] * (1 + max([*tokens, *special.values(), *shown], default=-1))
    for token_id, token in {**tokens, **dict.fromkeys(special.values(), b""), **shown}.items():
        table[token_id] = token
    return table


def _from_hub(values: dict[str, Any], path: Path) -> Tokenizer:
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
        table = _table({i: spell(piece) for i, piece in vocabulary.items() if piece not in special}, special, shown)
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
    later = _library({**values, "pre_tokenizer": {**pre, "prepend_scheme": "never"}}) if (
        pre.get("type") == "Metaspace" and pre.get("prepend_scheme") == "first") else at_start

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


def _from_sentencepiece(model: sentencepiece_model.SentencePieceModel, path: Path) -> Tokenizer:
    if not model.is_bpe:
        raise TokenizerError(f"{path}: only SentencePiece models of the BPE kind are supported; Llama uses no other")
    tokenizer = _from_hub(sentencepiece_model.to_hub(model), path)
    return replace(tokenizer, bos_id=model.bos_id, eos_ids=() if model.eos_id is None else (model.eos_id,))


def _with_named_ends(tokenizer: Tokenizer, path: Path) -> Tokenizer:
    """Begin and end tokens as the `tokenizer_config.json` beside the file names them."""
    beside = path.with_name("tokenizer_config.json")
    if not beside.is_file():
        return tokenizer
    values = read_json(beside)

    def named(key: str) -> int | None:
        token = values.get(key)
        return tokenizer.special_tokens.get(token.get("content") if isinstance(token, dict) else token)

    bos, eos = named("bos_token"), named("eos_token")
    return replace(
        tokenizer,
        bos_id=tokenizer.bos_id if bos is None else bos,
        eos_ids=tokenizer.eos_ids if eos is None else (eos,),
        begins_with_bos=values.get("add_bos_token") is not False,
    )


def random_tokenizer(vocab_size: int, bos_id: int, eos_ids: tuple[int, ...]) -> Tokenizer:
    """A vocabulary for random models: the bytes, then made-up words, so that noise can be read aloud."""
    special = {"<|begin_of_text|>": bos_id} | {f"<|end_of_text_{i}|>": eos_id for i, eos_id in enumerate(eos_ids)}
    syllables = [consonant + vowel for consonant in "bcdfghjklmnprstvwxyz" for vowel in "aeiou"]

    def word(i: int) -> bytes:
        text = ""
        while i or not text:
            i, part = divmod(i, len(syllables))
            text += syllables[part]
        return b" " + text.encode()

    ids = [token_id for token_id in range(vocab_size) if token_id not in special.values()]
    ranks = {bytes([token_id]) if token_id < 256 else word(token_id - 256): token_id for token_id in ids}
    return replace(byte_level_tokenizer(GPT2_PATTERN, ranks, special), bos_id=bos_id, eos_ids=eos_ids)
