"""The door of this room: a folder, a GGUF file, a Hub id or `random:NAME` → a `Model`.

Everything is checked against the configuration, from the headers of the files, before memory is taken for weights.
Weights in other formats than safetensors and GGUF are never opened: a pickle can run code.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from llama_core.checkpoint import hub
from llama_core.checkpoint.configs import read_configs
from llama_core.checkpoint.find_tensors import find_tensors
from llama_core.checkpoint.gguf.open import gguf_weight_bytes, open_gguf, read_gguf_config
from llama_core.checkpoint.hub import Progress
from llama_core.checkpoint.identity import folder_id, gguf_id
from llama_core.checkpoint.layout import TOKENIZERS, CheckpointError, require_whole, tokenizer_path
from llama_core.checkpoint.memory_plan import AUTO, NONE, require_room_for_weights, resolve_dtype, resolve_quantize
from llama_core.checkpoint.model import Model
from llama_core.checkpoint.random_model import is_random_name, random_config, random_model
from llama_core.checkpoint.read_tensors import StoredTensor, describe_formats, read_tensors
from llama_core.kernels import prepare_kernels
from llama_core.model.checks import quote_value
from llama_core.model.config import LlamaConfig
from llama_core.model.parameter_table import Placement
from llama_core.model.params import Params, build_params
from llama_core.model.quantization import ROUNDINGS, QuantizedMatrix, stack_rows
from llama_core.sampling.params import MAX_END_TOKENS, SamplingParams
from llama_core.tokenizer.chat_template import Chat
from llama_core.tokenizer.gguf_vocabulary import gguf_template, gguf_tokenizer
from llama_core.tokenizer.loading import load_tokenizer
from llama_core.tokenizer.tokenizer import Tokenizer

Check = Callable[[LlamaConfig, str], None]

DTYPES = ("float32", "bfloat16", "float16")


def load_checkpoint(
    name: str | Path,
    dtype: str = "float32",
    progress: Progress | None = None,
    *,
    quantize: str = NONE,
    kernels: str = "auto",
    check: Check | None = None,
    download: Progress | None = None,
) -> Model:
    """The model of a folder, a GGUF file, a Hub id or `random:NAME`, with weights in `dtype`.

    Hub ids are `name/repo` and `name/repo@revision`; of a repository of GGUF files `name/repo:CHOICE` takes one, by its
    quantisation (`Q4_K_M`) or its name.

    `dtype` "auto" is the number format that suits the first device best. `quantize` rounds the matrices to "bf16",
    "int8" (for GPUs: a scale a row), "q8" (a scale for each 32 numbers) or "q4" while they are read, each by itself;
    "auto": to "q8" if that is faster here. What a GGUF file has in small numbers already then stays as it is; with
    "none" all matrices are in `dtype`. `kernels` says whether native kernels
    read weights that are smaller than float32 ("auto", "on", "off", see `prepare_kernels`).

    `progress(done, total)` counts tensors, `download(done, total)` megabytes. `check(config, dtype)` may raise to
    refuse the model before its weights are downloaded or memory is taken for them.

    Raises `HubError` if the model cannot be found, `ConfigError`, `ModelFileError` or `ChatError` if it cannot be used,
    `KernelError` for `kernels` "on" without kernels.
    """
    dtype, quantize, note = _choose_formats(dtype, quantize, kernels)
    check = check or (lambda config, dtype: None)
    if is_random_name(str(name)):
        check(random_config(str(name)), dtype)
        model = random_model(str(name), dtype, quantize)
    else:
        located = hub.resolve(str(name), functools.partial(_look, check, dtype, quantize), download)
        opened = _open_gguf(located) if located.gguf else _open_folder(located)
        check(opened.config, dtype)
        model = _read_model(located, opened, dtype, quantize, progress)
    return dataclasses.replace(model, notes=(*model.notes, *note))


def _look(check: Check, dtype: str, quantize: str, located: hub.Located) -> None:
    """What is checked before weights are downloaded."""
    check(read_shape(located), dtype)
    if located.gguf:
        size = gguf_weight_bytes(located.gguf, dtype, quantize)
        require_room_for_weights(size, dtype if quantize == NONE else "blocks of small numbers")


def read_shape(located: hub.Located) -> LlamaConfig:
    """The configuration of a model whose weights need not be there. Raises `ConfigError`, `ModelFileError`."""
    return read_gguf_config(located.gguf) if located.gguf else read_configs(located.folder).config


def _choose_formats(dtype: str, quantize: str, kernels: str) -> tuple[str, str, list[str]]:
    """The number format and the rounding of the weights on this device, with kernels that read them where there can be
    some, and a note if there are none."""
    if dtype not in (*DTYPES, AUTO):
        raise CheckpointError(f"dtype is {dtype!r}; expected {' or '.join((*DTYPES, AUTO))}")
    if quantize not in (NONE, AUTO, *ROUNDINGS):
        raise CheckpointError(f"quantize is {quantize!r}; expected {' or '.join((NONE, AUTO, *ROUNDINGS))}")
    dtype = resolve_dtype(dtype, jax.devices()[0])
    note = prepare_kernels(kernels) if quantize != NONE or dtype == "bfloat16" else None
    return dtype, resolve_quantize(quantize), [] if note is None else [note]


def load_shape(folder: Path) -> tuple[LlamaConfig, Tokenizer, Chat]:
    """All of a folder's model but its weights, which need not be there. Raises what `load_checkpoint` raises."""
    require_whole(folder)
    config = read_configs(folder).config
    tokenizer, chat = _read_tokenizer(folder, config)
    return _with_ends(config, chat), tokenizer, chat


