"""What the files beside a tokenizer say about it: `tokenizer_config.json`, `special_tokens_map.json` and
`added_tokens.json`.

A fine-tune often adds its markers there alone. All three files are optional (transformers, tokenization_utils_base.py).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_core.runtime.files import read_json
from llama_core.tokenizer.tokenizer import THOUGHT_MARKERS, TokenizerError

Json = dict[str, Any]

# The roles that transformers' Llama classes fill in where no file does (models/llama/tokenization_llama.py).
LLAMA_ROLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
FLAGS = ("special", "lstrip", "rstrip", "single_word", "normalized")


@dataclass(frozen=True)
class TokenizerSettings:
    """The settings of a tokenizer that its own file may lack.

    - `added` are rows as in the `added_tokens` of a `tokenizer.json`.
    - `named` maps roles (`bos_token`, `pad_token`, ...) to the spelling of the token.
    - `ends` are the spellings of all end tokens, `extra` those of special tokens without a role.
    - `add_bos` is `add_bos_token`, `add_prefix_space` the setting of this name; None where the files do not say.
    - `names_no_bos`: the files say that there is no begin token.
    - `legacy`: the space goes before each stretch of text between markers, not before the first alone.
    """

    added: list[Json] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)
    ends: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    add_bos: bool | None = None
    add_prefix_space: bool | None = None
    names_no_bos: bool = False
    legacy: bool = False
    tokenizer_class: str = ""

    @property
    def is_llama_class(self) -> bool:
        """Whether transformers reads the tokenizer with one of its Llama classes."""
        return "Llama" in self.tokenizer_class


def read_settings(folder: Path) -> TokenizerSettings:
    """The settings in a folder. Raises `ModelFileError` for files that cannot be read."""
    config, special_map = _read(folder / "tokenizer_config.json"), _read(folder / "special_tokens_map.json")
    tokenizer_class = str(config.get("tokenizer_class") or "")
    defaults = LLAMA_ROLES if "Llama" in tokenizer_class else {}
    unnamed = {role: spelling for role, spelling in defaults.items() if role not in config | special_map}
    named = unnamed | _named(special_map) | _named(config)
    ends = (
        [named["eos_token"], _named(special_map).get("eos_token", named["eos_token"])] if "eos_token" in named else []
    )
    return TokenizerSettings(
        added=[*_decoder_rows(config, folder), *_added_rows(folder)],
        named=named,
        ends=tuple(dict.fromkeys(ends)),
        extra=tuple([*_extra(config), *_extra(special_map)]),
        add_bos=config.get("add_bos_token") if isinstance(config.get("add_bos_token"), bool) else None,
        add_prefix_space=False if config.get("add_prefix_space") is False else None,
        names_no_bos="bos_token" in config and "bos_token" not in named,
        legacy=config.get("legacy") is True,
        tokenizer_class=tokenizer_class,
    )


def _read(path: Path) -> Json:
    return read_json(path) if path.is_file() else {}


def _named(values: Json) -> dict[str, str]:
    found = {key: _spelling(value) for key, value in values.items() if key.endswith("_token")}
    return {key: spelling for key, spelling in found.items() if spelling}


def _extra(values: Json) -> Iterator[str]:
    for key in ("additional_special_tokens", "extra_special_tokens"):
        listed = values.get(key)
        tokens = listed.values() if isinstance(listed, dict) else listed if isinstance(listed, list) else ()
        yield from filter(None, map(_spelling, tokens))


def _spelling(token: object) -> str:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""


def _decoder_rows(config: Json, folder: Path) -> Iterator[Json]:
    """The rows of `added_tokens_decoder`: id → token with flags."""
    rows = config.get("added_tokens_decoder") or {}
    for number, row in rows.items() if isinstance(rows, dict) else ():
        if not number.isdecimal() or not isinstance(row, dict) or not _spelling(row):
            raise TokenizerError(
                f"{folder / 'tokenizer_config.json'}: added_tokens_decoder has the row {number[:20]!r}: "
                f"{str(row)[:80]}; expected an id and a token with its content; download it again"
            )
        yield {"id": int(number), "content": row["content"], **{name: row.get(name, False) for name in FLAGS}}


def _added_rows(folder: Path) -> Iterator[Json]:
    """The rows of `added_tokens.json`: token → id. It has no flags, so what is not a word is taken as special."""
    path = folder / "added_tokens.json"
    for content, token_id in _read(path).items():
        if not isinstance(token_id, int) or isinstance(token_id, bool) or not content:
            raise TokenizerError(
                f"{path}: {content[:80]!r} has the id {token_id!r}; expected a number; download it again"
            )
        is_visible = re.fullmatch(r"[\w\s]+", content) or THOUGHT_MARKERS.fullmatch(content)
        yield {"id": token_id, "content": content, **dict.fromkeys(FLAGS, False), "special": not is_visible}
