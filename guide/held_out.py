"""The examination paper: `held_out.txt`, questions that training never sees, and what a right answer contains."""

import re
from dataclasses import dataclass
from pathlib import Path

PAPER = Path(__file__).with_name("held_out.txt")
UNKNOWN = "far outside"


@dataclass(frozen=True)
class Question:
    """A question of a section of the paper. A right answer contains, of each of `must`, at least one alternative."""

    section: str
    text: str
    must: tuple[tuple[str, ...], ...]

    def is_answered_by(self, answer: str) -> bool:
        """Whether the answer has all that it must have; capitals do not matter."""
        return all(any(word in answer.lower() for word in words) for words in self.must)


def read_questions() -> list[Question]:
    """All questions; those far outside the guide's ground must be answered by a plain no."""
    questions, section = [], ""
    for line in PAPER.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif section and line.strip():
            text, _, must = line.partition(" => ")
            must = must or "i don't know"
            questions.append(
                Question(
                    section,
                    text,
                    tuple(tuple(word.strip() for word in words.split("|")) for words in must.lower().split(" & ")),
                )
            )
    return questions


def plain(question: str) -> str:
    """A question without capitals, signs and double spaces: what counts as the same question."""
    return " ".join(re.findall(r"[\w+*/.-]+", question.lower().replace("'", ""))).strip(".")