@dataclasses.dataclass(frozen=True)
class _Opened:
    """All of a checkpoint but its weights, and where these lie. `id` is made from the content of the files."""

    id: str
    config: LlamaConfig
    tensors: Mapping[str, StoredTensor]
    tokenizer: Tokenizer
    chat: Chat
    defaults: SamplingParams = SamplingParams()
    notes: tuple[str, ...] = ()


def _open_folder(located: hub.Located) -> _Opened:
    configs = read_configs(located.folder)
    config, tensors = find_tensors(located.folder, configs.config)
    tokenizer, chat = _read_tokenizer(located.folder, config)
    return _Opened(
        folder_id(located.folder) if located.id is None else located.id,
        config,
        tensors,
        tokenizer,
        chat,
        configs.defaults,
        configs.notes,
    )


def _open_gguf(located: hub.Located) -> _Opened:
    opened, name = open_gguf(located.gguf), located.gguf[0].file.name
    whole, notes = gguf_tokenizer(name, opened.metadata)
    tokenizer = _fitted(whole, opened.config)
    chat = Chat.checked(tokenizer, gguf_template(opened.metadata))
    _require_spare_ids(name, "its weights have", whole, opened.config.vocab_size, chat.template or "")
    model_id = gguf_id(located.name, opened.metadata, opened.tensors.values())
    config = dataclasses.replace(opened.config, bos_token_id=tokenizer.bos_id)
    return _Opened(model_id, config, opened.tensors, tokenizer, chat, notes=notes)


def _read_model(located: hub.Located, opened: _Opened, dtype: str, quantize: str, progress: Progress | None) -> Model:
    return Model(
        located.id or opened.id,
        located.name,
        _with_ends(opened.config, opened.chat),
        _read_params(opened.config, opened.tensors, dtype, quantize, progress),
        opened.tokenizer,
        opened.chat,
        opened.defaults,
        notes=(*located.notes, *opened.notes),
        quantize=quantize,
        stored=describe_formats(opened.tensors.values()),
    )


def _with_ends(config: LlamaConfig, chat: Chat) -> LlamaConfig:
    """The configuration with the ends of the tokenizer and the chat template besides its own. Fine-tunes often keep the
    `eos_token_id` of their base model, and would write on after their turn."""
    new = [
        token_id for token_id in chat.end_ids if token_id < config.vocab_size and token_id not in config.eos_token_id
    ]
    return dataclasses.replace(config, eos_token_id=(*config.eos_token_id[: MAX_END_TOKENS - len(new)], *new))


