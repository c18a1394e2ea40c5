"""The examination: `python -m guide.evaluate [FOLDER]` asks a model all held-out questions, sums and stories.

Prints what went wrong and a table, and ends in one line of JSON.
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from guide.corpus.stories import story_words
from guide.held_out import read_questions
from llama_core import Engine, SamplingParams, load_checkpoint
from llama_core.engine.request import Request

GUIDE = Path(__file__).parents[1] / "weights" / "guide"
STORIES, STORY_TEMPERATURE = 50, 0.8
AT_ONCE = 8
# Phrasings of a sum that no pattern of the corpus makes.
SUM_QUESTION = "Could you work out {a} + {b} for me?"


class Examiner:
    """Asks a model through the app's own engine."""

    def __init__(self, model, engine: Engine):
        self._model, self._engine = model, engine

    def ask(self, questions: Sequence[str], temperature: float = 0.0) -> list[tuple[str, str]]:
        """The answer to each question, in a chat of its own with its place as seed, and why it ended."""
        answers = []
        for first in range(0, len(questions), AT_ONCE):
            replies = [
                self._start(text, SamplingParams(temperature=temperature, seed=first + i, max_new_tokens=160))
                for i, text in enumerate(questions[first : first + AT_ONCE])
            ]
            answers += [
                (self._model.tokenizer.decode([token.id for token in reply]), reply.finish_reason) for reply in replies
            ]
        return answers

    def _start(self, text: str, params: SamplingParams) -> Request:
        return self._engine.submit(self._model.chat.prompt_ids([{"role": "user", "content": text}]), params)


def examine(examiner: Examiner) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Right answers and number of questions by subject, and the wrong answers in words."""
    questions, results, wrong = read_questions(), {}, []
    answers = [answer for answer, _ in examiner.ask([question.text for question in questions])]
    for question, answer in zip(questions, answers, strict=True):
        _mark(results, wrong, question.section, question.is_answered_by(answer), f"{question.text} -> {answer}")
    pairs = [(a, b) for a in range(20) for b in range(20)]
    sums = examiner.ask([SUM_QUESTION.format(a=a, b=b) for a, b in pairs])
    for (a, b), (answer, _) in zip(pairs, sums, strict=True):
        right = answer.strip() == f"{a} + {b} = {a + b}."
        _mark(results, wrong, "sums under 20", right, f"{a} + {b} -> {answer}")
    told = examiner.ask(["Tell me a story"] * STORIES, STORY_TEMPERATURE)
    for story, reason in told:
        _mark(results, wrong, "stories well formed", is_story(story, reason), f"({reason}) {story}")
    results["stories distinct"] = (len({story for story, _ in told}), STORIES)
    return results, wrong


def is_story(text: str, finish_reason: str) -> bool:
    """Ended by the model itself, at the end of a sentence, of at least three sentences and known words only."""
    words = set(re.findall(r"[a-z']+", text.lower()))
    return (
        finish_reason == "stop"
        and text.rstrip().endswith(".")
        and len(re.findall(r"[.!?]", text)) >= 3
        and words <= story_words()
    )


def _mark(results: dict, wrong: list[str], subject: str, right: bool, words: str) -> None:
    done, count = results.get(subject, (0, 0))
    results[subject] = (done + right, count + 1)
    if not right:
        wrong.append(f"{subject}: {words}")


def table(results: dict[str, tuple[int, int]]) -> str:
    """The results as a table in Markdown."""
    rows = [
        f"| {subject} | {right} of {count} | {100 * right / count:.1f} % |"
        for subject, (right, count) in results.items()
    ]
    return "\n".join(["| subject | right | share |", "|---|---|---|", *rows])


def main(folder: Path) -> None:
    """Examine the model in this folder and print the results."""
    model = load_checkpoint(folder)
    with Engine(model, slots=AT_ONCE, max_seq_len=512) as engine:
        results, wrong = examine(Examiner(model, engine))
    print("\n".join(wrong), table(results), json.dumps(results), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GUIDE)
