"""GGUF files against transformers and the `gguf` package's own dequantisation: every architecture, every format, split
files, and the memory that it takes."""

import gguf
import jax
import numpy as np
import pytest
import torch
import transformers
from checkpoints import forward, loading_memory, needs_proc, reference_logits, reference_model, write_checkpoint
from gguf.quants import dequantize
from gguf_files import TEMPLATE, permute, random_blocks, rewrite_gguf, unpermute, write_gguf

from llama_core import load_checkpoint, save_checkpoint
from llama_core.checkpoint.estimate import estimate
from llama_core.checkpoint.gguf.tensors import READABLE
from llama_core.checkpoint.load import CheckpointError
from llama_core.model.checks import ConfigError
from llama_core.model.params import named_tensors

pytestmark = pytest.mark.usefixtures("quickly_compiled")

TOKENS = np.random.default_rng(0).integers(3, 260, (2, 40)).astype(np.int32)
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
YARN_KEYS = {
    "llama.rope.scaling.type": "yarn",
    "llama.rope.scaling.factor": 4.0,
    "llama.rope.scaling.original_context_length": 128,
}


def logits_of(model, tokens=TOKENS):
    return forward(model.params, tokens, model.config)[0]


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("Llama", dict(tie_word_embeddings=True)),
        ("Llama", dict(head_dim=12, attention_bias=True, mlp_bias=True)),
        ("Mistral", dict(sliding_window=7)),
        ("Mistral", dict(sliding_window=None, head_dim=16)),
        ("Qwen2", dict(tie_word_embeddings=True)),
        ("Qwen3", dict(head_dim=24)),
    ],
    ids=str,
)
def test_logits_are_those_of_the_model_that_the_file_was_made_from(tmp_path, family, changes):
    theirs = reference_model(1, family, num_hidden_layers=2, **changes)
    ours = load_checkpoint(write_gguf(tmp_path / "x.gguf", theirs))
    np.testing.assert_allclose(logits_of(ours), reference_logits(theirs, TOKENS), atol=2e-4)
    assert (ours.params.output is None) == theirs.config.tie_word_embeddings and ours.dtype == "float32"


def test_the_rotary_factors_of_llama3_are_found_in_their_tensor(tmp_path):
    theirs = reference_model(rope_parameters=LLAMA3, head_dim=64, num_hidden_layers=1, max_position_embeddings=65536)
    frequencies = transformers.models.llama.modeling_llama.ROPE_INIT_FUNCTIONS["llama3"](theirs.config, "cpu")[0]
    plain = 10000.0 ** (-np.arange(0, 64, 2) / 64)
    path = write_gguf(tmp_path / "x.gguf", theirs, tensors=[("rope_freqs.weight", plain / frequencies.numpy())])
    ours = load_checkpoint(path)
    assert ours.config.rope_scaling.rope_type == "llama3" and ours.config.rope_scaling.factor == pytest.approx(8.0)
    np.testing.assert_allclose(logits_of(ours), reference_logits(theirs, TOKENS), atol=2e-4)
    other = write_gguf(tmp_path / "y.gguf", theirs, tensors=[("rope_freqs.weight", np.linspace(1, 8, 32))])
    with pytest.raises(ConfigError, match="y.gguf: rope_freqs.weight holds 32 factors of another rotary scaling"):
        load_checkpoint(other)


