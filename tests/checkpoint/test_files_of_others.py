"""What other programs write into a checkpoint's folder, and transformers loads: other names of tensors, extra tensors,
shards in folders, tokenizers with a token too many. It loads with the same logits, or its true reason is said."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from checkpoints import NORM, copy_checkpoint, edit_json, edit_tensors, forward, reference_logits, write_checkpoint

from llama_core import load_checkpoint, save_checkpoint
from llama_core.checkpoint.load import CheckpointError
from llama_core.runtime.files import ModelFileError

TOKENS = np.random.default_rng(0).integers(3, 300, (2, 40)).astype(np.int32)
EMBEDDING, HEAD, ROTARY = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.rotary_emb."


@pytest.fixture
def copy(checkpoint, tmp_path):
    """A copy of the checkpoint to be changed."""
    return copy_checkpoint(checkpoint[0], tmp_path / "copy")


def change_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in change(safetensors.torch.load_file(path)).items()}
    safetensors.torch.save_file(tensors, path, {"format": "pt"})


def assert_logits_are_those_of_transformers(folder):
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model = load_checkpoint(folder)
    logits, _ = forward(model.params, TOKENS, model.config)
    np.testing.assert_allclose(logits, reference_logits(theirs, TOKENS), atol=2e-4)
    return model


def without_prefix(tensors):
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("tied", [True, False])
def test_names_of_a_model_that_was_saved_without_its_head(tmp_path, tied):
    write_checkpoint(tmp_path, tie_word_embeddings=tied)
    change_tensors(tmp_path, without_prefix)
    assert_logits_are_those_of_transformers(tmp_path)


@pytest.mark.parametrize("name", ["LlamaModel", "LLaMAForCausalLM"])
def test_an_architecture_by_its_old_name_or_without_its_head_loads(copy, name):
    edit_json(copy / "config.json", architectures=[name])
    assert_logits_are_those_of_transformers(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {**tensors, "v_head.summary.weight": torch.ones(1, 64), "v_head.summary.bias": torch.ones(1)},
        lambda tensors: {**tensors, ROTARY + "cos_cached": torch.ones(4), ROTARY + "sin_cached": torch.ones(4)},
        lambda tensors: {name: tensor.double() for name, tensor in tensors.items()},
    ],
    ids=["value head", "rotary tables", "float64"],
)
def test_extra_tensors_and_float64_load(copy, change):
    change_tensors(copy, change)
    assert_logits_are_those_of_transformers(copy)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float64])
def test_the_head_that_is_stored_is_used_even_if_the_config_says_tied(tmp_path, stored):
    write_checkpoint(tmp_path / "own", tie_word_embeddings=True)
    head = torch.randn(320, 64, generator=torch.manual_seed(1)).to(stored) * 0.1
    change_tensors(tmp_path / "own", lambda tensors: {**tensors, HEAD: head})
    model = assert_logits_are_those_of_transformers(tmp_path / "own")
    assert model.config.tie_word_embeddings is False
    save_checkpoint(tmp_path / "saved", model.config, model.params)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(again.lm_head.weight.detach().numpy(), head.float().numpy())


@pytest.mark.parametrize("stored", [torch.float32, torch.float64])
def test_a_head_with_the_numbers_of_the_embedding_takes_no_memory(tmp_path, stored):
    write_checkpoint(tmp_path, tie_word_embeddings=True)
    change_tensors(tmp_path, lambda tensors: {**tensors, HEAD: tensors[EMBEDDING].clone().to(stored)})
    model = assert_logits_are_those_of_transformers(tmp_path)
    assert model.params.output is None and model.config.tie_word_embeddings


def test_the_one_matrix_of_a_tied_model_may_be_stored_as_its_head(tmp_path):
    write_checkpoint(tmp_path, tie_word_embeddings=True)
    change_tensors(tmp_path, lambda tensors: {HEAD if n == EMBEDDING else n: t for n, t in tensors.items()})
    model = load_checkpoint(tmp_path)
    np.testing.assert_array_equal(
        model.params.token_embedding, safetensors.torch.load_file(tmp_path / "model.safetensors")[HEAD].numpy()
    )


def test_a_model_with_a_head_of_its_own_is_checked_for_memory_with_it(tmp_path):
    write_checkpoint(tmp_path, tie_word_embeddings=True)
    edit_tensors(tmp_path, lambda tensors: tensors.update({HEAD: np.ones((320, 64), np.float32)}))
    seen = []
    load_checkpoint(tmp_path, check=lambda plan: seen.append(plan.config.tie_word_embeddings))
    assert seen[-1] is False


def test_a_tensor_that_is_there_twice_has_to_be_the_same(copy):
    edit_tensors(copy, lambda tensors: tensors.update({"norm.weight": tensors[NORM].copy()}))
    assert load_checkpoint(copy).params.norm.shape == (64,)
    edit_tensors(copy, lambda tensors: tensors.update({"norm.weight": tensors[NORM] * 2}))
    with pytest.raises(CheckpointError, match=f"tensor {NORM} is there twice"):
        load_checkpoint(copy)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("_orig_mod.model.norm.weight", "is wrapped in '_orig_mod.'"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "this is an adapter .LoRA."),
        ("model.layers.0.self_attn.q_proj.qweight", "the weights are quantised"),
        ("model.layers.0.self_attn.k_scale", "the weights are quantised"),
        ("layers.0.attention.wq.weight", "names are those of Meta's own format"),
        ("model.layers.0.self_attn.q_proj.bias", "from different models"),
    ],
)
def test_what_cannot_be_used_has_its_true_reason(copy, name, words):
    edit_tensors(copy, lambda tensors: tensors.update({name: np.ones(64, np.float32)}))
    with pytest.raises(CheckpointError, match=f"tensor '{name}' is not part of the 2-layer llama.*{words}"):
        load_checkpoint(copy)


def test_a_model_without_its_head_is_called_one(copy):
    edit_tensors(copy, lambda tensors: tensors.pop(HEAD))
    with pytest.raises(CheckpointError, match=f"tensor {HEAD} is missing: the model was saved without its head"):
        load_checkpoint(copy)


@pytest.mark.parametrize("name", ["weights/part (1) of 2.safetensors", "a/b/c.safetensors", "my weights.safetensors"])
def test_shards_in_folders_and_with_spaces_in_their_names_load(copy, name):
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / "model.safetensors").rename(copy / name)
    names = dict.fromkeys(safetensors.torch.load_file(copy / name), name)
    (copy / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert_logits_are_those_of_transformers(copy)


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({NORM: "../../etc/passwd"}, "expected safetensors files of the same folder"),
        ({NORM: "/etc/passwd.safetensors"}, "expected safetensors files of the same folder"),
        ({NORM: "a/../../x.safetensors"}, "expected safetensors files of the same folder"),
        ({NORM: "a//x.safetensors"}, "expected safetensors files of the same folder"),
        ({NORM: "a\\..\\x.safetensors"}, "expected safetensors files of the same folder"),
        ({NORM: "C:x.safetensors"}, "expected safetensors files of the same folder"),
        ({NORM: "*.safetensors"}, "expected safetensors files of the same folder"),
        ({NORM: "x" * 300 + ".safetensors"}, "expected safetensors files of the same folder"),
        ({NORM: "model-1.safetensors"}, "model-1.safetensors is missing"),
        ({}, "no weight_map"),
        (None, "no weight_map"),
    ],
)
def test_an_index_that_points_elsewhere_is_refused(copy, weight_map, words):
    (copy / "model.safetensors").rename(copy / "other.safetensors")
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelFileError, match=words):
        load_checkpoint(copy)


def add_special(folder, token_id, content):
    values = json.loads((folder / "tokenizer.json").read_text())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    values["added_tokens"].append({"id": token_id, "content": content, "special": True, **flags})
    (folder / "tokenizer.json").write_text(json.dumps(values))


def test_a_pad_token_one_past_the_vocabulary_loads_and_is_no_token_of_the_model(copy):
    add_special(copy, 320, "<pad>")
    edit_json(copy / "tokenizer_config.json", pad_token="<pad>")
    model = assert_logits_are_those_of_transformers(copy)
    assert model.tokenizer.vocab_size <= 320 and "<pad>" not in model.tokenizer.special_tokens
    ids = model.chat.prompt_ids([{"role": "user", "content": "<pad> Hi"}])
    assert max(ids) < 320 and model.chat.tokenizer is model.tokenizer


def test_ends_and_beginnings_past_the_vocabulary_are_none(copy):
    add_special(copy, 320, "<s>")
    add_special(copy, 321, "</s>")
    edit_json(copy / "tokenizer_config.json", bos_token="<s>", eos_token="</s>")
    tokenizer = load_checkpoint(copy).tokenizer
    assert tokenizer.bos_id == 0 and 321 not in tokenizer.eos_ids


def test_a_marker_that_the_template_needs_is_not_spare(copy):
    add_special(copy, 320, "<|new|>")
    (copy / "chat_template.jinja").write_text("{{ '<|new|>' }}{{ messages[0]['content'] }}")
    with pytest.raises(CheckpointError, match="chat template uses '<|new|>', which is token 320, config.json says 320"):
        load_checkpoint(copy)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    write_checkpoint(tmp_path, vocab_size=260)
    with pytest.raises(CheckpointError, match="config.json says 260"):
        load_checkpoint(tmp_path)
