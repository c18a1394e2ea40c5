"""What is saved, transformers loads as it is; a save that fails or is repeated never leaves half a checkpoint."""

import dataclasses

import jax
import numpy as np
import pytest
import safetensors.numpy
import transformers
from checkpoints import forward, reference_logits, write_checkpoint

from llama_core import init_model_params, load_checkpoint, save_checkpoint
from llama_core.checkpoint import save
from llama_core.model.config import NAMED_CONFIGS, LlamaConfig
from llama_core.runtime.files import ModelFileError

TOKENS = np.random.default_rng(0).integers(3, 300, (1, 40)).astype(np.int32)
SMALL = dataclasses.replace(
    NAMED_CONFIGS["1B"],
    vocab_size=320,
    hidden_size=64,
    intermediate_size=112,
    num_hidden_layers=2,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=12,
    bos_token_id=0,
    eos_token_id=(1, 2),
)


def tokenizer_files(folder):
    return {name: (folder / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")}


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_what_was_saved_as_it_is(tmp_path, checkpoint, tied):
    config = dataclasses.replace(SMALL, tie_word_embeddings=tied)
    params = init_model_params(jax.random.key(0), config)
    files = {
        "tokenizer.json": (checkpoint[0] / "tokenizer.json").read_bytes(),
        "tokenizer_config.json": '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}',
    }
    save_checkpoint(tmp_path / "saved", config, params, files)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(report.values())
    logits, _ = forward(params, TOKENS, config)
    np.testing.assert_allclose(logits, reference_logits(theirs, TOKENS), atol=2e-4)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "saved").encode("the cat")


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16"])
def test_loading_gives_back_what_was_saved(tmp_path, checkpoint, model, dtype):
    save_checkpoint(tmp_path / "saved", model.config, model.params, tokenizer_files(checkpoint[0]), dtype)
    again = load_checkpoint(tmp_path / "saved", dtype or "float32")
    assert again.config == dataclasses.replace(model.config, dtype=dtype or "float32")
    for ours, theirs in zip(jax.tree.leaves(model.params), jax.tree.leaves(again.params), strict=True):
        np.testing.assert_array_equal(np.asarray(ours, theirs.dtype), theirs)
    stored = safetensors.numpy.load_file(tmp_path / "saved" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in stored.values()} == {dtype or "float32"}
    assert again.chat.prompt_ids([{"role": "user", "content": "Hi"}])


def test_an_earlier_checkpoint_is_replaced_as_a_whole(tmp_path, model):
    save_checkpoint(tmp_path / "saved", model.config, model.params, {"old.txt": "old"})
    save_checkpoint(tmp_path / "saved", model.config, model.params, {"new.txt": b"new"})
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"config.json", "model.safetensors", "new.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_what_others_wrote_beside_a_checkpoint_stays(tmp_path, model):
    folder = tmp_path / "saved"
    save_checkpoint(folder, model.config, model.params, {"tokenizer.json": "{}", "loss.svg": "old"})
    names = ("README.md", "examples.json", ".git/HEAD", "src/thesis.tex", "notes.safetensors", "saved.py")
    theirs = [folder / name for name in names]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_text("years of work")
    save_checkpoint(folder, model.config, model.params, {"tokenizer.model": b"new"})
    assert all(path.read_text() == "years of work" for path in theirs)
    ours = {path.name for path in folder.iterdir() if path.is_file() and path not in theirs}
    assert ours == {"config.json", "model.safetensors", "tokenizer.model"}


def test_shards_and_their_index_are_replaced_and_nothing_else_in_the_folder(tmp_path, model):
    write_checkpoint(tmp_path, shard_size="100KB")
    files = tokenizer_files(tmp_path)
    (tmp_path / "other-00001-of-00002.safetensors").write_text("not of the index")
    save_checkpoint(tmp_path, model.config, model.params, {**files, "generation_config.json": "{}"})
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "generation_config.json",
        "other-00001-of-00002.safetensors",
        *files,
    }
    assert load_checkpoint(tmp_path).parameter_count == model.parameter_count