@pytest.mark.parametrize(
    ("rope", "keys"),
    [
        ({"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}, {"type": "linear", "factor": 4.0}),
        (YARN, {"type": "yarn", "factor": 4.0, "original_context_length": 128}),
        (
            YARN | {"attention_factor": 1.5 * (0.1 * np.log(4.0) + 1.0), "beta_fast": 16.0},
            {"type": "yarn", "factor": 4.0, "original_context_length": 128, "attn_factor": 1.5, "yarn_beta_fast": 16.0},
        ),
        ({"rope_type": "default", "rope_theta": 500000.0}, {"type": "none", "factor": 4.0}),
    ],
    ids=["linear", "yarn", "yarn with its own numbers", "none"],
)
def test_rotary_scaling_is_read_from_its_keys(tmp_path, rope, keys):
    theirs = reference_model(rope_parameters=rope, num_hidden_layers=1)
    changes = {f"llama.rope.scaling.{key}": value for key, value in keys.items()}
    ours = load_checkpoint(write_gguf(tmp_path / "x.gguf", theirs, changes=changes))
    np.testing.assert_allclose(logits_of(ours), reference_logits(theirs, TOKENS), atol=2e-4)


@pytest.mark.parametrize("kind", sorted(READABLE, key=lambda kind: kind.name), ids=lambda kind: kind.name)
def test_every_format_is_what_the_gguf_package_makes_of_it(tmp_path, kind):
    """Exactly, with the rows of q and k in the order of the Hub."""
    if kind is gguf.GGMLQuantizationType.F64:
        blocks = np.random.default_rng(0).normal(size=(256, 256))
        expected = blocks.astype(np.float32)
    elif kind in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
        blocks = expected = np.random.default_rng(0).normal(size=(256, 256)).astype(kind.name.replace("F", "float"))
    else:
        blocks = random_blocks(kind, (256, 256))
        expected = dequantize(blocks, kind)
    path = write_one_format(tmp_path / "x.gguf", kind, blocks)
    model = load_checkpoint(path)
    found = dict(named_tensors(model.config, model.params))
    up, query = (found[f"model.layers.0.{name}.weight"] for name in ("mlp.up_proj", "self_attn.q_proj"))
    np.testing.assert_array_equal(up, expected.astype(np.float32))
    np.testing.assert_array_equal(query, unpermute(expected.astype(np.float32), 4))
    assert model.stored.startswith(kind.name)


def write_one_format(path, kind, blocks):
    """A model of one block whose square matrices are all the same in the file."""
    shape = dict(hidden_size=256, intermediate_size=256, num_attention_heads=4, num_key_value_heads=4)
    theirs = reference_model(num_hidden_layers=1, tie_word_embeddings=True, **shape)

    def store(tensor):
        is_square = tensor.name.endswith("weight") and tuple(tensor.shape) == (256, 256)
        return (blocks, kind) if is_square else None

    return rewrite_gguf(path, theirs, store)


def test_the_permutation_of_the_tests_is_undone_by_its_inverse():
    numbers = np.arange(48).reshape(24, 2)
    np.testing.assert_array_equal(unpermute(permute(numbers, 3), 3), numbers)
    assert (permute(numbers, 3) != numbers).any()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_quantised_weights_are_rounded_once_to_the_format_asked_for(tmp_path, dtype):
    theirs = reference_model(num_hidden_layers=1, intermediate_size=128)
    path = write_gguf(tmp_path / "x.gguf", theirs, kind="Q8_0")
    exact, rounded = load_checkpoint(path), load_checkpoint(path, dtype=dtype)
    assert all(str(leaf.dtype) == dtype for leaf in jax.tree.leaves(rounded.params))
    for ours, whole in zip(jax.tree.leaves(rounded.params), jax.tree.leaves(exact.params), strict=True):
        expected = torch.tensor(np.asarray(whole)).to(getattr(torch, dtype)).float().numpy()
        np.testing.assert_array_equal(np.float32(ours), expected)


def test_transformers_reads_the_same_model_from_the_same_file(tmp_path):
    """transformers dequantises with code of its own."""
    theirs = reference_model(num_hidden_layers=2, intermediate_size=128, tie_word_embeddings=True)
    path = write_gguf(tmp_path / "x.gguf", theirs, kind="Q4_1")
    read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    np.testing.assert_allclose(logits_of(load_checkpoint(path)), reference_logits(read, TOKENS), atol=2e-4)
    assert np.abs(reference_logits(read, TOKENS) - reference_logits(theirs, TOKENS)).max() > 0.01


def test_a_model_from_a_gguf_file_is_saved_for_the_hub(tmp_path):
    theirs = reference_model(rope_parameters=YARN, num_hidden_layers=2)
    model = load_checkpoint(write_gguf(tmp_path / "x.gguf", theirs, changes=YARN_KEYS))
    save_checkpoint(tmp_path / "saved", model.config, model.params)
    read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    np.testing.assert_allclose(reference_logits(read, TOKENS), reference_logits(theirs, TOKENS), atol=2e-4)
    assert read.config.bos_token_id == 0 and 1 in model.config.eos_token_id


def test_a_file_a_folder_with_it_and_its_parts_are_the_same_model(tmp_path):
    theirs = reference_model(num_hidden_layers=2, intermediate_size=128)
    whole = write_gguf(tmp_path / "model.gguf", theirs, kind="Q8_0")
    parts = tmp_path / "parts"
    parts.mkdir()
    write_gguf(parts / "model.gguf", theirs, kind="Q8_0", split_max_tensors=9)
    assert sorted(path.name for path in parts.iterdir())[1] == "model-00002-of-00003.gguf"
    ids = [load_checkpoint(path).id for path in (whole, parts, parts / "model-00002-of-00003.gguf")]
    assert ids[0] == ids[1] == ids[2] and ids[0].startswith("model-") and len(ids[0]) == len("model-") + 8
    logits = [logits_of(load_checkpoint(path)) for path in (whole, parts)]
    np.testing.assert_array_equal(*logits)
    (parts / "model-00003-of-00003.gguf").rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"model-00003-of-00003.gguf is missing, one of 3 parts"):
        load_checkpoint(parts / "model-00001-of-00003.gguf")


def test_another_model_has_another_id(tmp_path):
    paths = [tmp_path / name / "x.gguf" for name in ("a", "b", "c")]
    for path in paths:
        path.parent.mkdir()
    write_gguf(paths[0], reference_model(0, num_hidden_layers=1))
    write_gguf(paths[1], reference_model(1, num_hidden_layers=1))
    write_gguf(paths[2], reference_model(0, num_hidden_layers=1), changes={"llama.context_length": 100})
    assert len({load_checkpoint(path).id for path in paths}) == 3


def test_the_chat_is_that_of_the_metadata(tmp_path):
    path = write_gguf(
        tmp_path / "x.gguf", reference_model(num_hidden_layers=1), changes={"tokenizer.chat_template": TEMPLATE}
    )
    model = load_checkpoint(path)
    assert model.chat.has_template and model.config.bos_token_id == 0 and model.config.eos_token_id[0] == 1
    ids = model.chat.prompt_ids([{"role": "user", "content": "th<|done|>"}])
    th, typed = model.tokenizer.encode("th"), model.tokenizer.encode("<|done|>")
    assert ids[:2] == [0, 2] and ids.count(1) == 1 and len(th) == 1 and len(typed) == 8
    assert ids[ids.index(th[0]) + 1 :][:8] == typed


def test_of_a_folder_with_several_the_usual_one_is_taken_and_said(tmp_path):
    theirs = reference_model(num_hidden_layers=1, intermediate_size=128)
    for name, kind in (("m-F16.gguf", "F16"), ("m.Q8_0.gguf", "Q8_0"), ("mmproj-m.gguf", "F32")):
        write_gguf(tmp_path / name, theirs, kind=kind)
    model = load_checkpoint(tmp_path)
    assert model.name == "m.Q8_0" and model.stored.startswith("Q8_0, 8.")
    assert model.notes == ("Q8_0 was taken of 2 GGUF models; the others are F16",)
    assert load_checkpoint(tmp_path / "m-F16.gguf").stored.startswith("F16, 1")
    (tmp_path / "m.Q8_0.gguf").rename(tmp_path / "m.F32.gguf")
    with pytest.raises(CheckpointError, match="2 GGUF models; choose one of .*m-F16.gguf, .*m.F32.gguf"):
        load_checkpoint(tmp_path)


def test_safetensors_in_the_same_folder_go_first(tmp_path):
    theirs = write_checkpoint(tmp_path)
    write_gguf(tmp_path / "x.gguf", reference_model(7))
    model = load_checkpoint(tmp_path)
    np.testing.assert_allclose(logits_of(model), reference_logits(theirs, TOKENS), atol=2e-4)
    assert model.stored == "F32, 32.0 bits a weight"


def test_the_plan_before_loading_is_that_of_the_loaded_model(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", reference_model(num_hidden_layers=2, intermediate_size=128), kind="Q4_0")
    found, model = estimate(str(path), "float32", 2, 256), load_checkpoint(path)
    assert found.parameters == model.parameter_count and found.file_bytes == path.stat().st_size
    assert found.plan.params == sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
    with pytest.raises(CheckpointError, match="not for this machine"):

        def refuse(plan):
            raise CheckpointError(f"{plan.config.num_hidden_layers} layers in {plan.dtype} are not for this machine")

        load_checkpoint(path, check=refuse)


@needs_proc
def test_loading_takes_the_memory_of_the_weights_once(tmp_path):
    theirs = reference_model(hidden_size=1024, intermediate_size=4096, num_hidden_layers=4)
    path = write_gguf(tmp_path / "x.gguf", theirs, kind="Q8_0")
    assert 0.9 < loading_memory(path) < 1.4
