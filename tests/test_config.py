"""`LlamaConfig` against transformers' own configuration class, and its refusals."""

import json

import pytest
import transformers

from llama_core.config import NAMED_CONFIGS, ConfigError, LlamaConfig

LLAMA_3_1 = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009], "tie_word_embeddings": False,
}
SCALING = {
    "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
OLD = {**LLAMA_3_1, "rope_theta": 500000.0, "rope_scaling": SCALING, "torch_dtype": "bfloat16"}
NEW = {**LLAMA_3_1, "rope_parameters": {**SCALING, "rope_theta": 500000.0}, "dtype": "bfloat16"}


def test_both_dialects_say_the_same():
    assert LlamaConfig.from_dict(OLD) == LlamaConfig.from_dict(NEW)
    config = LlamaConfig.from_dict(OLD)
    assert (config.rope_theta, config.rope_scaling.factor, config.dtype) == (500000.0, 8.0, "bfloat16")
    assert config.eos_token_id == (128001, 128008, 128009)


def test_absent_keys_have_the_defaults_of_transformers():
    ours, theirs = LlamaConfig.from_dict({"model_type": "llama"}), transformers.LlamaConfig()
    for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                 "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings",
                 "bos_token_id", "head_dim", "initializer_range"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.eos_token_id == (theirs.eos_token_id,)
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"]


@pytest.mark.parametrize("config", NAMED_CONFIGS.values(), ids=NAMED_CONFIGS)
def test_json_and_back(config):
    assert LlamaConfig.from_json(config.to_json()) == config


def test_transformers_reads_what_we_write():
    theirs = transformers.LlamaConfig(**json.loads(LlamaConfig.from_dict(OLD).to_json()))
    assert theirs.rope_parameters["rope_type"] == "llama3" and theirs.rope_parameters["rope_theta"] == 500000.0
    assert theirs.num_key_value_heads == 8 and theirs.eos_token_id == [128001, 128008, 128009]


def test_ffn_width_is_the_configs_not_four_times_the_model():
    """The seed document computed 4 × dim."""
    assert LlamaConfig.from_dict(OLD).intermediate_size == 14336


@pytest.mark.parametrize(("key", "value", "words"), [
    ("hidden_size", -1, "hidden_size is -1"),
    ("hidden_size", 4096.5, "hidden_size is 4096.5"),
    ("num_hidden_layers", "32", "num_hidden_layers is '32'"),
    ("vocab_size", True, "vocab_size is True"),
    ("num_key_value_heads", 5, "not a multiple of num_key_value_heads 5"),
    ("num_attention_heads", 24, "num_attention_heads 24"),
    ("head_dim", 127, "head_dim 127 is odd"),
    ("rms_norm_eps", 0, "rms_norm_eps is 0"),
    ("eos_token_id", 128256, "128256"),
    ("rope_scaling", {"rope_type": "dream"}, "'dream' is not supported"),
    ("rope_scaling", {"rope_type": "linear"}, "factor is None"),
    ("architectures", ["GPT2LMHeadModel"], "'GPT2LMHeadModel' is not supported"),
    ("hidden_act", "gelu", "'gelu' is not supported"),
    ("attention_bias", "yes", "attention_bias is 'yes'; expected true or false"),
    ("quantization_config", {"quant_method": "gptq"}, "quantised"),
])
def test_what_model_py_cannot_compute_is_refused_by_name(key, value, words, unchecked_types):
    with pytest.raises(ConfigError, match=words):
        LlamaConfig.from_dict({**OLD, key: value})


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_what_is_not_a_json_object_is_refused(text):
    with pytest.raises(ConfigError, match="download it again"):
        LlamaConfig.from_json(text)
