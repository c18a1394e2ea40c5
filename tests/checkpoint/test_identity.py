"""The id of a model: the same files are the same model wherever they lie, and nothing else is."""

import json

import numpy as np
from checkpoints import copy_checkpoint, edit_json, edit_tensors, write_checkpoint
from fake_hub import SHA, serve_fake_hub
from huggingface_hub import constants

from llama_core import load_checkpoint, save_checkpoint
from llama_core.checkpoint.identity import folder_id


def test_the_same_files_in_another_place_are_the_same_model(checkpoint, tmp_path):
    first = copy_checkpoint(checkpoint[0], tmp_path / "a" / "model")
    second = copy_checkpoint(checkpoint[0], tmp_path / "b" / "model")
    assert load_checkpoint(first).id == load_checkpoint(second).id == folder_id(first)
    assert folder_id(first).startswith("model-") and len(folder_id(first)) == len("model-") + 8


def test_two_folders_of_the_same_name_are_two_models(tmp_path):
    folders = [tmp_path / place / "model" for place in ("a", "b")]
    for seed, folder in enumerate(folders):
        folder.mkdir(parents=True)
        write_checkpoint(folder, seed)
    first, second = map(load_checkpoint, folders)
    assert first.name == second.name == "model" and first.id != second.id


def test_a_retrained_model_is_another_one_even_if_one_tensor_alone_was_trained(checkpoint, tmp_path):
    folder = copy_checkpoint(checkpoint[0], tmp_path / "model")
    ids = {folder_id(folder)}
    for name in ("model.norm.weight", "model.layers.1.mlp.down_proj.weight", "model.embed_tokens.weight"):
        edit_tensors(folder, lambda tensors, name=name: np.multiply(tensors[name], 1.001, out=tensors[name]))
        ids.add(folder_id(folder))
    assert len(ids) == 4


def test_another_tokenizer_template_or_configuration_is_another_model(checkpoint, tmp_path):
    folder = copy_checkpoint(checkpoint[0], tmp_path / "model")
    ids = [folder_id(folder)]
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    ids.append(folder_id(folder))
    edit_json(folder / "tokenizer.json", version="2.0")
    ids.append(folder_id(folder))
    edit_json(folder / "config.json", rms_norm_eps=2e-5)
    ids.append(folder_id(folder))
    assert len(set(ids)) == 4


def test_how_weights_are_divided_into_files_does_not_matter(tmp_path):
    whole, sharded = tmp_path / "a" / "model", tmp_path / "b" / "model"
    for folder, size in ((whole, "5GB"), (sharded, "100KB")):
        folder.mkdir(parents=True)
        write_checkpoint(folder, shard_size=size)
    assert len(list(sharded.glob("*.safetensors"))) > 1 and folder_id(whole) == folder_id(sharded)


def test_a_saved_model_keeps_its_id_when_it_is_saved_again(model, tmp_path):
    for place in ("a", "b"):
        files = {"tokenizer.json": json.dumps({}), "chat_template.jinja": "x"}
        save_checkpoint(tmp_path / place / "model", model.config, model.params, files)
    assert folder_id(tmp_path / "a" / "model") == folder_id(tmp_path / "b" / "model")


def test_a_model_from_the_hub_is_named_by_its_commit_and_a_random_one_by_its_shape(checkpoint, tmp_path, monkeypatch):
    with serve_fake_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        server.repositories["us/llama"] = {path.name: path.read_bytes() for path in checkpoint[0].iterdir()}
        assert load_checkpoint("us/llama").id == f"us/llama@{SHA[:12]}"
    assert load_checkpoint("random:tiny").id == "random:tiny"
