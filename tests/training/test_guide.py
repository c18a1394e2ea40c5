"""The guide's corpus, its tokenizer in both forms, its examination, and the committed weights."""

import json
from itertools import islice
from pathlib import Path
from random import Random

import jax
import numpy as np
import pytest
import torch
import transformers
from checkpoints import forward

from guide.corpus import conversations
from guide.corpus.stories import story, story_words
from guide.corpus.topics import read_topics
from guide.evaluate import GUIDE, Examiner, is_story
from guide.held_out import UNKNOWN, Question, plain, read_questions
from guide.prepare import prepare
from llama_core import Engine, load_checkpoint
from llama_core.model.params import count_params
from llama_core.tokenizer import load_tokenizer

TYPED = [
    "What is temperature?",
    "7 + 8 = 15.",
    "It's  a   llama\n\n\t'S",
    "naïve Ärger 🦙 你好",
    "<|eot_id|> 123456",
    "",
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guide")
    return folder, prepare(folder, 400)


@pytest.fixture(scope="module")
def guide():
    return load_checkpoint(GUIDE)


def asked(rows):
    return [m["content"] for row in rows for m in row["messages"] if m["role"] == "user"]


def test_the_corpus_follows_from_its_seed(prepared, tmp_path):
    assert prepare(tmp_path, 400) == prepared[1]
    assert list(conversations(50, 1)) != list(conversations(50, 2))


def test_training_never_sees_a_held_out_question():
    held_out = {plain(question.text) for question in read_questions()}
    assert not held_out & {plain(text) for text in asked(conversations(10_000, 1))}
    assert plain("What's a  TOKEN?!") == plain("whats a token")


def test_questions_are_many_and_answers_are_told_apart():
    questions = read_questions()
    inside = [question for question in questions if question.section != UNKNOWN]
    assert len(inside) >= 200 and len(questions) - len(inside) >= 50
    assert len({plain(question.text) for question in questions}) == len(questions)
    topics = read_topics("facts.txt") + read_topics("small_talk.txt")
    for question in inside:  # a wrong fact fails: what is said about other topics does not pass
        right = [topic.name for topic in topics if any(map(question.is_answered_by, topic.answer))]
        of_numbers = "2, " in question.must[0][0] or "add" in question.must[0][0]
        assert len(right) in ((0,) if of_numbers else (1, 2)), (question.text, right)


def test_an_answer_needs_each_of_its_words():
    question = Question("facts", "?", (("red", "blue"), ("hat",)))
    assert question.is_answered_by("A blue HAT") and not question.is_answered_by("A hat")
    assert not question.is_answered_by("red and blue")


def test_stories_differ_and_the_check_knows_a_broken_one():
    random = Random(0)
    stories = [story(random) for _ in range(200)]
    assert len(set(stories)) == 200 and all(is_story(text, "stop") for text in stories)
    assert not is_story(stories[0], "length") and not is_story(stories[0][:-1], "stop")
    assert not is_story(stories[0].replace("was", "wass").replace("lived", "livde"), "stop")
    assert "llama" in story_words() and "softmax" not in story_words()


def test_both_tokenizer_files_agree(prepared):
    hub, meta = (load_tokenizer(prepared[0] / name) for name in ("tokenizer.json", "tokenizer.model"))
    library = transformers.AutoTokenizer.from_pretrained(prepared[0])
    for text in TYPED + asked(conversations(200, 9)):
        ids = hub.encode(text)
        assert ids == meta.encode(text) and hub.decode(ids) == text
        if "<|" not in text:
            assert ids == library.encode(text, add_special_tokens=False)
    assert hub.special_tokens == meta.special_tokens and len(hub.special_tokens) == 256
    assert (hub.bos_id, hub.special_tokens["<|eot_id|>"]) == (meta.bos_id, hub.eos_ids[0])


def test_the_prompt_keeps_the_last_three_messages_and_is_that_of_transformers(guide):
    library = transformers.AutoTokenizer.from_pretrained(GUIDE)
    talk = [{"role": role, "content": f"{role} {i}"} for i in range(4) for role in ("user", "assistant")][:-1]
    chats = [talk[:1], talk, [{"role": "system", "content": "Be kind."}, *talk]]
    for messages in chats:
        expected = library.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert guide.chat.prompt_ids(messages) == expected
    text = guide.tokenizer.decode(guide.chat.prompt_ids(chats[2]))
    assert text == "systemBe kind.useruser 2assistantassistant 2useruser 3assistant"


def test_transformers_gives_the_same_logits(guide):
    reference = transformers.AutoModelForCausalLM.from_pretrained(GUIDE, dtype=torch.float32)
    [(ids, _)] = guide.chat.training_ids([next(iter(conversations(1, 7)))["messages"]])
    with torch.no_grad():
        expected = reference(torch.tensor([ids])).logits.numpy()
    with jax.default_matmul_precision("highest"):
        found, _ = forward(guide.params, np.array([ids]), guide.config)
    np.testing.assert_allclose(found, expected, atol=2e-3, rtol=0)


def test_the_weights_are_small_and_the_guide_knows_its_size(guide):
    assert (GUIDE / "model.safetensors").stat().st_size <= 10 * 2**20
    assert {path.suffix for path in GUIDE.iterdir()} <= {".safetensors", ".json", ".model", ".jinja", ".md", ".svg"}
    assert len(json.loads((GUIDE / "examples.json").read_text())) == 4
    facts = (Path(__file__).parents[2] / "guide" / "corpus" / "facts.txt").read_text()
    assert f"{round(count_params(guide.config) / 1e6)} million parameters" in facts


def test_the_guide_answers(guide):
    """A part of the examination; all of it is `python -m guide.evaluate`, its figures are in the model card."""
    inside = [question for question in read_questions() if question.section != UNKNOWN]
    outside = [question for question in read_questions() if question.section == UNKNOWN]
    chosen = [*islice(inside, 0, None, 12), *islice(outside, 0, None, 12)]
    with Engine(guide, slots=2, max_seq_len=512) as engine:
        examiner = Examiner(guide, engine)
        answers = [answer for answer, _ in examiner.ask([question.text for question in chosen])]
        stories = [text for text, _ in examiner.ask(["Tell me a story"] * 4, temperature=0.8)]
    right = [question.is_answered_by(answer) for question, answer in zip(chosen, answers, strict=True)]
    assert np.mean(right) >= 0.75
    assert len(set(stories)) >= 3
