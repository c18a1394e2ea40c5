"""The door of this room: a folder, a GGUF file, a Hub id or `random:NAME` → a `Model`.

Everything is checked against the configuration, from the headers of the files, before memory is taken for weights.
Weights in other formats than safetensors and GGUF are never opened: a pickle can run code.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import jax

from llama_core.checkpoint import hub
from llama_core.checkpoint.configs import read_configs
from llama_core.checkpoint.find_tensors import find_tensors
from llama_core.checkpoint.gguf.open import gguf_weight_bytes, open_gguf, read_gguf_config
from llama_core.checkpoint.hub import Progress
from llama_core.checkpoint.identity import folder_id, gguf_id
from llama_core.checkpoint.layout import TOKENIZERS, CheckpointError, require_whole, tokenizer_path
from llama_core.checkpoint.memory_plan import (
    AUTO,
    NONE,
    SHORTEST_CONTEXT,
    Plan,
    require_room_for_weights,
    resolve_dtype,
)
from llama_core.checkpoint.model import Model
from llama_core.checkpoint.random_model import is_random_name, random_config, random_model
from llama_core.checkpoint.read_tensors import StoredTensor, describe_formats
from llama_core.checkpoint.weights.forms import prepare, read_params, resolve_quantize, weight_bytes
from llama_core.model.checks import quote_value
from llama_core.model.config import LlamaConfig
from llama_core.model.mesh.sharding import choose_devices, describe_whole
from llama_core.model.quantization import ROUNDINGS
from llama_core.sampling.params import MAX_END_TOKENS, SamplingParams
from llama_core.tokenizer.chat_template import Chat
from llama_core.tokenizer.gguf_vocabulary import gguf_template, gguf_tokenizer, gguf_tool_template
from llama_core.tokenizer.loading import load_tokenizer
from llama_core.tokenizer.tokenizer import Tokenizer

Check = Callable[[Plan], None]

DTYPES = ("float32", "bfloat16", "float16")


def load_checkpoint(
    name: str | Path,
    dtype: str = "float32",
    progress: Progress | None = None,
    *,
    quantize: str = NONE,
    kernels: str = "auto",
    mesh: int = 1,
    check: Check = lambda plan: None,
    download: Progress | None = None,
    compiling: Progress | None = None,
) -> Model:
    """The model of a folder, a GGUF file, a Hub id or `random:NAME`, with weights in `dtype`.

    Hub ids are `name/repo` and `name/repo@revision`; of a repository of GGUF files `name/repo:CHOICE` takes one, by its
    quantisation (`Q4_K_M`) or its name. `dtype` "auto" is what suits the first device best.

    `quantize` rounds the matrices to "bf16", "int8" (for GPUs: a scale a row), "q8" (one for each 32 numbers) or
    "q4" while they are read; "none": to nothing; "auto": what is small in its file stays that, and nothing is
    rounded (`weights/forms.py`). `kernels`: see `prepare_kernels`. `mesh`: over how many devices the weights are
    cut (0: over all accelerators). `progress(done, total)` counts tensors, `download` megabytes, `compiling` the
    kernels. `check(plan)` may raise, with the plan of one short reply, before the model is downloaded or loaded.

    Raises `HubError` if it cannot be found, `ConfigError`, `ModelFileError` or `ChatError` if it cannot be used,
    `KernelError` for `kernels` "on" without kernels, `MeshError` for a `mesh` that cannot be.
    """
    dtype = _choose_dtype(dtype, quantize)
    if is_random_name(str(name)):
        config = random_config(str(name))
        quantize, notes = prepare(config, {}, dtype, quantize, kernels, compiling)
        check(plan := _short_plan(config, dtype, quantize, mesh))
        model = random_model(str(name), dtype, quantize, plan.devices)
    else:
        located = hub.resolve(str(name), functools.partial(_look, check, dtype, quantize, kernels, mesh), download)
        opened = _open_gguf(located) if located.gguf else _open_folder(located)
        quantize, notes = prepare(opened.config, opened.tensors, dtype, quantize, kernels, compiling)
        size = weight_bytes(opened.config, opened.tensors, dtype, quantize)
        check(plan := _short_plan(opened.config, dtype, quantize, mesh, size))
        model = _read_model(located, opened, dtype, quantize, progress, plan.devices)
    return dataclasses.replace(model, notes=(*model.notes, *notes, *describe_whole(model.config, model.devices)))


def _short_plan(config: LlamaConfig, dtype: str, quantize: str, mesh: int, size: int | None = None) -> Plan:
    """That of one short reply."""
    return Plan(config, dtype, 1, SHORTEST_CONTEXT, quantize, size, devices=choose_devices(mesh, config))


def _look(check: Check, dtype: str, quantize: str, kernels: str, mesh: int, located: hub.Located) -> None:
    """What is checked before weights are downloaded."""
    config = read_shape(located)
    quantize = resolve_quantize(quantize, config, kernels)
    size = gguf_weight_bytes(located.gguf, dtype, quantize) if located.gguf else None
    plan = _short_plan(config, dtype, quantize, mesh, size)
    check(plan)
    if located.gguf:
        require_room_for_weights(plan.params, plan.weights)


def read_shape(located: hub.Located) -> LlamaConfig:
    """The configuration of a model whose weights need not be there. Raises `ConfigError`, `ModelFileError`."""
    return read_gguf_config(located.gguf) if located.gguf else read_configs(located.folder).config


def _choose_dtype(dtype: str, quantize: str) -> str:
    """The number format on this device. Raises `CheckpointError` for words that name no format and no rounding."""
    if dtype not in (*DTYPES, AUTO):
        raise CheckpointError(f"dtype is {dtype!r}; expected {' or '.join((*DTYPES, AUTO))}")
    if quantize not in (NONE, AUTO, *ROUNDINGS):
        raise CheckpointError(f"quantize is {quantize!r}; expected {' or '.join((NONE, AUTO, *ROUNDINGS))}")
    return resolve_dtype(dtype, jax.devices()[0])


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
    chat = Chat.checked(tokenizer, gguf_template(opened.metadata), gguf_tool_template(opened.metadata))
    _require_spare_ids(name, "its weights have", whole, opened.config.vocab_size, chat.template or "")
    model_id = gguf_id(located.name, opened.metadata, opened.tensors.values())
    config = dataclasses.replace(opened.config, bos_token_id=tokenizer.bos_id)
    return _Opened(model_id, config, opened.tensors, tokenizer, chat, notes=notes)


def _read_model(
    located: hub.Located, opened: _Opened, dtype: str, quantize: str, progress: Progress | None, devices: int
) -> Model:
    return Model(
        located.id or opened.id,
        located.name,
        _with_ends(opened.config, opened.chat),
        read_params(opened.config, opened.tensors, dtype, quantize, progress, devices),
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
