"""Loading against transformers; what is broken is refused by name before memory is taken; peak memory."""

import itertools
import pickle
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from checkpoints import (
    NORM,
    STORIES,
    copy_checkpoint,
    edit_json,
    edit_tensors,
    forward,
    loading_memory,
    needs_proc,
    reference_logits,
    write_checkpoint,
)

from llama_core import SamplingParams, load_checkpoint
from llama_core.checkpoint import safetensors_reader
from llama_core.checkpoint.load import CheckpointError
from llama_core.checkpoint.read_tensors import STEP, read_tensors
from llama_core.model.params import named_tensors, placements
from llama_core.runtime.files import ModelFileError

TOKENS = np.random.default_rng(0).integers(3, 300, (2, 40)).astype(np.int32)


@pytest.fixture
def damaged(checkpoint, tmp_path):
    """A copy of the checkpoint to be damaged."""
    return copy_checkpoint(checkpoint[0], tmp_path / "copy")


def test_a_folder_gives_a_model_with_the_logits_of_transformers(checkpoint, model):
    logits, _ = forward(model.params, TOKENS, model.config)
    np.testing.assert_allclose(logits, reference_logits(checkpoint[1], TOKENS), atol=2e-4)
    assert model.dtype == "float32" and not model.is_random and model.chat.has_template
    assert model.parameter_count == sum(p.numel() for p in checkpoint[1].parameters())


def test_sharded_and_tied(tmp_path):
    theirs = write_checkpoint(tmp_path, shard_size="100KB", tie_word_embeddings=True)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    model = load_checkpoint(tmp_path)
    assert model.params.output is None
    logits, _ = forward(model.params, TOKENS, model.config)
    np.testing.assert_allclose(logits, reference_logits(theirs, TOKENS), atol=2e-4)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_stored_format_becomes_every_asked_one(checkpoint, tmp_path, stored, dtype):
    folder = copy_checkpoint(checkpoint[0], tmp_path / "copy")
    tensors = {name: t.to(stored) for name, t in safetensors.torch.load_file(folder / "model.safetensors").items()}
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    model = load_checkpoint(folder, dtype=dtype)
    assert all(str(leaf.dtype) == dtype for leaf in jax.tree.leaves(model.params))
    expected = tensors["model.layers.1.mlp.up_proj.weight"].to(getattr(torch, dtype)).float().numpy()
    found = dict(named_tensors(model.config, model.params))
    np.testing.assert_array_equal(np.float32(found["model.layers.1.mlp.up_proj.weight"]), expected)


def test_progress_counts_tensors(checkpoint):
    seen = []
    model = load_checkpoint(checkpoint[0], progress=lambda done, total: seen.append((done, total)))
    total = len(list(checkpoint[1].parameters()))
    counted = itertools.accumulate(len(placement.tensors) for placement in placements(model.config))
    assert seen == [(done, total) for done in counted] and seen[-1] == (total, total)


def test_generation_config_wins_over_config(damaged):
    edit_json(damaged / "generation_config.json", eos_token_id=[1, 2], do_sample=True, temperature=0.6, top_p=0.9)
    model = load_checkpoint(damaged)
    assert model.config.eos_token_id == (1, 2)
    assert model.defaults == SamplingParams(temperature=0.6, top_p=0.9)
    edit_json(damaged / "generation_config.json", do_sample=False, repetition_penalty=1.1)
    defaults = load_checkpoint(damaged).defaults
    assert (defaults.temperature, defaults.repetition_penalty) == (0, 1.1)


def test_harmless_extra_tensors_are_ignored(tmp_path):
    write_checkpoint(tmp_path, tie_word_embeddings=True)

    def add(tensors):
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

    edit_tensors(tmp_path, add)
    assert load_checkpoint(tmp_path).params.output is None


