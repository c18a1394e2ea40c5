"""Questions about the rules in a Hub `tokenizer.json`: how it splits text, where it adds spaces and a begin token."""

from collections.abc import Iterator
from typing import Any

from llama_core.tokenizer.settings import FLAGS, TokenizerSettings
from llama_core.tokenizer.tiktoken_ranks import GPT2_PATTERN, LLAMA3_PATTERN

Json = dict[str, Any]  # an object of the file; its form is that of huggingface/tokenizers

# tiktoken drops text that its pattern does not match, and `tokenizers` keeps it. These two match all text.
COMPLETE_PATTERNS = (GPT2_PATTERN, LLAMA3_PATTERN)
# How many characters are compared to check the merges. Llama 3's 128000 pieces need 7 million.
MAX_MERGE_CHECK = 100_000_000


def with_settings(values: Json, settings: TokenizerSettings) -> Json:
    """The content of the file, with the added tokens and the leading space that the settings beside it ask for."""
    vocabulary = values["model"]["vocab"]
    added = {row["content"]: row for row in values.get("added_tokens") or ()}
    used = {token_id: piece for piece, token_id in vocabulary.items()}
    used |= {row["id"]: content for content, row in added.items()}
    for row in [*settings.added, *_named_rows(vocabulary, settings)]:
        # An id or a spelling that the file itself knows stays as it is.
        token_id, content = row["id"], row["content"]
        if used.setdefault(token_id, content) == content and vocabulary.get(content, token_id) == token_id:
            added.setdefault(content, row)
    values = {**values, "added_tokens": sorted(added.values(), key=lambda row: row["id"])}
    if settings.add_prefix_space is False and settings.is_llama_class:
        return _without_prefix_space(values)
    return _with_space_first(values) if settings.is_llama_class and not settings.legacy else values


def _with_space_first(values: Json) -> Json:
    """The rules with a space before the first text alone, where the file has one before each stretch of text between
    markers: transformers' `LlamaTokenizer` replaces the file's rule by this one unless `legacy` is set
    (models/llama/tokenization_llama.py)."""
    normalizer, pre = values.get("normalizer"), values.get("pre_tokenizer")
    prepends = [step for step in _steps(normalizer, "normalizers") if step.get("type") == "Prepend"]
    if not prepends and not any(
        step.get("type") == "Metaspace" and _prepends(step) for step in _steps(pre, "pretokenizers")
    ):
        return values
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    return {**values, "normalizer": _without(normalizer, "normalizers", "Prepend"), "pre_tokenizer": metaspace}


def _named_rows(vocabulary: dict[str, int], settings: TokenizerSettings) -> Iterator[Json]:
    """Tokens that a role names and that the vocabulary has as a piece like any other: they are special too."""
    for content in (*settings.named.values(), *settings.ends, *settings.extra):
        if content in vocabulary and len(content) > 1:  # one character may be the only token for a byte
            yield {"id": vocabulary[content], "content": content, **dict.fromkeys(FLAGS, False), "special": True}


def tiktoken_pattern(values: Json) -> str | None:
    """The pattern that splits text before byte-level BPE; None where tiktoken would split differently."""
    pre = values.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre]) if isinstance(pre, dict) else []
    if values.get("normalizer") or not steps or steps[-1].get("type") != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return None
    if len(steps) == 1:
        return GPT2_PATTERN if steps[0].get("use_regex", True) else None
    split, last = steps[0], steps[-1]
    isolates = split.get("type") == "Split" and split.get("behavior") == "Isolated" and not split.get("invert")
    if len(steps) != 2 or not isolates or last.get("use_regex", True):
        return None
    pattern = split["pattern"].get("Regex")
    return pattern if pattern in COMPLETE_PATTERNS else None


def merges_as_tiktoken(model: Json) -> bool:
    """Whether the merges follow tiktoken's assumptions: a word of the vocabulary is one token at once
    (`ignore_merges`), every two neighbours that make a token may merge, and the smallest id merges first."""
    vocabulary = model["vocab"]
    if not model.get("ignore_merges") or sum(len(piece) ** 2 for piece in vocabulary) > MAX_MERGE_CHECK:
        return False
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    ids = [vocabulary[left + right] for left, right in merges]
    if any(before > after for before, after in zip(ids, ids[1:], strict=False)):
        return False
    possible_merges = sum(
        piece[:i] in vocabulary and piece[i:] in vocabulary for piece in vocabulary for i in range(1, len(piece))
    )
    return possible_merges == len(merges)


def without_leading_space(values: Json) -> Json:
    """The content of the file for text that does not begin the sequence: Metaspace's prepend scheme "first" puts a
    space before the sequence alone. Such a step can lie in sequences of steps."""
    return {**values, "pre_tokenizer": _never_first(values.get("pre_tokenizer"))}


def _never_first(pre: Any) -> Any:
    if not isinstance(pre, dict):
        return pre
    if pre.get("type") == "Metaspace" and pre.get("prepend_scheme") == "first":
        return {**pre, "prepend_scheme": "never"}
    if pre.get("type") == "Sequence":
        return {**pre, "pretokenizers": [_never_first(step) for step in pre.get("pretokenizers", ())]}
    return pre


def strips_space(values: Json) -> bool:
    """Whether the decoder removes a space at the start of the text."""
    return any(
        (step.get("type") == "Strip" and step.get("start") == 1)
        or (step.get("type") == "Metaspace" and _prepends(step))
        for step in _steps(values.get("decoder"), "decoders")
    )


def _prepends(metaspace: Json) -> bool:
    # Files of older versions have `add_prefix_space` instead.
    default = "never" if metaspace.get("add_prefix_space") is False else "always"
    return metaspace.get("prepend_scheme", default) != "never"


def _steps(rule: Any, key: str) -> list[Json]:
    """A rule and, of a sequence of rules, each one."""
    if not isinstance(rule, dict):
        return []
    return [found for step in rule[key] for found in _steps(step, key)] if key in rule else [rule]


def _without_prefix_space(values: Json) -> Json:
    """The rules without the space that they put before text and remove after decoding."""
    return {
        **values,
        "normalizer": _without(values.get("normalizer"), "normalizers", "Prepend"),
        "pre_tokenizer": _without(values.get("pre_tokenizer"), "pretokenizers", ""),
        "decoder": _without(values.get("decoder"), "decoders", "Strip"),
    }


def _without(rule: Any, key: str, kind: str) -> Any:
    """A rule without its steps of this kind, and with no Metaspace that prepends."""
    if not isinstance(rule, dict) or rule.get("type") == kind:
        return None
    if rule.get("type") == "Metaspace":
        return {**{name: rule[name] for name in rule if name != "add_prefix_space"}, "prepend_scheme": "never"}
    if key in rule:
        return {**rule, key: [step for step in (_without(step, key, kind) for step in rule[key]) if step is not None]}
    return rule


def adds_bos(values: Json, settings: TokenizerSettings) -> bool:
    """Whether a text without a chat template begins with the begin token, as the makers of the model have it."""
    if settings.add_bos is not None:
        return settings.add_bos
    if settings.names_no_bos:
        return False
    processor = values.get("post_processor")
    if processor:
        return any("SpecialToken" in (step.get("single") or [{}])[0] for step in _steps(processor, "processors"))
    # Without a post-processor the class decides: of ours the Llama ones add a begin token, also where none is named.
    return settings.is_llama_class or not settings.tokenizer_class
