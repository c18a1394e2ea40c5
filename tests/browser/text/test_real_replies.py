"""Tints over the replies of a real model, SmolLM2-135M-Instruct: see tests/checkpoint/gguf/test_gguf_real_model.py for
the file that the variable SMOLLM2_GGUF names."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect
from readings import READ, WALK
from steps import converse, replies, set_knob

PATH = Path(os.environ.get("SMOLLM2_GGUF", "SMOLLM2_GGUF is not set"))
pytestmark = pytest.mark.skipif(not PATH.is_file(), reason=f"no file {PATH}")

TASKS = [
    "Write a Python function about {}.",
    "Make a Markdown table about {}.",
    "List five facts about {}, each with a bold word.",
    "Write a page about {} in Markdown with headings.",
    "Write a short poem about {} with emojis.",
    "Give a LaTeX formula that has to do with {} and explain it.",
    "Write an HTML page about {}.",
    "Write a dialogue about {}, with quotes.",
    "Make a to-do list about {} with nested points.",
    "Explain {} in French and in Chinese.",
]
SUBJECTS = ["llamas", "glass", "the sea", "prime numbers", "bread", "Rome", "rain", "chess", "sorting", "the moon"]


def test_every_token_of_a_hundred_replies_is_reached_and_read(start_app, open_page):
    app = start_app("--model", str(PATH), "--slots", "1", "--max-seq-len", "512", waits=False)
    page = open_page(app.wait_until_ready(600))
    set_knob(page, "Max tokens", 60)
    wrong = []
    for task in TASKS:
        for subject in SUBJECTS:
            page.evaluate("Glass.chat.leave(null)")
            expect(replies(page)).to_have_count(0)
            converse(page, task.format(subject))
            count = page.evaluate("Glass.chat.chat.nodes.at(-1).tokens.length")
            of_spans, rendered, indices = page.evaluate(READ)
            is_whole = of_spans == rendered and indices == sorted(indices) and set(indices) == set(range(count))
            if not is_whole or page.evaluate(WALK, count) != list(range(count)):
                wrong.append((task.format(subject), of_spans, rendered, count, len(set(indices))))
    assert wrong == []