def test_files_of_another_model_that_would_be_read_with_this_one_are_refused_by_name(tmp_path, model):
    write_checkpoint(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ModelFileError, match="holds generation_config.json of another model, .*; remove it or choose"):
        save_checkpoint(tmp_path, model.config, model.params, {"tokenizer.model": b"new"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config.json": '{"port": 8080}', "app.js": "x"}, "its config.json names no model"),
        ({"config.json": '{"port": 8080}', "model.safetensors": "x"}, "its config.json names no model"),
        ({"config.json": '{"architectures": ["LlamaForCausalLM"]}', "app.js": "x"}, "it has no model.safetensors"),
        ({"config.json": '{"model_type": "bert"}', "model.safetensors": "x"}, "model_type 'bert' is not supported"),
        ({"config.json": "{", "model.safetensors": "x"}, "config.json is not valid JSON"),
        ({"model.safetensors": "x"}, "config.json cannot be read"),
    ],
)
def test_a_folder_that_is_not_a_llamas_is_refused_and_left_as_it_is(tmp_path, model, files, words):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(
        ModelFileError, match=f"exists and is not a checkpoint .*{words}.*; choose another folder"
    ) as why:
        save_checkpoint(tmp_path, model.config, model.params)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files and "\n" not in str(why.value)


def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_is_written(tmp_path, model):
    save_checkpoint(tmp_path / "saved", model.config, model.params)
    before = (tmp_path / "saved" / "model.safetensors").read_bytes()
    (tmp_path / "saved" / "loss.svg").mkdir()
    with pytest.raises(ModelFileError, match="loss.svg is a folder"):
        save_checkpoint(tmp_path / "saved", model.config, model.params, {"loss.svg": "x"}, "float16")
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == before


def test_a_list_of_companions_that_leads_elsewhere_deletes_nothing_there(tmp_path, model):
    (tmp_path / "thesis.txt").write_text("years of work")
    save_checkpoint(tmp_path / "saved", model.config, model.params)
    path = tmp_path / "saved" / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    for names in ('["../thesis.txt", "", ".", "..", 5]', "{", '"x"', "[" * 100_000):
        safetensors.numpy.save_file(tensors, path, {"companions": names})
        assert save.find_outdated(tmp_path / "saved") == []
        save_checkpoint(tmp_path / "saved", model.config, model.params)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_what_a_kill_left_is_swept_away_and_an_empty_folder_is_taken(tmp_path, model):
    (tmp_path / f"{save.UNFINISHED}x").mkdir()
    (tmp_path / f"{save.UNFINISHED}x" / "model.safetensors").write_text("half")
    save_checkpoint(tmp_path, model.config, model.params)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def test_a_save_that_fails_leaves_what_was_there(tmp_path, model, monkeypatch):
    save_checkpoint(tmp_path / "saved", model.config, model.params)
    before = (tmp_path / "saved" / "model.safetensors").read_bytes()

    def cut_off(*_):
        yield b"half"
        raise OSError("No space left on device")

    monkeypatch.setattr(save, "_safetensors", cut_off)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path / "saved", model.config, model.params)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path / "other", model.config, model.params)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == before


def test_what_is_not_a_checkpoint_is_not_written_over(tmp_path, model):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelFileError, match="exists and is not a checkpoint"):
        save_checkpoint(tmp_path, model.config, model.params)
    for name in ("../up", "/etc/passwd", "a/b", "config.json", "", ".."):
        with pytest.raises(ModelFileError, match="expected a plain file name"):
            save_checkpoint(tmp_path / "new", model.config, model.params, {name: "x"})
    with pytest.raises(ModelFileError, match="dtype is 'int8'"):
        save_checkpoint(tmp_path / "new", model.config, model.params, dtype="int8")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_config_says_in_what_format_the_weights_are(tmp_path, model):
    save_checkpoint(tmp_path / "saved", model.config, model.params, dtype="bfloat16")
    assert LlamaConfig.from_json((tmp_path / "saved" / "config.json").read_text()).dtype == "bfloat16"