def _read_tokenizer(folder: Path, config: LlamaConfig) -> tuple[Tokenizer, Chat]:
    path = tokenizer_path(folder)
    if path is None:
        raise CheckpointError(f"{folder} has no tokenizer; expected {' or '.join(TOKENIZERS)}")
    whole = load_tokenizer(path)
    tokenizer = _fitted(whole, config)
    chat = Chat.from_folder(folder, tokenizer)
    _require_spare_ids(path, "config.json says", whole, config.vocab_size, chat.template or "")
    return tokenizer, chat


def _fitted(tokenizer: Tokenizer, config: LlamaConfig) -> Tokenizer:
    """The tokenizer as the model can use it: with no more tokens than it has, and with its begin token."""
    if tokenizer.vocab_size > config.vocab_size:
        tokenizer = _within(tokenizer, config.vocab_size)
    bos_id = config.bos_token_id if tokenizer.bos_id is None else tokenizer.bos_id
    return dataclasses.replace(tokenizer, bos_id=bos_id, model_vocab_size=config.vocab_size)


def _require_spare_ids(place: Path | str, source: str, tokenizer: Tokenizer, vocab_size: int, template: str) -> None:
    """Raises `CheckpointError` unless the ids that the model does not know are special tokens that no conversation
    needs, such as the `<pad>` that was added to many tokenizers for training."""
    spare = {token_id: marker for marker, token_id in tokenizer.special_tokens.items() if token_id >= vocab_size}
    if any(
        tokenizer.token_bytes[token_id] for token_id in range(vocab_size, tokenizer.vocab_size) if token_id not in spare
    ):
        raise CheckpointError(
            f"{place} has {tokenizer.vocab_size} tokens, {source} {vocab_size}; the two are from different models"
        )
    needed = next((token_id for token_id, marker in spare.items() if marker in template), None)
    if needed is not None:
        raise CheckpointError(
            f"{place}: the chat template uses {quote_value(spare[needed])}, which is token {needed}, {source} "
            f"{vocab_size} tokens; the two are from different models"
        )


def _within(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
    """The tokenizer without the tokens that the model does not know."""
    kept = {marker: token_id for marker, token_id in tokenizer.special_tokens.items() if token_id < vocab_size}
    bos_id = tokenizer.bos_id if tokenizer.bos_id is not None and tokenizer.bos_id < vocab_size else None
    return dataclasses.replace(
        tokenizer,
        token_bytes=tokenizer.token_bytes[:vocab_size],
        special_tokens=kept,
        bos_id=bos_id,
        eos_ids=tuple(token_id for token_id in tokenizer.eos_ids if token_id < vocab_size),
        added_token_flags={marker: flags for marker, flags in tokenizer.added_token_flags.items() if marker in kept},
    )


def _read_params(
    config: LlamaConfig, places: Mapping[str, StoredTensor], dtype: str, quantize: str, progress: Progress | None
) -> Params:
    done = 0

    def read(placement: Placement) -> jax.Array | QuantizedMatrix:
        nonlocal done
        stored = [places[name] for name in placement.tensors]
        if placement.row.may_be_quantized and quantize in ROUNDINGS:
            weight: Any = placement.stack_quantized([_read_small(one, dtype, quantize) for one in stored])
        else:
            weight = read_tensors(stored, dtype, placement.groups).reshape(placement.shape)
        weight = jax.block_until_ready(jax.device_put(weight))
        done += len(stored)
        if progress is not None:
            progress(done, len(places))
        return weight

    return build_params(config, read)


def _read_small(stored: StoredTensor, dtype: str, quantize: str) -> QuantizedMatrix:
    """A matrix as small numbers, a few rows at a time: it is never in memory as floating-point numbers."""
    parts = [rows.read_small(quantize) for rows in stored.row_ranges()]
    return dataclasses.replace(stack_rows(parts, 1, stored.shape), dtype=dtype)
