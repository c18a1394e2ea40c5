"""`random:NAME`: a model of a named shape with random weights, made without any file."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from llama_core.checkpoint.layout import CheckpointError
from llama_core.checkpoint.memory_plan import NONE
from llama_core.checkpoint.model import Model
from llama_core.model.config import NAMED_CONFIGS, LlamaConfig
from llama_core.model.mesh.sharding import place
from llama_core.model.parameter_table import Placement
from llama_core.model.params import init_model_params
from llama_core.model.quantization import ROUNDINGS, QuantizedMatrix
from llama_core.tokenizer.chat_template import Chat
from llama_core.tokenizer.random_words import random_tokenizer

PREFIX = "random:"


def is_random_name(name: str) -> bool:
    """Whether a model's name asks for random weights."""
    return name.startswith(PREFIX)


def random_config(name: str) -> LlamaConfig:
    """The configuration of `random:NAME`. Raises `CheckpointError` for a shape that has no name."""
    config = NAMED_CONFIGS.get(name.removeprefix(PREFIX))
    if config is None:
        known = ", ".join(PREFIX + shape for shape in NAMED_CONFIGS)
        raise CheckpointError(f"there is no model {name}; the random ones are {known}")
    return config


def random_model(name: str, dtype: str, quantize: str = NONE, devices: int = 1) -> Model:
    """The model `random:NAME`, cut over so many devices; the same weights each time. Raises `CheckpointError` as
    `random_config` does."""
    config = random_config(name)
    tokenizer = random_tokenizer(config.vocab_size, config.bos_token_id, config.eos_token_id)
    rounding = ROUNDINGS.get(quantize)

    def finish(placement: Placement, weight: Array) -> Array | QuantizedMatrix:
        if rounding is None or not placement.row.may_be_quantized:
            return place(placement, weight, devices)
        small = dataclasses.replace(rounding.round(np.asarray(weight, np.float32)), dtype=dtype)
        return place(placement, small, devices)

    params = init_model_params(jax.random.key(0), config, jnp.dtype(dtype), finish)
    kept = quantize if rounding else NONE
    return Model(name, name, config, params, tokenizer, Chat(tokenizer), is_random=True, quantize=kept)
