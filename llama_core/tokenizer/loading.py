"""`load_tokenizer`: a tokenizer file → `Tokenizer`. The content of the file decides which reader it gets."""

from dataclasses import replace
from pathlib import Path

from llama_core.runtime.files import read_bytes, read_json
from llama_core.tokenizer import sentencepiece
from llama_core.tokenizer.hub_json import hub_tokenizer
from llama_core.tokenizer.rust_panics import translate_failures
from llama_core.tokenizer.settings import TokenizerSettings, read_settings
from llama_core.tokenizer.tiktoken_ranks import meta_tokenizer, parse_ranks
from llama_core.tokenizer.tokenizer import Tokenizer, TokenizerError


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json` (Hub) or `tokenizer.model` (Meta's tiktoken ranks, or SentencePiece).

    Added tokens and the roles of tokens are also taken from the files beside it (`settings.py`). Raises
    `ModelFileError`.
    """
    path = Path(path)
    with translate_failures(path):
        return _read_tokenizer(path)


def _read_tokenizer(path: Path) -> Tokenizer:
    settings = read_settings(path.parent)
    if path.suffix == ".json":
        return with_roles(hub_tokenizer(read_json(path), path, settings), settings)
    data = read_bytes(path)
    ranks = parse_ranks(data)
    if ranks:
        return with_roles(meta_tokenizer(ranks), settings)
    model = sentencepiece.parse(data)
    if model is None:
        raise TokenizerError(f"{path} holds neither tiktoken ranks nor a SentencePiece model; download it again")
    return with_roles(_sentencepiece_tokenizer(model, path, settings), settings)


def _sentencepiece_tokenizer(
    model: sentencepiece.SentencePieceModel, path: Path, settings: TokenizerSettings
) -> Tokenizer:
    if not model.is_bpe:
        raise TokenizerError(f"{path}: only SentencePiece models of the BPE kind are supported; Llama uses no other")
    tokenizer = hub_tokenizer(sentencepiece.to_hub(model), path, settings)
    return replace(
        tokenizer,
        bos_id=model.bos_id,
        eos_ids=() if model.eos_id is None else (model.eos_id,),
        begins_with_bos=settings.add_bos is not False and not settings.names_no_bos,
    )


def with_roles(tokenizer: Tokenizer, settings: TokenizerSettings) -> Tokenizer:
    """The tokenizer with the begin and end tokens that the settings name. The first end is the one that templates get;
    the others are ends as well."""
    named = {role: spelling for role, spelling in settings.named.items() if spelling in tokenizer.special_tokens}
    ends = [tokenizer.special_tokens[spelling] for spelling in settings.ends if spelling in tokenizer.special_tokens]
    bos = named.get("bos_token")
    return replace(
        tokenizer,
        bos_id=tokenizer.bos_id if bos is None else tokenizer.special_tokens[bos],
        eos_ids=tuple(dict.fromkeys((*ends, *tokenizer.eos_ids))),
        begins_with_bos=tokenizer.begins_with_bos and settings.add_bos is not False,
        role_tokens=named,
    )
