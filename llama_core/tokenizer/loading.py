"""`load_tokenizer`: from a file to a `Tokenizer`, by what the file holds."""

from dataclasses import replace
from pathlib import Path

from llama_core.runtime.files import ModelFileError, read_bytes, read_json
from llama_core.tokenizer import sentencepiece
from llama_core.tokenizer.hub_json import hub_tokenizer
from llama_core.tokenizer.tiktoken_ranks import meta_tokenizer, parse_ranks
from llama_core.tokenizer.tokenizer import Tokenizer, TokenizerError


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json` (Hub) or `tokenizer.model` (Meta's tiktoken ranks or SentencePiece).

    Beside it, `tokenizer_config.json` is asked for the begin and end tokens. Raises `ModelFileError`.
    """
    path = Path(path)
    try:
        return _read(path)
    except ModelFileError:
        raise
    except Exception as problem:  # the two libraries raise bare Exceptions
        raise TokenizerError(f"{path} is not a tokenizer that can be used ({problem}); download it again") from problem


def _read(path: Path) -> Tokenizer:
    if path.suffix == ".json":
        return _with_named_ends(hub_tokenizer(read_json(path), path), path)
    data = read_bytes(path)
    ranks = parse_ranks(data)
    if ranks:
        return meta_tokenizer(ranks)
    pieces = sentencepiece.parse(data)
    if pieces is None:
        raise TokenizerError(f"{path} holds neither tiktoken ranks nor a SentencePiece model; download it again")
    return _with_named_ends(_from_sentencepiece(pieces, path), path)


def _from_sentencepiece(model: sentencepiece.SentencePieceModel, path: Path) -> Tokenizer:
    if not model.is_bpe:
        raise TokenizerError(f"{path}: only SentencePiece models of the BPE kind are supported; Llama uses no other")
    tokenizer = hub_tokenizer(sentencepiece.to_hub(model), path)
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
