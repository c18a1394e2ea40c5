"""A folder → a `Model`: configuration, weights from safetensors, tokenizer, chat template, generation defaults.

Everything is checked against the configuration from the files' headers before memory is taken for weights. Weights in
other formats are never opened: a pickle can run code.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from llama_core.checkpoint import hub, memory_plan
from llama_core.checkpoint.model import Model
from llama_core.checkpoint.safetensors_reader import FORMATS, Stored, read_tensors, stored_tensors
from llama_core.model.checks import quote_value
from llama_core.model.config import NAMED_CONFIGS, ConfigError, LlamaConfig
from llama_core.model.parameter_table import Placement
from llama_core.model.params import Params, build_params, hub_tensors, init_model_params
from llama_core.runtime.files import ModelFileError, read_json, read_text
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizer.chat_template import Chat
from llama_core.tokenizer.loading import load_tokenizer
from llama_core.tokenizer.random_words import random_tokenizer
from llama_core.tokenizer.tokenizer import Tokenizer

DTYPES, AUTO = ("float32", "bfloat16", "float16"), "auto"
WEIGHTS, INDEX = hub.WEIGHTS
RANDOM = "random:"

Progress = Callable[[int, int], None]


class CheckpointError(ModelFileError):
    """A checkpoint that cannot be loaded; one line: file, tensor or key, found, expected, what to do."""


def load_checkpoint(
    name: str | Path,
    dtype: str = "float32",
    progress: Progress | None = None,
    *,
    check: Callable[[LlamaConfig, str], None] | None = None,
    download: Progress | None = None,
) -> Model:
    """The model of a folder, a Hub id (`name/repo`, `name/repo@revision`) or `random:NAME`, weights in `dtype`.

    `dtype` "auto" is what this machine computes best. `progress(done, total)` counts tensors, `download(done, total)`
    megabytes. `check(config, dtype)` may raise before weights are fetched or memory is taken.

    Raises `HubError` if it cannot be found, `ConfigError`, `ModelFileError` or `ChatError` if it cannot be used.
    """
    if dtype not in (*DTYPES, AUTO):
        raise CheckpointError(f"dtype is {dtype!r}; expected {' or '.join((*DTYPES, AUTO))}")
    dtype = memory_plan.best_dtype(jax.devices()[0]) if dtype == AUTO else dtype
    allowed = check or (lambda config, dtype: None)
    if str(name).startswith(RANDOM):
        return _random_model(str(name), dtype, allowed)
    located = hub.resolve(str(name), lambda folder: allowed(_read_configs(folder)[0], dtype), download)
    return _load_folder(located.folder, located.name, dtype, progress)


def load_shape(folder: Path) -> tuple[LlamaConfig, Tokenizer, Chat]:
    """All of a folder's model but its weights, which need not be there. Raises what `load_checkpoint` raises."""
    config, _ = _read_configs(folder)
    tokenizer = _read_tokenizer(folder, config)
    return config, tokenizer, Chat.from_folder(folder, tokenizer)


def _random_model(name: str, dtype: str, allowed: Callable[[LlamaConfig, str], None]) -> Model:
    config = NAMED_CONFIGS.get(name.removeprefix(RANDOM))
    if config is None:
        known = ", ".join(RANDOM + shape for shape in NAMED_CONFIGS)
        raise CheckpointError(f"there is no model {name}; the random ones are {known}")
    allowed(config, dtype)
    tokenizer = random_tokenizer(config.vocab_size, config.bos_token_id, config.eos_token_id)
    params = init_model_params(jax.random.key(0), config, jnp.dtype(dtype))
    return Model(name, config, params, tokenizer, Chat(tokenizer), is_random=True)


def _load_folder(folder: Path, name: str, dtype: str, progress: Progress | None) -> Model:
    config, defaults = _read_configs(folder)
    places = _find_tensors(folder, config)
    _, tokenizer, chat = load_shape(folder)
    return Model(name, config, _read_params(config, places, dtype, progress), tokenizer, chat, defaults)


