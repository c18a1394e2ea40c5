"""The words that `glass-llama` takes in place of settings, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "app.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("train",), 2, "--data"),
        (("train", "--help"), 0, "--steps"),
        (("space", "deploy", "no-name"), 2, "expected NAME/SPACE"),
        (("space", "--help"), 0, "deploy"),
        (("bench",), 2, "serving"),
        (("bench", "stall", "--help"), 0, "--long"),
        (("--help",), 0, "train (a model"),
        (("serve",), 2, "--help"),
    ],
)
def test_commands_reach_their_modules(arguments, code, words):
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert words in " ".join((done.stdout + done.stderr).split()) and "Traceback" not in done.stderr


def test_training_without_its_package_says_how_to_get_it():
    code = (
        "import runpy, sys; sys.modules['optax'] = None; "
        "sys.argv = ['train', '--data', 'a.txt', '--config', 'weights/guide', '--out', 'b']; "
        "runpy.run_module('llama_core.training', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "error: training needs optax: pip install" in done.stderr
