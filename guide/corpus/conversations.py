"""Conversations of one or two questions, drawn from all that the guide can do."""

from collections.abc import Callable, Iterator
from random import Random

from guide.corpus import numbers
from guide.corpus.grammar import as_typed, question
from guide.corpus.stories import AGAIN, story, story_request
from guide.corpus.topics import Topic, read_topics
from guide.corpus.unknown import unknown
from guide.held_out import plain, read_questions

# Instructions that people give to models; the guide is to carry on as ever.
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "Be brief.",
    "Answer politely.",
    "You are a pirate.",
    "Be kind.",
    "You are an expert.",
    "Answer in one sentence.",
    "You are a friendly llama.",
)
Exchange = tuple[str, str]


def conversations(count: int, seed: int) -> Iterator[dict]:
    """`count` conversations as {"messages": […]}. No question of `held_out.txt` is among them."""
    random, kinds = Random(seed), _kinds()
    forbidden = {plain(question.text) for question in read_questions()}
    while count:
        turns = [_exchange(kinds, random) for _ in range(random.choices((1, 2), (60, 40))[0])]
        turns = [(as_typed(asked, random), said) for asked, said in turns]
        if random.random() < 0.02:
            turns = _with_another_story(random)
        if any(plain(asked) in forbidden for asked, _ in turns):
            continue
        count -= 1
        system = [{"role": "system", "content": random.choice(SYSTEM_PROMPTS)}] if random.random() < 0.04 else []
        said = [pair for turn in turns for pair in zip(("user", "assistant"), turn, strict=True)]
        yield {"messages": system + [{"role": role, "content": text} for role, text in said]}


def _kinds() -> list[tuple[float, Callable[[Random], Exchange]]]:
    facts, small_talk = read_topics("facts.txt"), read_topics("small_talk.txt")
    return [
        (0.55, lambda random: _about(facts, random)),
        (0.08, lambda random: _about(small_talk, random)),
        (0.14, unknown),
        (0.15, numbers.sum_of),
        (0.015, numbers.difference_of),
        (0.015, numbers.too_hard),
        (0.02, numbers.counting),
        (0.03, story_request),
    ]


def _exchange(kinds: list[tuple[float, Callable[[Random], Exchange]]], random: Random) -> Exchange:
    make = random.choices([make for _, make in kinds], [share for share, _ in kinds])[0]
    return make(random)


def _about(topics: list[Topic], random: Random) -> Exchange:
    topic = random.choice(topics)
    return question(topic, random), random.choice(topic.answer)


def _with_another_story(random: Random) -> list[Exchange]:
    asked, told = story_request(random)
    return [(as_typed(asked, random), told), (as_typed(random.choice(AGAIN), random), story(random))]