def test_random_models_are_made_without_files():
    model = load_checkpoint("random:tiny", dtype="bfloat16")
    assert model.is_random and model.dtype == "bfloat16" and not model.chat.has_template
    ids = model.chat.prompt_ids([{"role": "user", "content": "Hello"}])
    assert ids[0] == model.config.bos_token_id and model.tokenizer.decode(ids) == "Hello"
    with pytest.raises(CheckpointError, match="no model random:huge; the random ones are random:tiny"):
        load_checkpoint("random:huge")
    with pytest.raises(CheckpointError, match="dtype is 'int8'"):
        load_checkpoint("random:tiny", dtype="int8")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda f: edit_tensors(f, lambda t: t.pop(NORM)), f"tensor {NORM} is missing"),
        (
            lambda f: edit_tensors(f, lambda t: t.update({NORM: np.ones(65, np.float32)})),
            r"norm.weight is \[65\], config",
        ),
        (lambda f: edit_tensors(f, lambda t: t.update({NORM: np.ones(64, np.int8)})), "stored as I8"),
        (
            lambda f: edit_tensors(f, lambda t: t.update({"model.layers.9.x": np.ones(2, np.float32)})),
            "not part of the 2",
        ),
        (
            lambda f: edit_json(f / "config.json", vocab_size=200, eos_token_id=1),
            r"is \[320, 64\], config.json says \[200",
        ),
        (lambda f: edit_json(f / "config.json", architectures=["BertModel"]), "'BertModel' is not supported"),
        (lambda f: (f / "config.json").write_text("version https://git-lfs.github.com/spec/v1\noid x"), "git lfs pull"),
        (
            lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid x"),
            "git lfs p",
        ),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:5000]),
            "damaged or inc",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}"), "damaged or incomplete"),
        (
            lambda f: (f / "model.safetensors").write_bytes((2**42).to_bytes(8, "little") + b"{}"),
            "damaged or incomplete",
        ),
        (lambda f: edit_tensors(f, lambda t: t[NORM].__setitem__(3, np.nan)), f"tensor {NORM} holds NaN or infinity"),
        (lambda f: edit_tensors(f, lambda t: t[NORM].__setitem__(0, -np.inf)), f"tensor {NORM} holds NaN or infinity"),
        (lambda f: (f / "chat_template.jinja").write_text("{{ ''.__class__ "), "chat template is not valid Jinja"),
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            "only pytorch_model.bin; weights are read",
        ),
        (lambda f: (f / "model.safetensors").unlink(), "has no weights"),
        (lambda f: (f / "tokenizer_config.json").write_text("{"), "tokenizer_config.json is not valid JSON"),
    ],
)
def test_what_is_broken_is_refused_by_name(damaged, damage, words, unchecked_types):
    damage(damaged)
    with pytest.raises(ValueError, match=words) as refusal:
        load_checkpoint(damaged)
    assert "\n" not in str(refusal.value)


def test_a_shard_that_is_a_pointer_is_called_one(tmp_path):
    write_checkpoint(tmp_path, shard_size="100KB")
    sorted(tmp_path.glob("model-*.safetensors"))[1].write_text("version https://git-lfs.github.com/spec/v1\noid x")
    with pytest.raises(ModelFileError, match=r"model-00002-of-\d+.safetensors is a Git LFS pointer.*git lfs pull"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_no_number_that_is_none_gets_through_and_no_other_is_refused(tmp_path, kind):
    largest = float(ml_dtypes.finfo(kind).max)
    for value in (np.nan, -np.nan, np.inf, -np.inf, largest, -largest, 0.0, -0.0):
        numbers = np.zeros(STEP + 10, kind)
        numbers[-1] = value
        safetensors.numpy.save_file({"x": numbers}, tmp_path / "x.safetensors")
        [stored] = safetensors_reader.stored_tensors(tmp_path / "x.safetensors")
        if np.isfinite(value):
            np.testing.assert_array_equal(read_tensors([stored], np.dtype(kind).name), numbers)
        else:
            with pytest.raises(ModelFileError, match="tensor x holds NaN or infinity"):
                read_tensors([stored], "float32")


def test_numbers_that_float16_cannot_hold_are_refused_in_it(tmp_path):
    safetensors.numpy.save_file({"x": np.full(10, 1e6, np.float32)}, tmp_path / "x.safetensors")
    [stored] = safetensors_reader.stored_tensors(tmp_path / "x.safetensors")
    with pytest.raises(ModelFileError, match="tensor x holds numbers too large for float16; choose another dtype"):
        read_tensors([stored], "float16")
    assert read_tensors([stored], "bfloat16").max() > 9e5


def test_a_file_that_ends_while_it_is_read_is_refused(tmp_path):
    safetensors.numpy.save_file({"x": np.zeros(1000, np.float32)}, tmp_path / "x.safetensors")
    [stored] = safetensors_reader.stored_tensors(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes((tmp_path / "x.safetensors").read_bytes()[:-4])
    with pytest.raises(ModelFileError, match="ends within tensor x"):
        read_tensors([stored], "float32")


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path(self.marker),)


def test_a_pickle_is_never_opened_as_one(damaged):
    """The seed document read weights by pickle. Loading this one would leave a file behind."""
    bomb = Bomb()
    bomb.marker = str(damaged / "exploded")
    for name in ("model.safetensors", "tokenizer.json", "tokenizer.model"):
        (damaged / name).write_bytes(pickle.dumps(bomb))
    with pytest.raises(ModelFileError):
        load_checkpoint(damaged)
    (damaged / "tokenizer.json").unlink()
    with pytest.raises(ModelFileError):
        load_checkpoint(damaged)
    assert not (damaged / "exploded").exists()
    pickle.loads(pickle.dumps(bomb))
    assert (damaged / "exploded").exists()  # the bomb works


@needs_proc
def test_loading_takes_the_memory_of_the_model_once(tmp_path):
    write_checkpoint(tmp_path, hidden_size=1024, intermediate_size=4096, num_hidden_layers=6)
    assert 0.9 < loading_memory(tmp_path) < 1.4


def test_stories260k_has_its_two_ends():
    if not STORIES.is_dir():
        pytest.skip("stories260K is not here")
    assert load_checkpoint(STORIES).config.eos_token_id == (1, 2)
