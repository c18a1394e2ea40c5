"""The trainer against PyTorch, against itself after a kill, and on texts small enough to learn by heart."""

import dataclasses
import json
import os
import re
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
from checkpoints import TINY, write_tokenizer

from llama_core import LlamaConfig, load_checkpoint
from llama_core.tokenizer.chat_template import Chat
from llama_core.training import TrainingError, TrainingOptions, train
from llama_core.training import update as update_room
from llama_core.training.__main__ import read_options
from llama_core.training.curve import loss_curve
from llama_core.training.data import Batches, Document, Rows, pack, read_documents
from llama_core.training.run import find_start
from llama_core.training.state import state_file

ROOT = Path(__file__).parents[2]
TEXT = " ".join(
    f"Line {i}: the {animal} sat on the {place} and thought of {number}."
    for i, (animal, place, number) in enumerate(
        zip(
            ("cat", "owl", "hen", "fox") * 5,
            ("mat", "hat", "hill", "mill", "sea") * 4,
            ("rain", "bread", "one", "home", "nothing", "tea", "you") * 3,
            strict=False,
        )
    )
)[:1024]
CHAT = [{"role": "user", "content": "the cat?"}, {"role": "assistant", "content": "sat on the mat"}]


@pytest.fixture(scope="module")
def shape(tmp_path_factory):
    """A folder to start from: config.json and a tokenizer, no weights."""
    folder = tmp_path_factory.mktemp("shape")
    write_tokenizer(folder)
    config = LlamaConfig(**{**TINY, "eos_token_id": (1,), "initializer_range": 0.02})
    (folder / "config.json").write_text(config.to_json())
    return folder


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def options(shape, text_file, tmp_path):
    return TrainingOptions(
        data=str(text_file),
        config=str(shape),
        out=str(tmp_path / "out"),
        validation=str(text_file),
        steps=12,
        batch_size=4,
        sequence_length=32,
        save_every=4,
        warmup=2,
        seed=3,
    )


def random_rows(seed=0, batch=4, length=16):
    generator = np.random.default_rng(seed)
    tokens = generator.integers(0, 300, (batch, length + 1)).astype(np.int32)
    return Rows(tokens, (generator.random((batch, length)) < 0.7).astype(np.float32))


def torch_losses(options, params, rows):
    """Ten steps of the same in PyTorch: its own AdamW, clipping, and a cross-entropy over the weighted tokens."""
    config = find_start(options).config
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**TINY, "initializer_range": 0.02}))
    model.load_state_dict({name: torch.tensor(np.array(leaf)) for name, leaf in named(config, params)})
    matrices = [leaf for leaf in model.parameters() if leaf.ndim > 1]
    vectors = [leaf for leaf in model.parameters() if leaf.ndim == 1]
    adamw = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        eps=1e-8,
    )
    rate, losses = update_room.learning_rate(options), []
    for step, batch in enumerate(rows):
        for group in adamw.param_groups:
            group["lr"] = float(rate(step))
        tokens, weights = torch.tensor(batch.tokens).long(), torch.tensor(batch.weights)
        logits = model(tokens[:, :-1]).logits
        each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
        loss = (each * weights).sum() / weights.sum()
        adamw.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
        adamw.step()
        losses.append(loss.item())
    return losses


def named(config, params):
    from llama_core.model.params import named_tensors

    return list(named_tensors(config, params))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_ten_steps_are_those_of_pytorch(options, accumulate):
    options = dataclasses.replace(options, steps=10, learning_rate=3e-3, accumulate=accumulate, clip=0.5)
    start = find_start(options)
    params, rows = start.make_params(), [random_rows(seed) for seed in range(10)]
    expected = torch_losses(options, params, rows)
    update, state = update_room.compile_update(start.config, options), update_room.init_state(params, options)
    losses = []
    for batch in rows:
        state, loss = update(state, batch)
        losses.append(float(loss))
    np.testing.assert_allclose(losses, expected, atol=1e-3, rtol=0)
    assert losses[-1] != pytest.approx(losses[0], abs=0.01)


def test_the_learning_rate_climbs_and_falls(options):
    rate = update_room.learning_rate(
        dataclasses.replace(options, steps=100, warmup=10, learning_rate=0.5, final_rate=0.1)
    )
    values = [float(rate(step)) for step in range(101)]
    assert values[0] == pytest.approx(0.05) and values[10] == pytest.approx(0.5) and max(values) == values[10]
    assert values[55] == pytest.approx(0.05 + 0.45 / 2) and values[100] == pytest.approx(0.05)


def test_one_kilobyte_is_learnt_by_heart(options):
    done = train(
        dataclasses.replace(options, steps=250, batch_size=8, sequence_length=64, learning_rate=3e-3, save_every=250),
        quiet,
    )
    assert done.validation[-1][1] < 0.05
    model = load_checkpoint(options.out)
    reference = transformers.AutoModelForCausalLM.from_pretrained(options.out, dtype=torch.float32)
    ids = model.tokenizer.encode(TEXT[:100], bos=True)
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


def test_a_killed_process_goes_on(options, tmp_path):
    options = dataclasses.replace(options, steps=300, save_every=2)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in dataclasses.asdict(options).items() if value]
    command = [sys.executable, "-m", "llama_core.training", *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while not state_file(Path(options.out)).is_file():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)  # somewhere in the middle of writing and computing
    process.send_signal(signal.SIGKILL)
    process.wait()
    load_checkpoint(options.out)
    lines = []
    done = train(options, lines.append)
    assert done.validation[-1][0] == 300 and re.match(r"step (\d+)/300", lines[1])
    assert int(re.match(r"step (\d+)/300", lines[1])[1]) > 2, "it began anew"


