"""The scripts of examples/ run as they stand, without a network, and print what they promise."""

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from quick_compilation import QUICKLY

pytestmark = pytest.mark.usefixtures("quickly_compiled")

ROOT = Path(__file__).parents[1]


def run_process(name: str) -> str:
    """What a script prints, started as its first lines say."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **QUICKLY}
    command = [sys.executable, "-m", f"examples.{name}"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def run_example(monkeypatch, capsys):
    """The same in this process, without the seconds of a start."""

    def run(name: str) -> str:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(sys, "argv", [name])
        runpy.run_module(f"examples.{name}", run_name="__main__")
        return capsys.readouterr().out

    return run


def test_a_reply_is_streamed():
    answer, _, facts = run_process("stream_a_reply").rpartition("\n(")
    assert len(answer.split()) > 5
    assert facts.startswith(("stop,", "length,")) and "tokens/s" in facts


def test_an_alternative_is_taken_and_the_reply_goes_on(run_example):
    printed = run_example("alternatives_and_branch")
    original = printed.split("as it came:  ")[1].split("\n")[0]
    branched = printed.split("instead of token ")[1].partition(":  ")[2].split("\n")[0]
    assert original != branched and len(branched) > 20
    cached, total = map(int, printed.rpartition("(")[2].split(" tokens")[0].split(" of "))
    assert cached == total - 1


def test_a_reply_follows_a_schema(run_example):
    described, chosen = run_example("structured").splitlines()
    reply = ast.literal_eval(described.removeprefix("stop "))
    assert list(reply) == ["topic", "summary", "difficulty"] and reply["topic"] in ("sampling", "attention", "the page")
    assert len(reply["summary"]) <= 60 and reply["difficulty"] in range(1, 6)
    assert chosen in ("stop yes", "stop no", "stop maybe")


def test_a_text_is_learnt(run_example):
    pytest.importorskip("optax")
    printed = run_example("train_on_a_text")
    losses = [float(loss) for loss in re.findall(r"loss ([0-9.]+)", printed)]
    assert len(losses) > 1 and losses[-1] < losses[0]
    assert "parameters, in the Hub's format" in printed


def test_every_example_has_its_test():
    names = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert names == {"stream_a_reply", "alternatives_and_branch", "structured", "train_on_a_text"}
