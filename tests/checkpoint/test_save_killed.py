"""A save that is killed between any two of its steps never leaves files of two models that load as one."""

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from checkpoints import TEMPLATE, copy_checkpoint, write_checkpoint

from llama_core import init_model_params, load_checkpoint, save_checkpoint
from llama_core.checkpoint.estimate import estimate
from llama_core.checkpoint.layout import COMPLETE, CheckpointError
from llama_core.checkpoint.load import load_shape
from llama_core.checkpoint.save import find_outdated

STEPS = ("replace", "unlink", "rmdir")


class Killed(BaseException):
    """The process is gone: nothing after it happens."""


@contextlib.contextmanager
def killed_at(step, monkeypatch):
    """Within, the `step`-th change of a name in the folder, and everything after it, does not happen."""
    left = [step]

    def dying(act):
        def call(*given, **named):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return act(*given, **named)

        return call

    def cleaned(*given, remove=shutil.rmtree, **named):
        return remove(*given, **named) if left[0] else None

    with monkeypatch.context() as patches:
        for name in STEPS:
            patches.setattr(Path, name, dying(getattr(Path, name)))
        patches.setattr(shutil, "rmtree", cleaned)
        yield


@pytest.fixture
def versions(model, checkpoint):
    """Two models of the same shape that tell apart by each of their files: number → arguments of `save_checkpoint`."""

    def version(number):
        config = dataclasses.replace(model.config, rope_theta=10_000.0 + number)
        params = init_model_params(jax.random.key(number), config)
        settings = {"chat_template": f"{number}" + TEMPLATE, "bos_token": "<|begin|>", "eos_token": "<|end|>"}
        files = {
            "tokenizer.json": (checkpoint[0] / "tokenizer.json").read_bytes(),
            "generation_config.json": "{}",
            "tokenizer_config.json": json.dumps(settings),
            f"only_in_{number}.txt": "x",
        }
        return config, params, files

    return {number: version(number) for number in (1, 2)}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A checkpoint as transformers writes it, in several files."""
    folder = tmp_path_factory.mktemp("shards")
    write_checkpoint(folder, shard_size="100KB")
    return folder


def version_of(folder, versions):
    """Which of the versions the folder holds; all its files have to be of the same."""
    found = load_checkpoint(folder)
    number = round(found.config.rope_theta - 10_000)
    if number == 0:  # the one that transformers wrote
        assert found.chat.template == TEMPLATE
        return 0
    np.testing.assert_array_equal(found.params.token_embedding, versions[number][1].token_embedding)
    assert found.chat.template == f"{number}" + TEMPLATE
    return number


@pytest.mark.parametrize("before", ["nothing", "a checkpoint of ours", "shards of transformers"])
def test_at_each_step_the_folder_is_the_old_model_or_the_new_or_says_that_it_is_neither(
    before, tmp_path, versions, shards, monkeypatch
):
    said = 0
    for step in range(30):
        folder = tmp_path / str(step)
        if before == "a checkpoint of ours":
            save_checkpoint(folder, *versions[1])
        if before == "shards of transformers":
            copy_checkpoint(shards, folder)
        try:
            with killed_at(step, monkeypatch):
                save_checkpoint(folder, *versions[2])
            break
        except Killed:
            pass
        if (folder / COMPLETE / "model.safetensors").exists():
            said += 1
            for read in (load_checkpoint, load_shape, lambda name: estimate(str(name), "float32", 1, 64)):
                with pytest.raises(CheckpointError, match="has not come to its end; wait for it"):
                    read(folder)
            find_outdated(folder, versions[2][2])  # a run of the trainer is resumed
        elif (folder / "config.json").exists():
            assert version_of(folder, versions) == 2 or before != "nothing"
        save_checkpoint(folder, *versions[1])
        assert version_of(folder, versions) == 1
        names = {path.name for path in folder.iterdir()}
        assert names == {*versions[1][2], "config.json", "model.safetensors"}
    assert version_of(folder, versions) == 2 and said >= 4


def test_moving_the_files_by_hand_finishes_a_save(tmp_path, versions, monkeypatch):
    save_checkpoint(tmp_path, *versions[1])
    with pytest.raises(Killed), killed_at(4, monkeypatch):
        save_checkpoint(tmp_path, *versions[2])
    for path in (tmp_path / COMPLETE).iterdir():
        path.replace(tmp_path / path.name)
    assert version_of(tmp_path, versions) == 2
