"""`config.json` and `generation_config.json` of a folder → `LlamaConfig` and the default sampling parameters."""

import dataclasses
from pathlib import Path
from typing import Any

from llama_core.checkpoint.layout import CheckpointError
from llama_core.model.config import LlamaConfig
from llama_core.runtime.files import read_json, read_text
from llama_core.sampling.params import SamplingParams

SAMPLING_KEYS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def read_config(folder: Path) -> LlamaConfig:
    """What `config.json` alone says. Raises `ConfigError`, `ModelFileError`."""
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} has no config.json; give the folder of a model in the Hub's format")
    return LlamaConfig.from_json(read_text(path))


def read_configs(folder: Path) -> tuple[LlamaConfig, SamplingParams]:
    """Both files; the end tokens of `generation_config.json` replace those of `config.json`.

    Raises `ConfigError`, `ModelFileError`.
    """
    config = read_config(folder)
    path = folder / "generation_config.json"
    values = read_json(path) if path.is_file() else {}
    eos = values.get("eos_token_id")
    try:
        if eos is not None:
            config = dataclasses.replace(config, eos_token_id=tuple(eos) if isinstance(eos, list) else (eos,))
        return config, _sampling_defaults(values)
    except ValueError as problem:
        raise CheckpointError(f"{path}: {problem}; correct or remove it") from None


def _sampling_defaults(values: dict[str, Any]) -> SamplingParams:
    given = {name: values[name] for name in SAMPLING_KEYS if values.get(name) is not None}
    return SamplingParams(**given | ({"temperature": 0.0} if values.get("do_sample") is False else {}))
