"""`LlamaConfig` against transformers' own configuration class, and its refusals."""

import json

import pytest
import transformers

from llama_core.model.config import NAMED_CONFIGS, ConfigError, LlamaConfig

LLAMA_3_1 = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-05,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "tie_word_embeddings": False,
}
SCALING = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
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
    for name in (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
        "rms_norm_eps",
        "tie_word_embeddings",
        "bos_token_id",
        "head_dim",
        "initializer_range",
    ):
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


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
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
        ("num_hidden_layers", 10**9, "num_hidden_layers is 1000000000; expected a whole number from 1 to 1000"),
        ("vocab_size", 10**12, "vocab_size is 1000000000000; expected"),
        ("hidden_size", 10**400, "hidden_size is 1000.*[.]{3}; expected"),
        ("rms_norm_eps", 10**400, "expected a positive number"),
        ("rope_theta", 1, "rope_theta is 1; expected a number above 1"),
        ("rope_scaling", {"rope_type": ["llama3"]}, "rope_type .'llama3'. is not supported"),
        ("rope_scaling", {"full_attention": {"rope_type": "default"}}, "one object with rope_type for all layers"),
        ("rope_scaling", {**SCALING, "high_freq_factor": 1.0}, "high_freq_factor is 1.0; expected more than low_freq"),
        ("rope_scaling", {"rope_type": "yarn", "factor": "4"}, "yarn rotary scaling: factor is '4'"),
        ("partial_rotary_factor", 0.5, "partial_rotary_factor 0.5 is not supported"),
        ("architectures", ["MistralForCausalLM"], "model_type 'llama' is not that of MistralForCausalLM"),
        ("model_type", "gemma", "model_type 'gemma' is not supported; expected llama, mistral, qwen2, qwen3"),
        ("model_type", ["llama"], "is not supported"),
        ("quantization_config", {"quant_method": "gptq"}, "quantised"),
    ],
)
def test_what_model_py_cannot_compute_is_refused_by_name(key, value, words, unchecked_types):
    with pytest.raises(ConfigError, match=words):
        LlamaConfig.from_dict({**OLD, key: value})


def test_relatives_have_their_own_defaults():
    for family in ("Mistral", "Qwen2", "Qwen3"):
        theirs = getattr(transformers, f"{family}Config")()
        ours = LlamaConfig.from_dict({"model_type": theirs.model_type})
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_key_value_heads",
            "rms_norm_eps",
            "max_position_embeddings",
            "tie_word_embeddings",
            "bos_token_id",
        ):
            assert getattr(ours, name) == getattr(theirs, name), (family, name)
        assert ours.head_dim == getattr(theirs, "head_dim", 128)
        window = getattr(theirs, "sliding_window", None)
        assert [ours.window_of(layer) for layer in (0, 31)] == [window, window]


def test_heads_of_qwen3_are_not_a_share_of_the_width():
    sizes = {"model_type": "qwen3", "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8}
    assert LlamaConfig.from_dict(sizes).head_dim == transformers.Qwen3Config(**sizes).head_dim == 128


@pytest.mark.parametrize("kinds", [["chunked_attention"] * 2, ["full_attention"], "sliding_attention", [None, []], {}])
@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3"])
def test_layer_types_that_cannot_be_computed_are_refused(family, kinds, unchecked_types):
    values = {"model_type": family, "num_hidden_layers": 2, "use_sliding_window": True, "layer_types": kinds}
    with pytest.raises(ConfigError, match="layer_types is .*; expected a list of 2, one for each layer"):
        LlamaConfig.from_dict(values)


@pytest.mark.parametrize("name", ["LlamaModel", "LLaMAForCausalLM", "MistralModel", "Qwen2Model", "Qwen3Model"])
def test_a_model_saved_without_its_head_or_long_ago_is_of_its_family(name):
    family = name.removesuffix("Model").removesuffix("ForCausalLM").lower()
    config = LlamaConfig.from_dict({"architectures": [name], "model_type": family})
    assert config.model_type == LlamaConfig.from_dict({"architectures": [name]}).model_type == family


@pytest.mark.parametrize(
    ("scaling", "longest"),
    [
        ({"rope_type": "dynamic", "factor": 4.0}, 8192),
        ({"rope_type": "dynamic", "factor": 0.5}, 2048),
        ({"rope_type": "dynamic", "factor": 1e14}, 2**31 - 1),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}, 8192),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}, 2048),
        ({"rope_type": "linear", "factor": 4.0}, 2048),
        (SCALING, 2048),
        (None, 2048),
    ],
)
def test_a_conversation_may_be_as_long_as_the_rotary_scaling_is_made_for(scaling, longest):
    config = LlamaConfig.from_dict({"model_type": "llama", "max_position_embeddings": 2048, "rope_scaling": scaling})
    assert config.longest_context == longest


def test_null_is_not_the_same_as_absent_where_it_means_none():
    assert LlamaConfig.from_dict({"model_type": "mistral"}).window_of(0) == 4096
    assert LlamaConfig.from_dict({"model_type": "mistral", "sliding_window": None}).window_of(0) is None
    assert LlamaConfig.from_dict({"model_type": "mistral", "num_key_value_heads": None}).num_key_value_heads == 32


def test_biases_of_families_that_have_none_are_ignored():
    """As in transformers, where Mistral does not look at the key."""
    assert not LlamaConfig.from_dict({"model_type": "mistral", "attention_bias": True}).attention_bias


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"vocab_size": ' + "9" * 5000 + "}"])
def test_what_is_not_a_json_object_is_refused(text):
    with pytest.raises(ConfigError, match="download it again"):
        LlamaConfig.from_json(text)
