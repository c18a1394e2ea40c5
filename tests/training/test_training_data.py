"""From a file to the rows of a batch: every token once, only the assistant's words learnt, what is broken named."""

import json

import numpy as np
import pytest

from llama_core.tokenizer.chat_template import Chat
from llama_core.training import TrainingError, TrainingOptions
from llama_core.training.data import Batches, Document, pack, read_documents
from llama_core.training.run import find_start

CHAT = [{"role": "user", "content": "the cat?"}, {"role": "assistant", "content": "sat on the mat"}]


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
