"""Whole runs: on texts small enough to learn by heart, broken off and resumed, and what is refused."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import transformers

from llama_core import load_checkpoint
from llama_core.runtime.files import ModelFileError
from llama_core.training import TrainingError, train
from llama_core.training.run import load_journal
from llama_core.training.state import state_file

ROOT = Path(__file__).parents[2]
CHAT = [{"role": "user", "content": "the cat?"}, {"role": "assistant", "content": "sat on the mat"}]


def test_one_kilobyte_is_learnt_by_heart(options):
    done = train(
        dataclasses.replace(options, steps=150, batch_size=8, sequence_length=64, learning_rate=5e-3, save_every=150),
        quiet,
    )
    assert done.validation[-1][1] < 0.05
    model = load_checkpoint(options.out)
    reference = transformers.AutoModelForCausalLM.from_pretrained(options.out, dtype=torch.float32)
    ids = model.tokenizer.encode(Path(options.data).read_text()[:100], bos=True)
    assert reference(torch.tensor([ids]), labels=torch.tensor([ids])).loss < 0.2


def test_a_toy_learns_its_conversations_and_not_the_questions(options, tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": CHAT}) + "\n" for _ in range(40)))
    done = train(dataclasses.replace(options, data=str(path), validation="", steps=60, learning_rate=3e-3), quiet)
    assert done.training[0][1] > 2 and done.training[-1][1] < 0.1
    model = load_checkpoint(options.out)
    reference = transformers.AutoModelForCausalLM.from_pretrained(options.out, dtype=torch.float32)
    [(ids, learnt)] = model.chat.training_ids([CHAT])
    with torch.no_grad():
        scores = torch.log_softmax(reference(torch.tensor([ids])).logits[0], -1)
    chances = [float(scores[i - 1, ids[i]]) for i in range(1, len(ids))]
    assert np.mean([c for c, known in zip(chances, learnt[1:], strict=True) if known]) > -0.2
    assert np.mean([c for c, known in zip(chances, learnt[1:], strict=True) if not known]) < -2


def test_a_run_broken_off_anywhere_ends_as_an_unbroken_one(options, tmp_path):
    options = dataclasses.replace(options, dropout=0.1, dtype="bfloat16")
    whole = train(dataclasses.replace(options, out=str(tmp_path / "whole")), quiet)

    def break_off(line):
        if "step 10/" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(options, break_off)
    resumed = train(options, quiet)
    assert resumed.training == whole.training and resumed.validation == whole.validation
    assert [step for step, _ in resumed.validation] == [4, 8, 12]
    mine, theirs = (load_checkpoint(folder).params for folder in (options.out, tmp_path / "whole"))
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True))


def test_a_killed_process_goes_on(options):
    options = dataclasses.replace(options, steps=10**6, save_every=2)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in dataclasses.asdict(options).items() if value]
    command = [sys.executable, "-m", "llama_core.training", *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while not state_file(Path(options.out)).is_file():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)  # somewhere in the middle of writing and computing
    process.send_signal(signal.SIGKILL)
    process.wait()
    reached, _ = load_journal(Path(options.out)).validation[-1]
    lines = []
    train(dataclasses.replace(options, steps=reached + 4), lines.append)
    load_checkpoint(options.out)
    validated = [line.partition(":")[0] for line in lines if "validation" in line]
    assert validated == [f"step {reached + more}" for more in (2, 4)], "it began anew"


def test_fine_tuning_starts_from_the_trained_weights(options, tmp_path):
    first = train(dataclasses.replace(options, steps=60, learning_rate=3e-3, save_every=60), quiet)
    options = dataclasses.replace(options, config="", model=options.out, out=str(tmp_path / "tuned"), steps=4)
    again = train(options, quiet)
    assert again.training[0][1] == pytest.approx(first.training[-1][1], rel=0.5)
    assert load_checkpoint(options.out).chat.template == load_checkpoint(options.model).chat.template


def test_a_finished_run_goes_on_with_more_steps(options):
    train(options, quiet)
    done = train(dataclasses.replace(options, steps=16), quiet)
    assert [step for step, _ in done.validation] == [4, 8, 12, 16] and done.run["steps"] == 16
    assert train(dataclasses.replace(options, steps=16), quiet) == done


def test_another_run_in_the_same_place_is_refused(options):
    train(options, quiet)
    with pytest.raises(TrainingError, match="holds a run with learning_rate 0.001, not 0.01; use another --out"):
        train(dataclasses.replace(options, learning_rate=0.01), quiet)
    state_file(Path(options.out)).write_bytes(b"not a state")
    with pytest.raises(TrainingError, match="is not the state of a training run"):
        train(options, quiet)


def test_a_loss_that_explodes_ends_the_run(options):
    with pytest.raises(TrainingError, match="the loss is nan at step .*lower --learning-rate"):
        train(dataclasses.replace(options, steps=40, learning_rate=1e30, clip=1e30, save_every=40), quiet)
    assert not Path(options.out).exists()


def quiet(line):
    """Nobody reads the progress of a test."""


def test_a_folder_of_something_else_is_refused_before_the_first_step(options, tmp_path):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "config.json").write_text('{"name": "a JavaScript project"}')
    (thesis / "thesis.tex").write_text("years of work")
    said = []
    with pytest.raises(ModelFileError, match="thesis"):
        train(dataclasses.replace(options, out=str(thesis)), said.append)
    assert said == [] and sorted(path.name for path in thesis.iterdir()) == ["config.json", "thesis.tex"]
