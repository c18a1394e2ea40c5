"""The text files beside this one: what the guide knows, as topics, and tables of patterns."""

from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent
KEYS = ("terms", "do", "ask", "answer")


@dataclass(frozen=True)
class Topic:
    """One thing that the guide can say: `answers`, of which one is drawn, and patterns of the questions for it."""

    name: str
    terms: list[str] = field(default_factory=list)
    do: list[str] = field(default_factory=list)
    ask: list[str] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)


def read_topics(file: str) -> list[Topic]:
    """The topics of `facts.txt` or `small_talk.txt`, as the head of each file describes them."""
    topics: list[Topic] = []
    for number, line in enumerate((FOLDER / file).read_text(encoding="utf-8").splitlines(), 1):
        key, _, words = line.partition(":")
        if line.startswith("# "):
            topics.append(Topic(line[2:].strip()))
        elif topics and key in KEYS:
            words = words.strip()
            getattr(topics[-1], key).extend(words.split(" | ") if key == "terms" else [words])
        elif topics and line.strip():
            raise ValueError(f"{file}, line {number}: {key!r} is unknown; expected {', '.join(KEYS)} or a heading")
    return topics


def read_tables(file: str) -> dict[str, list[str]]:
    """The tables of `numbers.txt` or `unknown.txt`: the lines below each heading, by its name."""
    _, *sections = (FOLDER / file).read_text(encoding="utf-8").split("\n# ")
    tables = (section.strip().splitlines() for section in sections)
    return {name: lines for name, *lines in tables}
