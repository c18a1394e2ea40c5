"""The tokenizer and chat template in the metadata of a GGUF file: brought into the form of a Hub `tokenizer.json`, and
read as one.

A file has the pieces and merges (kind "gpt2": byte-level BPE) or the pieces and their scores (kind "llama":
SentencePiece). How text is split before byte-level BPE is there as a name only. The names, and what is meant where a
key is missing, are those of ggml-org/llama.cpp, src/llama-vocab.cpp.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from llama_core.tokenizer import sentencepiece
from llama_core.tokenizer.hub_json import hub_tokenizer
from llama_core.tokenizer.hub_rules import MAX_MERGE_CHECK
from llama_core.tokenizer.loading import with_roles
from llama_core.tokenizer.rust_panics import translate_failures
from llama_core.tokenizer.settings import FLAGS, TokenizerSettings
from llama_core.tokenizer.template_process import FOR_TOOLS, ChatError, plain_template
from llama_core.tokenizer.tiktoken_ranks import LLAMA3_PATTERN
from llama_core.tokenizer.tokenizer import Tokenizer, TokenizerError

Json = dict[str, Any]

# `tokenizer.ggml.token_type`
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

# How the tokenizers of the Hub split text (their tokenizer.json).
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
HAN_AND_HANGUL = "[一-龥ࠀ-一가-퟿]+"
DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN_AND_HANGUL, r"\p{N}")
# Letters with upper and lower case, which its tokenizer.json lists one by one.
_CASED = r"\s?[\p{Lu}\p{Ll}\p{Lt}]+"
DEEPSEEK_LLM = (r"[\r\n]", _CASED, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", HAN_AND_HANGUL, r"\p{N}+")


def _byte_level(use_regex: bool) -> Json:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _split(*patterns: str) -> Json:
    """Split by each pattern after the other; what a pattern finds is a part of its own."""
    steps = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in patterns
    ]
    return {"type": "Sequence", "pretokenizers": [*steps, _byte_level(False)]}


class Splitting(NamedTuple):
    """What a name in `tokenizer.ggml.pre` stands for: the pre-tokenizer, and what goes with it where no key says
    otherwise."""

    pre_tokenizer: Json
    ignore_merges: bool = False
    adds_bos: bool = False
    normalizer: str | None = None


_GPT2 = Splitting(_byte_level(True))
_DIGITS = Splitting(
    {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _byte_level(True)]}
)
_LLAMA3 = Splitting(_split(LLAMA3_PATTERN), ignore_merges=True, adds_bos=True)
_QWEN2 = Splitting(_split(QWEN2_PATTERN), normalizer="NFC")
_TEKKEN = Splitting(_split(TEKKEN_PATTERN), ignore_merges=True, adds_bos=True)

SPLITTINGS = {
    **dict.fromkeys(("default", "gpt-2", "mpt", "olmo", "jais", "mellum", "exaone4", "phi-2"), _GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _DIGITS),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "midm-2.0", "lfm2"), _LLAMA3),
    **dict.fromkeys(("smaug-bpe", "dbrx"), Splitting(_split(LLAMA3_PATTERN))),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez", "kormo", "stablelm2"), _QWEN2),
    **dict.fromkeys(("tekken", "pixtral"), _TEKKEN),
    "deepseek-coder": Splitting(_split(*DEEPSEEK_CODER)),
    "deepseek-llm": Splitting(_split(*DEEPSEEK_LLM)),
}

# Tokens of these spellings end a reply, whether a key names them or not.
_SPELLINGS = """
<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <end_of_turn> <|endoftext|> <|eom_id|> <EOT> _<EOT> [EOT] [EOS]
<|end_of_text|> <end_of_utterance> <eos> <｜end▁of▁sentence｜>
"""
END_SPELLINGS = frozenset(_SPELLINGS.split())
ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


class Vocabulary:
    """The keys of a file that concern its tokenizer, checked. `notes` are lines for people: what was ignored."""

    def __init__(self, name: str, metadata: Mapping[str, object]):
        self.name, self._metadata = name, metadata
        self.notes: list[str] = []
        self.kind = metadata.get("tokenizer.ggml.model")
        self.tokens = self.strings("tokens")
        self.kinds = self._numbers("token_type", NORMAL)

    def refusal(self, words: str) -> TokenizerError:
        return TokenizerError(f"{self.name}: {words}; choose another file")

    def strings(self, key: str) -> list[str]:
        """The list of strings of this key. Raises `TokenizerError` if it is absent."""
        found = self._metadata.get(f"tokenizer.ggml.{key}")
        if not isinstance(found, list) or not found:
            raise self.refusal(f"tokenizer.ggml.{key} is missing or no list of strings")
        return found

    def scores(self) -> list[float]:
        """The score of every token."""
        scores = [float(score) for score in self._numbers("scores", None)]
        if not all(map(math.isfinite, scores)):
            raise self.refusal("tokenizer.ggml.scores holds NaN or infinity")
        return scores

    def _numbers(self, key: str, default: int | None) -> list[Any]:
        """One number for each token."""
        found = self._metadata.get(f"tokenizer.ggml.{key}")
        if found is None and default is not None:
            return [default] * len(self.tokens)
        numbers = found.tolist() if hasattr(found, "tolist") else []
        if len(numbers) != len(self.tokens):
            raise self.refusal(f"tokenizer.ggml.{key} has {len(numbers)} numbers for {len(self.tokens)} tokens")
        return numbers

    def flag(self, key: str) -> bool | None:
        """A flag; None if the key is absent or no flag."""
        found = self._metadata.get(f"tokenizer.ggml.{key}")
        return found if isinstance(found, bool) else None

    def spelling_of(self, role: str) -> str | None:
        """The token that `tokenizer.ggml.ROLE_token_id` names; None if there is none."""
        default = {"bos": 1, "eos": 2, "unknown": 0}.get(role) if self.kind == "llama" else None
        token_id = self._metadata.get(f"tokenizer.ggml.{role}_token_id", default)
        if token_id is None or token_id in (2**32 - 1, -1):  # llama.cpp's "none"
            return None
        if not isinstance(token_id, int) or not 0 <= token_id < len(self.tokens):
            self.notes.append(
                f"{self.name}: tokenizer.ggml.{role}_token_id {str(token_id)[:20]} is ignored; expected a whole number "
                f"from 0 to {len(self.tokens) - 1}"
            )
            return None
        return self.tokens[token_id]

    def added_tokens(self) -> list[Json]:
        """Rows as in a `tokenizer.json`: special tokens, and those that were added to the trained vocabulary."""
        flags = dict.fromkeys(FLAGS, False)
        special = {UNKNOWN, CONTROL}
        return [
            {**flags, "id": token_id, "content": token, "special": kind in special or token in END_SPELLINGS}
            for token_id, (token, kind) in enumerate(zip(self.tokens, self.kinds, strict=True))
            if token and (kind in {*special, USER_DEFINED} or token in END_SPELLINGS)
        ]


def gguf_tokenizer(name: str, metadata: Mapping[str, object]) -> tuple[Tokenizer, tuple[str, ...]]:
    """The tokenizer in the metadata of the file `name`, and notes for people: what was ignored.

    Raises `TokenizerError` for kinds of tokenizers that are not supported and for damaged ones.
    """
    with translate_failures(name):
        vocabulary = Vocabulary(name, metadata)
        make = KINDS.get(vocabulary.kind) if isinstance(vocabulary.kind, str) else None
        if make is None:
            raise vocabulary.refusal(
                f"the tokenizer {str(vocabulary.kind)[:40]!r} is not supported, expected {' or '.join(KINDS)}"
            )
        values, adds_bos = make(vocabulary, metadata)
        settings = _settings(vocabulary, adds_bos)
        return with_roles(hub_tokenizer(values, name, settings), settings), tuple(vocabulary.notes)


def gguf_template(metadata: Mapping[str, object]) -> str | None:
    """The chat template of a file; of several named ones, the one for plain chat. None without one.

    Raises `ChatError` for a template that is not text.
    """
    key = "tokenizer.chat_template"
    named = {name[len(key) + 1 :]: value for name, value in metadata.items() if name.startswith(f"{key}.")}
    found = metadata.get(key, plain_template(named))
    if found is not None and not isinstance(found, str):
        raise ChatError(f"{key} is a {type(found).__name__}, expected text")
    return found if found and found.strip() else None


def gguf_tool_template(metadata: Mapping[str, object]) -> str | None:
    """The template of a file for prompts with tools, where it has one of its own for them."""
    found = metadata.get(f"tokenizer.chat_template.{FOR_TOOLS}")
    return found if isinstance(found, str) and found.strip() else None


def _settings(vocabulary: Vocabulary, adds_bos: bool) -> TokenizerSettings:
    named = {role: vocabulary.spelling_of(key) for role, key in ROLES.items()}
    ends = [named["eos_token"], vocabulary.spelling_of("eot"), vocabulary.spelling_of("eom")]
    spelled = [token for token in vocabulary.tokens if token in END_SPELLINGS]
    asked = vocabulary.flag("add_bos_token")
    return TokenizerSettings(
        named={role: token for role, token in named.items() if token},
        ends=tuple(dict.fromkeys(token for token in (*ends, *spelled) if token)),
        add_bos=bool(named["bos_token"]) and (adds_bos if asked is None else asked),
    )


def _byte_level_bpe(vocabulary: Vocabulary, metadata: Mapping[str, object]) -> tuple[Json, bool]:
    """The content of a `tokenizer.json`, and whether a text begins with the begin token where no key says so."""
    pre = metadata.get("tokenizer.ggml.pre", "default")
    splitting = SPLITTINGS.get(pre) if isinstance(pre, str) else None
    if splitting is None:
        raise vocabulary.refusal(
            f"the tokenizer splits text in the way {str(pre)[:40]!r}, which is not known; expected one of "
            f"{', '.join(SPLITTINGS)}"
        )
    rows = enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": splitting.ignore_merges,
        "vocab": {token: token_id for token_id, (token, kind) in rows if kind != UNUSED},
        "merges": [merge.split(" ") for merge in vocabulary.strings("merges")],
    }
    return {
        "version": "1.0",
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": {"type": splitting.normalizer} if splitting.normalizer else None,
        "pre_tokenizer": splitting.pre_tokenizer,
        "decoder": _byte_level(True),
        "model": model,
    }, splitting.adds_bos


def _sentencepiece(vocabulary: Vocabulary, metadata: Mapping[str, object]) -> tuple[Json, bool]:
    """As `_byte_level_bpe`, from pieces and scores."""
    if sum(len(token) ** 2 for token in vocabulary.tokens) > MAX_MERGE_CHECK:
        raise vocabulary.refusal("its tokens are too long to search them for merges")
    rows = zip(vocabulary.tokens, vocabulary.scores(), vocabulary.kinds, strict=True)
    model = sentencepiece.SentencePieceModel(
        [sentencepiece.Piece(*row) for row in rows],
        is_bpe=True,
        byte_fallback=BYTE in vocabulary.kinds,
        add_dummy_prefix=vocabulary.flag("add_space_prefix") is not False,
        remove_extra_whitespaces=vocabulary.flag("remove_extra_whitespaces") is True,
        charsmap=b"",
        bos_id=None,
        eos_id=None,
    )
    return {**sentencepiece.to_hub(model), "added_tokens": vocabulary.added_tokens()}, True


KINDS = {"gpt2": _byte_level_bpe, "llama": _sentencepiece}
