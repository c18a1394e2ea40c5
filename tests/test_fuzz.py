"""Files of a checkpoint, changed at random: loading works or is refused by one of our errors, in one line, in little
memory and time."""

import json
import shutil
import struct

import pytest
from checkpoints import write_checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama_core import load_checkpoint
from llama_core.checkpoint.memory_plan import MemoryShortage, require_memory
from llama_core.model.checks import ConfigError
from llama_core.runtime.files import ModelFileError
from llama_core.tokenizer.chat_template import ChatError

OURS = (ConfigError, ModelFileError, ChatError, MemoryShortage)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 1, 2**31, 2**63, 10**300, 1e308, 0.5, float("nan")])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FAST = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small sharded checkpoint; each test changes one file and puts it back."""
    path = tmp_path_factory.mktemp("fuzz")
    write_checkpoint(
        path,
        shard_size="100KB",
        num_hidden_layers=1,
        rope_parameters={
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 64,
            "rope_theta": 10000.0,
        },
    )
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2], "temperature": 0.5, "top_k": 20}))
    return path


@pytest.fixture(autouse=True)
def as_in_production(unchecked_types):
    """The tests' own type checker would refuse before our code does."""


def loads_or_is_refused(folder):
    try:
        load_checkpoint(folder, check=lambda plan: require_memory(plan, free=10**9))
    except OURS as problem:
        assert str(problem) and "\n" not in str(problem) and len(str(problem)) < 1000


def with_file(folder, name, content):
    """Load with this content of one file, and put the file back."""
    path = folder / name
    kept = path.read_bytes()
    path.write_bytes(content)
    try:
        loads_or_is_refused(folder)
    finally:
        path.write_bytes(kept)


def changed(values, path_of_keys, value):
    """A copy of nested objects with one entry replaced."""
    key, *rest = path_of_keys
    return {**values, key: changed(values[key], rest, value) if rest and isinstance(values.get(key), dict) else value}


KEYS = [
    "architectures",
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "head_dim",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "hidden_act",
    "rope_parameters",
    "rope_scaling",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "torch_dtype",
    "dtype",
    "attention_bias",
    "mlp_bias",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "layer_types",
    "quantization_config",
    "partial_rotary_factor",
    "original_max_position_embeddings",
    "initializer_range",
]
ROPE = [
    "rope_type",
    "type",
    "factor",
    "original_max_position_embeddings",
    "rope_theta",
    "beta_fast",
    "beta_slow",
    "attention_factor",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "low_freq_factor",
    "high_freq_factor",
]
PLACES = st.sampled_from([[key] for key in KEYS] + [["rope_parameters", key] for key in ROPE])
KINDS = st.sampled_from(["llama", "mistral", "qwen2", "qwen3"])


@given(changes=st.lists(st.tuples(PLACES, VALUES | KINDS), min_size=1, max_size=3))
@FAST
def test_a_changed_config(folder, changes):
    values = json.loads((folder / "config.json").read_text())
    for place, value in changes:
        values = changed(values, place, value)
    with_file(folder, "config.json", json.dumps(values).encode())


@given(key=st.sampled_from(["eos_token_id", "temperature", "top_k", "top_p", "min_p", "do_sample"]), value=VALUES)
@FAST
def test_a_changed_generation_config(folder, key, value):
    with_file(folder, "generation_config.json", json.dumps({"do_sample": True, key: value}).encode())


@given(value=VALUES, name=st.text(max_size=30) | st.sampled_from(["../x.safetensors", "/etc/passwd", "config.json"]))
@FAST
def test_a_changed_index(folder, value, name):
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    tensor = next(iter(index["weight_map"]))
    index["weight_map"][tensor] = name
    with_file(folder, "model.safetensors.index.json", json.dumps(index).encode())
    with_file(folder, "model.safetensors.index.json", json.dumps({**index, "weight_map": value}).encode())


@given(
    tensor=st.integers(0, 20),
    key=st.sampled_from(["dtype", "shape", "data_offsets", "other"]),
    value=VALUES | st.lists(st.integers(0, 2**64), max_size=3) | st.sampled_from(["F64", "I8", "F8_E4M3", "BOOL"]),
)
@FAST
def test_a_changed_header(folder, tensor, key, value):
    with shard(folder) as (path, header, data):
        names = [name for name in header if name != "__metadata__"]
        header[names[tensor % len(names)]][key] = value
        text = json.dumps(header).encode()
        with_file(folder, path.name, struct.pack("<Q", len(text)) + text + data)


@given(size=st.integers(0, 2**64 - 1) | st.sampled_from([2**40, 2**63]), text=st.binary(max_size=60))
@FAST
def test_a_header_that_lies_about_itself(folder, size, text):
    """The first is one that claims terabytes."""
    with shard(folder) as (path, _, data):
        with_file(folder, path.name, struct.pack("<Q", size) + text + data[:100])


@given(place=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans())
@FAST
def test_a_file_with_a_wrong_byte_or_end(folder, place, byte, cut):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"):
        data = (folder / name).read_bytes()
        at = int(place * (len(data) - 1))
        with_file(folder, name, data[:at] if cut else data[:at] + bytes([byte]) + data[at + 1 :])


@given(
    key=st.sampled_from(["model", "added_tokens", "pre_tokenizer", "normalizer", "decoder", "post_processor"]),
    value=VALUES,
)
@settings(FAST, max_examples=15)
def test_a_changed_tokenizer(folder, key, value):
    values = json.loads((folder / "tokenizer.json").read_text())
    with_file(folder, "tokenizer.json", json.dumps({**values, key: value}).encode())
    inner = {**values["model"], **(value if isinstance(value, dict) else {"merges": value})}
    with_file(folder, "tokenizer.json", json.dumps({**values, "model": inner}).encode())


class shard:
    """The smallest file of weights, taken apart: where it lies, its header, its numbers."""

    def __init__(self, folder):
        self.path = min(folder.glob("model-*.safetensors"), key=lambda path: path.stat().st_size)

    def __enter__(self):
        data = self.path.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        return self.path, json.loads(data[8 : 8 + size]), data[8 + size :]

    def __exit__(self, *_):
        pass


def test_the_folder_itself_loads(folder, tmp_path):
    """Else all of this would prove nothing."""
    shutil.copytree(folder, tmp_path / "copy")
    assert load_checkpoint(tmp_path / "copy").config.eos_token_id == (1, 2)
