"""Small weights saved and loaded again, and what others find in the file."""

import json
import struct

import gguf
import jax
import numpy as np
import pytest
import safetensors.numpy
import transformers
from checkpoints import copy_checkpoint, forward, reference_logits, reference_model, write_checkpoint
from gguf_files import random_blocks, rewrite_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama_core import load_checkpoint
from llama_core.checkpoint.save import save_checkpoint
from llama_core.checkpoint.weights.saved import weight_tensors
from llama_core.errors import UserError
from llama_core.runtime.files import ModelFileError

pytestmark = pytest.mark.usefixtures("quickly_compiled")

Kind = gguf.GGMLQuantizationType
TOKENS = np.random.default_rng(0).integers(3, 260, (1, 40)).astype(np.int32)
# Rows of 112 and 64 numbers, the first no whole groups; queries in groups of two.
SHAPE = dict(hidden_size=64, intermediate_size=112, num_attention_heads=8, num_key_value_heads=4, num_hidden_layers=2)


def logits_of(model):
    return np.asarray(forward(model.params, TOKENS, model.config)[0])


def save(folder, model, source):
    names = ("tokenizer.json", "tokenizer_config.json")
    save_checkpoint(folder, model.config, model.params, {name: (source / name).read_bytes() for name in names})
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    write_checkpoint(folder, **SHAPE)
    return folder


@pytest.fixture(scope="module")
def small(source, tmp_path_factory):
    """The same in 8 bits: its folder, to be read."""
    return save(tmp_path_factory.mktemp("small"), load_checkpoint(source, quantize="q8", kernels="off"), source)


@pytest.fixture
def folder(small, tmp_path):
    """A copy, to be damaged."""
    return copy_checkpoint(small, tmp_path / "copy")


