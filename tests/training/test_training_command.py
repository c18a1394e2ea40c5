"""The command line of the trainer, and the curve that it draws."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from llama_core.training import TrainingError
from llama_core.training.__main__ import read_options
from llama_core.training.curve import loss_curve
from llama_core.training.run import find_start

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize(
    ("model", "words"), [("x.gguf", "is a GGUF file, whose tokenizer"), ("random:tiny", "is random")]
)
def test_a_start_without_tokenizer_files_is_refused_before_it_is_read(tmp_path, monkeypatch, model, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.gguf").write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 0))
    with pytest.raises(TrainingError, match=f"--model {model} {words}"):
        find_start(read_options(["--data", "x", "--out", "y", "--model", model]))


def test_the_curve_is_drawn_to_scale():
    image = loss_curve({"training": [(10, 4.0), (20, 2.0)], "validation": [(20, 1.0)]})
    (training, validation) = re.findall(r'points="([^"]*)"', image)
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in training.split())
    assert x2 == 592 and y1 == 48 and y2 == pytest.approx((48 + 272) / 2) and x1 < x2
    assert validation.split() == ["592.0,216.0"] and "last 1.000" in image
