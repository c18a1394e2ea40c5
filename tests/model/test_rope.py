"""Rotary angles of every kind against transformers' own functions."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from llama_core.model import rope
from llama_core.model.config import NAMED_CONFIGS, LlamaConfig

SHAPE = {"model_type": "llama", "hidden_size": 512, "num_attention_heads": 4, "max_position_embeddings": 4096}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
SCALINGS = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "linear, legacy key": {"type": "linear", "factor": 2},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "Llama 3.1": {"rope_type": "llama3", "factor": 8.0, **LLAMA3},
    "Llama 3.2": {"rope_type": "llama3", "factor": 32.0, **LLAMA3},
    "yarn as in Qwen2.5": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
    "yarn without its trained length": {"rope_type": "yarn", "factor": 4.0},
    "yarn with its own ramp": {"rope_type": "yarn", "factor": 8.0, "beta_fast": 16, "beta_slow": 2, "truncate": False},
    "yarn with mscale": {"rope_type": "yarn", "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 1.2},
    "yarn with attention_factor": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 0.8},
    "yarn that squeezes nothing": {"rope_type": "yarn", "factor": 1.0},
}


@pytest.mark.parametrize("scaling", SCALINGS.values(), ids=SCALINGS)
@pytest.mark.parametrize("dialect", ["rope_scaling", "rope_parameters"])
def test_frequencies_are_those_of_transformers(scaling, dialect):
    values = {**SHAPE, dialect: {**scaling, "rope_theta": 50000.0}}
    config = LlamaConfig.from_dict(values)
    theirs = transformers.LlamaConfig(**{**values, dialect: dict(values[dialect])})
    inverse, factor = ROPE_INIT_FUNCTIONS[config.rope_scaling.rope_type](theirs, "cpu")
    angles = np.outer(np.arange(200), inverse.double().numpy())
    expected = factor * (np.cos(angles) + 1j * np.sin(angles))
    np.testing.assert_allclose(rope.precompute_freqs_cis(config, 200), expected, atol=2e-5)


def test_theta_comes_from_either_place():
    old, new = {**SHAPE, "rope_theta": 1e6}, {**SHAPE, "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}
    assert LlamaConfig.from_dict(old) == LlamaConfig.from_dict(new)
    assert LlamaConfig.from_dict(old).rope_theta == 1e6


def test_dynamic_angles_past_the_trained_length_are_those_of_a_sequence_that_ends_there():
    values = {**SHAPE, "max_position_embeddings": 64, "rope_scaling": {"type": "dynamic", "factor": 3.0}}
    table = rope.precompute_freqs_cis(LlamaConfig.from_dict(values), 200)
    for position in (10, 63, 64, 150, 199):
        inverse, _ = ROPE_INIT_FUNCTIONS["dynamic"](
            transformers.LlamaConfig(**values), "cpu", seq_len=torch.tensor(position + 1)
        )
        angles = position * inverse.double().numpy()
        np.testing.assert_allclose(table[position], np.cos(angles) + 1j * np.sin(angles), atol=2e-5)


def test_the_table_does_not_depend_on_its_length():
    """Else the same prompt would get other numbers in a longer cache."""
    for kind in rope.ROPE_FREQUENCIES:
        scaling = dataclasses.replace(LlamaConfig().rope_scaling, rope_type=kind, factor=2.0)
        config = dataclasses.replace(LlamaConfig(), max_position_embeddings=64, rope_scaling=scaling)
        short, long = rope.precompute_freqs_cis(config, 100), rope.precompute_freqs_cis(config, 300)
        np.testing.assert_array_equal(short, long[:100])


def test_rotary_frequencies_step_by_two():
    """theta^(−2i/E); the seed document stepped by i/E."""
    config = NAMED_CONFIGS["tiny"]
    table = rope.precompute_freqs_cis(config, 100)
    E = config.head_dim
    expected = np.outer(np.arange(100), config.rope_theta ** (-2 * np.arange(E // 2) / E))
    np.testing.assert_allclose(table, np.cos(expected) + 1j * np.sin(expected), atol=1e-6)


def test_llama3_scaling_keeps_fast_and_squeezes_slow_rotations():
    config = NAMED_CONFIGS["8B"]
    plain = np.angle(rope.precompute_freqs_cis(dataclasses.replace(config, rope_scaling=LlamaConfig().rope_scaling), 2))
    scaled = np.angle(rope.precompute_freqs_cis(config, 2))
    turns = 8192 * plain[1] / (2 * math.pi)  # within the trained length
    np.testing.assert_allclose(scaled[1][turns > 4], plain[1][turns > 4], rtol=1e-6)
    np.testing.assert_allclose(scaled[1][turns < 1], plain[1][turns < 1] / 8, rtol=1e-6)