def test_fine_tuning_starts_from_the_trained_weights(options, tmp_path):
    first = train(dataclasses.replace(options, steps=60, learning_rate=3e-3, save_every=60), quiet)
    options = dataclasses.replace(options, config="", model=options.out, out=str(tmp_path / "tuned"), steps=4)
    again = train(options, quiet)
    assert again.training[0][1] == pytest.approx(first.training[-1][1], rel=0.5)
    assert load_checkpoint(options.out).chat.template == load_checkpoint(options.model).chat.template


def test_rows_hold_every_token_once():
    generator = np.random.default_rng(0)
    sizes = [5, 1, 40, 17, 16, 18, 33, 2] * 4
    numbers = iter(range(1, 10**6))
    documents = [
        Document(np.array([next(numbers) for _ in range(size)], np.int32), generator.random(size) < 0.9)
        for size in sizes
    ]
    rows = pack(documents, 16)
    learnt = sorted(token for document in documents for token in document.ids[1:][document.learnt[1:]])
    targets = rows.tokens[:, 1:][rows.weights > 0]
    first = {int(document.ids[0]) for document in documents}
    assert sorted(token for token in targets if token not in first) == learnt
    for tokens, weights in zip(rows.tokens, rows.weights, strict=True):
        for place in np.flatnonzero(weights):  # what is learnt stands behind its own past
            assert tokens[place + 1] in first or tokens[place] == tokens[place + 1] - 1


def test_an_epoch_shows_each_document_once_and_each_epoch_is_another_order():
    documents = [Document(np.full(9, i, np.int32), np.ones(9, bool)) for i in range(1, 33)]
    batches = Batches(documents, 8, 4, seed=1)
    epochs = [[sorted(row[0] for row in batches[epoch * 8 + i].tokens) for i in range(8)] for epoch in range(2)]
    for epoch in epochs:
        assert sorted(token for batch in epoch for token in batch) == list(range(1, 33))
    assert epochs[0] != epochs[1]
    assert np.array_equal(Batches(documents, 8, 4, seed=1)[11].tokens, batches[11].tokens)


def test_only_the_assistant_is_learnt(shape, tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({"messages": CHAT * 2}) + "\n\n")
    start = find_start(TrainingOptions(data="x", out="y", config=str(shape)))
    (document,) = read_documents(path, start.chat)
    tokenizer = start.chat.tokenizer
    said = [tokenizer.decode([token]) for token in document.ids[document.learnt].tolist()]
    assert "".join(said) == CHAT[1]["content"] * 2
    assert list(document.ids[document.learnt]).count(tokenizer.eos_ids[0]) == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"messages": 3}', "line 1 is not a conversation"),
        ("[]", "line 1 is not a conversation"),
        ('{"messages": [{"role": "user"}]}', "a message has no text"),
        ('{"messages": [{"role": "god", "content": "x"}]}', "role 'god'"),
        ("\n", "holds no conversation"),
    ],
)
def test_broken_conversations_are_named(shape, tmp_path, line, words):
    path = tmp_path / "chats.jsonl"
    path.write_text(line)
    with pytest.raises(TrainingError, match=words):
        read_documents(path, find_start(TrainingOptions(data="x", out="y", config=str(shape))).chat)


def test_a_template_that_rewrites_history_is_refused(shape, tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({"messages": CHAT * 2}))
    chat = find_start(TrainingOptions(data="x", out="y", config=str(shape))).chat
    chat = Chat(chat.tokenizer, "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}")
    with pytest.raises(TrainingError, match="renders message 1 otherwise once others follow"):
        read_documents(path, chat)


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "x"], "required: --out"),
        (["--data", "x", "--out", "y"], "give one of --config"),
        (["--data", "x", "--out", "y", "--config", "a", "--model", "b"], "give one of --config"),
        (["--data", "x", "--out", "y", "--config", "a", "--steps", "0"], "--steps is 0; expected at least 1"),
        (["--data", "x", "--out", "y", "--config", "a", "--dtype", "int8"], "expected float32 or bfloat16"),
        (
            ["--data", "x", "--out", "y", "--config", "a", "--dropout", "2"],
            "--dropout is 2.0; expected a number from 0",
        ),
        (["--data", "x", "--out", "y", "--config", "a", "--accumulate", "3"], "cannot be computed in --accumulate 3"),
        (["--data", "x", "--out", "", "--config", "a"], "--out is empty"),
    ],
)
def test_wrong_options_are_named(arguments, words):
    with pytest.raises(TrainingError) as refusal:
        read_options(arguments)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_command_refuses_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "llama_core.training", "--data", "nowhere.txt", "--config", str(tmp_path), "--out", "x"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env=dict(os.environ),
    )
    assert done.returncode == 2 and re.fullmatch(r"error: .*has no config.json[^\n]*\n", done.stderr), done.stderr


def test_the_curve_is_drawn_to_scale():
    image = loss_curve({"training": [(10, 4.0), (20, 2.0)], "validation": [(20, 1.0)]})
    (training, validation) = re.findall(r'points="([^"]*)"', image)
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in training.split())
    assert x2 == 592 and y1 == 48 and y2 == pytest.approx((48 + 272) / 2) and x1 < x2
    assert validation.split() == ["592.0,216.0"] and "last 1.000" in image


def quiet(line):
    """Nobody reads the progress of a test."""
