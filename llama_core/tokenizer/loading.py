"""`load_tokenizer`: a tokenizer file → `Tokenizer`. The content of the file decides which reader it gets."""

from dataclasses import replace
from pathlib import Path

from llama_core.runtime.files import ModelFileError, read_bytes, read_json
from llama_core.tokenizer import sentencepiece
from llama_core.tokenizer.hub_json import hub_tokenizer
from llama_core.tokenizer.tiktoken_ranks import meta_tokenizer, parse_ranks
from llama_core.tokenizer.tokenizer import Tokenizer, TokenizerError


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json` (Hub) or `tokenizer.model` (Meta's tiktoken ranks, or SentencePiece).

    The begin and end tokens are those that a `tokenizer_config.json` in the same folder names. Raises `ModelFileError`.
    """
    path = Path(path)
    try:
        return _read_tokenizer(path)
    except ModelFileError:
        raise
    except Exception as problem:  # tiktoken and tokenizers raise bare Exceptions
        raise TokenizerError(f"{path} is not a tokenizer that can be used ({problem}); download it again") from problem


def _read_tokenizer(path: Path) -> Tokenizer:
    if path.suffix == ".json":
        return _with_named_bos_eos(hub_tokenizer(read_json(path), path), path)
    data = read_bytes(path)
    ranks = parse_ranks(data)
    if ranks:
        return meta_tokenizer(ranks)
    model = sentencepiece.parse(data)
    if model is None:
        raise TokenizerError(f"{path} holds neither tiktoken ranks nor a SentencePiece model; download it again")
    return _with_named_bos_eos(_sentencepiece_tokenizer(model, path), path)


def _sentencepiece_tokenizer(model: sentencepiece.SentencePieceModel, path: Path) -> Tokenizer:
    if not model.is_bpe:
        raise TokenizerError(f"{path}: only SentencePiece models of the BPE kind are supported; Llama uses no other")
    tokenizer = hub_tokenizer(sentencepiece.to_hub(model), path)
    return replace(tokenizer, bos_id=model.bos_id, eos_ids=() if model.eos_id is None else (model.eos_id,))


def _with_named_bos_eos(tokenizer: Tokenizer, path: Path) -> Tokenizer:
    """The tokenizer with the begin and end tokens that the `tokenizer_config.json` in the same folder names."""
    config_path = path.with_name("tokenizer_config.json")
    if not config_path.is_file():
        return tokenizer
    values = read_json(config_path)

    def named_id(key: str) -> int | None:
        token = values.get(key)
        content = token.get("content") if isinstance(token, dict) else token
        return None if content is None else tokenizer.special_tokens.get(content)

    bos, eos = named_id("bos_token"), named_id("eos_token")
    return replace(
        tokenizer,
        bos_id=tokenizer.bos_id if bos is None else bos,
        eos_ids=tokenizer.eos_ids if eos is None else (eos,),
        begins_with_bos=values.get("add_bos_token") is not False,
    )