@pytest.mark.parametrize("quantize", ["q8", "q4", "int8", "bf16"])
def test_what_was_saved_comes_back_and_says_the_same(tmp_path, source, quantize):
    model = load_checkpoint(source, quantize=quantize, kernels="off")
    again = load_checkpoint(save(tmp_path / "saved", model, source), quantize=quantize, kernels="off")
    assert jax.tree.structure(again.params) == jax.tree.structure(model.params) and again.weights == model.weights
    for ours, theirs in zip(jax.tree.leaves(model.params), jax.tree.leaves(again.params), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(logits_of(model), logits_of(again))


def test_a_mixture_of_a_gguf_file_comes_back_whatever_is_asked_for(tmp_path, source):
    """Groups of 16 and 32, with minimums and without, scales of both precisions; rows of q, k and v in one format."""
    kinds = {"blk.0.attn_v": Kind.Q6_K, "blk.0.attn": Kind.Q4_K, "blk.0.ffn_down": Kind.Q5_1, "blk.0": Kind.Q8_0}

    def store(tensor):
        kind = next((kind for start, kind in kinds.items() if tensor.name.startswith(start)), None)
        if kind is None or len(tensor.shape) == 1:
            return None
        return random_blocks(kind, tuple(int(size) for size in reversed(tensor.shape)), seed=len(tensor.name)), kind

    theirs = reference_model(num_hidden_layers=1, hidden_size=256, intermediate_size=256, tie_word_embeddings=False)
    model = load_checkpoint(rewrite_gguf(tmp_path / "x.gguf", theirs, store), quantize="q4", kernels="off")
    folder = save(tmp_path / "saved", model, source)
    again = load_checkpoint(folder, quantize="q8", kernels="off")
    np.testing.assert_array_equal(logits_of(model), logits_of(again))
    plain = load_checkpoint(folder)
    assert plain.weights == "float32"
    np.testing.assert_allclose(logits_of(plain), logits_of(model), atol=1e-3 * np.abs(logits_of(model)).max())


def test_large_matrices_are_read_in_pieces(tmp_path, source, monkeypatch):
    model = load_checkpoint(source, quantize="q4", kernels="off")
    folder = save(tmp_path / "saved", model, source)
    whole = load_checkpoint(folder)
    monkeypatch.setattr("llama_core.checkpoint.weights.saved.STEP", 300)
    for one, other in zip(jax.tree.leaves(whole.params), jax.tree.leaves(load_checkpoint(folder).params), strict=True):
        np.testing.assert_array_equal(one, other)
    pieces = load_checkpoint(folder, quantize="q4", kernels="off")
    for one, other in zip(jax.tree.leaves(model.params), jax.tree.leaves(pieces.params), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_programs_are_told(small):
    """config.json names what only we read, and no tensor has the name of a weight of which it is a part."""
    assert json.loads((small / "config.json").read_text())["quantization_config"] == {"quant_method": "glass-llama"}
    with safetensors.safe_open(small / "model.safetensors", "np") as file:
        names, metadata = set(file.keys()), file.metadata()
    down = "model.layers.0.mlp.down_proj.weight"
    assert down not in names and {f"{down}.quants", f"{down}.scales"} <= names
    assert json.loads(metadata["small_numbers"])[down] == 112
    _, report = transformers.AutoModelForCausalLM.from_pretrained(small, output_loading_info=True)
    assert down in report["missing_keys"] and f"{down}.quants" in report["unexpected_keys"]


def test_bfloat16_is_a_file_for_everybody(tmp_path, source):
    model = load_checkpoint(source, quantize="bf16", kernels="off")
    folder = save(tmp_path / "saved", model, source)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    np.testing.assert_allclose(logits_of(model), reference_logits(theirs, TOKENS), atol=2e-4)


def with_header(path, change):
    """The same file after `change` of its header."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


NAME = "model.layers.0.mlp.down_proj.weight"


def columns(value):
    def change(header):
        found = json.loads(header["__metadata__"]["small_numbers"])
        header["__metadata__"]["small_numbers"] = json.dumps({**found, NAME: value})

    return change


HOSTILE = {
    "no JSON": (lambda header: header["__metadata__"].update(small_numbers="{"), "expected an object in JSON"),
    "a list": (lambda header: header["__metadata__"].update(small_numbers="[1]"), "expected an object in JSON"),
    "deep": (lambda header: header["__metadata__"].update(small_numbers="[" * 99999), "expected an object in JSON"),
    "too many": (columns(2**62), "have 128 numbers, of which 4611686018427387904 count"),
    "too few": (columns(3), "of which 3 count"),
    "a word": (columns("112"), "of which '112' count"),
    "true": (columns(True), "of which True count"),
    "no scales": (lambda header: header.update(x=header.pop(f"{NAME}.scales")), "has no whole numbers with scales"),
    "a vector": (lambda header: header[f"{NAME}.scales"].update(shape=[256]), "has no whole numbers with scales"),
    "other rows": (lambda header: header[f"{NAME}.scales"].update(shape=[32, 8]), "do not belong together"),
    "wide groups": (lambda header: header[f"{NAME}.scales"].update(shape=[256, 1]), "do not belong together"),
    "other numbers": (lambda header: header[f"{NAME}.quants"].update(dtype="U8"), "do not belong together"),
    "nobody says so": (
        lambda header: header["__metadata__"].pop("small_numbers"),
        r"is not part of the 2-layer llama that config.json describes; the weights are quantised",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_header_that_lies_is_refused_in_words(folder, case):
    change, words = HOSTILE[case]
    with_header(folder / "model.safetensors", change)
    for quantize in ("none", "q8"):
        with pytest.raises(UserError, match=words) as refusal:
            load_checkpoint(folder, quantize=quantize, kernels="off")
        assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 600


def test_scales_that_are_no_numbers_are_refused(folder):
    [tensor] = [one for one in weight_tensors(folder / "model.safetensors") if one.name == NAME]
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(tensor.scales.start)
        file.write(np.float16(np.nan).tobytes())
    for quantize in ("none", "q8"):
        with pytest.raises(ModelFileError, match="holds NaN or infinity"):
            load_checkpoint(folder, quantize=quantize, kernels="off")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text() | st.dictionaries(st.sampled_from([NAME, "x"]), st.integers() | st.none()).map(json.dumps))
def test_any_metadata_is_read_or_refused(folder, text):
    with_header(folder / "model.safetensors", lambda header: header["__metadata__"].update(small_numbers=text))
    try:
        load_checkpoint(folder)
    except UserError as problem:
        assert "\n" not in str(problem)