def _read_configs(folder: Path) -> tuple[LlamaConfig, SamplingParams]:
    """`config.json`, and what `generation_config.json` says over it: end tokens and sampling."""
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} has no config.json; give the folder of a model in the Hub's format")
    config = LlamaConfig.from_json(read_text(path))
    generation_path = folder / "generation_config.json"
    values = read_json(generation_path) if generation_path.is_file() else {}
    eos = values.get("eos_token_id")
    try:
        if eos is not None:
            config = dataclasses.replace(config, eos_token_id=tuple(eos) if isinstance(eos, list) else (eos,))
        return config, _sampling_defaults(values)
    except (ConfigError, ValueError) as problem:
        raise CheckpointError(f"{generation_path}: {problem}; correct or remove it") from None


def _sampling_defaults(values: dict) -> SamplingParams:
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    given = {name: values[name] for name in names if values.get(name) is not None}
    return SamplingParams(**given | ({"temperature": 0.0} if values.get("do_sample") is False else {}))


def _read_tokenizer(folder: Path, config: LlamaConfig) -> Tokenizer:
    path = next((folder / name for name in hub.TOKENIZERS if (folder / name).is_file()), None)
    if path is None:
        raise CheckpointError(f"{folder} has no tokenizer; expected {' or '.join(hub.TOKENIZERS)}")
    tokenizer = load_tokenizer(path)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{path} has {tokenizer.vocab_size} tokens, config.json says {config.vocab_size}; the two are from "
            "different models"
        )
    return tokenizer if tokenizer.bos_id is not None else dataclasses.replace(tokenizer, bos_id=config.bos_token_id)


def _find_tensors(folder: Path, config: LlamaConfig) -> dict[str, Stored]:
    """Where each tensor lies; all of them exist, and have the shapes that the configuration asks for."""
    files = _weight_files(folder)
    places, shapes = {}, dict(hub_tensors(config))
    for stored in (stored for path in files for stored in stored_tensors(path)):
        if stored.name in shapes:
            _check_tensor(stored, shapes[stored.name])
            places[stored.name] = stored
        elif not _may_be_ignored(stored.name, config):
            raise CheckpointError(
                f"{stored.path.name}: tensor {quote_value(stored.name)} is not part of the "
                f"{config.num_hidden_layers}-layer {config.model_type} that config.json describes; the "
                "file and the config are from different models"
            )
    missing = [name for name in shapes if name not in places]
    if missing:
        raise CheckpointError(
            f"{files[0].name if len(files) == 1 else folder}: tensor {missing[0]} is missing "
            f"({len(missing)} of {len(shapes)} are); download the model again"
        )
    return places


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pth", ".pt", ".gguf"))
        found = f"only {others[0]}" if others else "no weights"
        raise CheckpointError(
            f"{folder} has {found}; weights are read from safetensors alone (a pickle can run code): get {WEIGHTS}"
        )
    names = hub.weight_names(folder)
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing, {INDEX} asks for it; download the model again")
    return [folder / name for name in names]


def _check_tensor(stored: Stored, expected: tuple[int, ...]) -> None:
    if stored.shape != expected:
        raise CheckpointError(
            f"{stored.path.name}: tensor {stored.name} is {list(stored.shape)}, config.json says {list(expected)}; the "
            "file and the config are from different models"
        )
    if stored.format not in FORMATS:
        raise CheckpointError(
            f"{stored.path.name}: tensor {stored.name} is stored as {stored.format}, expected {', '.join(FORMATS)}; "
            "choose the unquantised repository of this model"
        )


def _may_be_ignored(name: str, config: LlamaConfig) -> bool:
    """Rotary tables that old checkpoints carry, and the copy of the embedding that some tied ones do."""
    return name.endswith("rotary_emb.inv_freq") or (name == "lm_head.weight" and config.tie_word_embeddings)


def _read_params(config: LlamaConfig, places: dict[str, Stored], dtype: str, progress: Progress | None) -> Params:
    done = 0

    def read(placement: Placement) -> jax.Array:
        nonlocal done
        stored = [places[name] for name in placement.tensors]
        stacked = read_tensors(stored, dtype, placement.groups).reshape(placement.shape)
        stacked = jax.device_put(stacked).block_until_ready()
        done += len(stored)
        if progress is not None:
            progress(done, len(places))
        return stacked

    return build_params(config, read)
