"""Which language is spoken now, and tables of sentences that are read in it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

ENGLISH = "en"
LANGUAGES = {ENGLISH: "English", "de": "Deutsch", "zh": "中文"}
COOKIE = "glass_llama_language"  # what the person chose, as assets/panels/language.js keeps it

# Each request is answered in a context of its own (a task or a thread), so people hear their own language at once.
_now: ContextVar[str] = ContextVar("language", default=ENGLISH)


def language_now() -> str:
    """A key of `LANGUAGES`."""
    return _now.get()


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """What is read from the tables here is in this language."""
    token = _now.set(language)
    try:
        yield
    finally:
        _now.reset(token)


def requested_language(chosen: str | None, accepted: str) -> str:
    """The language that was `chosen` on the page, else the first of the Accept-Language header (RFC 9110, 12.5.4) that
    there is, else English."""
    if chosen in LANGUAGES:
        return chosen
    tags = [tag.strip().partition(";") for tag in accepted.split(",")]
    for tag, _, weight in sorted(tags, key=lambda parts: -_weight(parts[2])):
        language = tag.strip().partition("-")[0].lower()
        if language in LANGUAGES and _weight(weight) > 0:
            return language
    return ENGLISH


def _weight(text: str) -> float:
    name, _, number = text.strip().partition("=")
    try:
        return float(number) if name == "q" else 1.0
    except ValueError:
        return 0.0


class Sentences(Mapping[str, str]):
    """A table of sentences by key, in the language that is spoken now. `part` names it in the files of the other
    languages; what a file lacks is said in English."""

    def __init__(self, part: str, english: Mapping[str, str]):
        folder = Path(__file__).parent
        others = [language for language in LANGUAGES if language != ENGLISH]
        files = {language: json.loads((folder / f"{language}.json").read_text("utf-8")) for language in others}
        self.tables = {ENGLISH: english, **{language: file[part] for language, file in files.items()}}

    def __getitem__(self, key: str) -> str:
        return self.tables[language_now()].get(key) or self.tables[ENGLISH][key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables[ENGLISH])

    def __len__(self) -> int:
        return len(self.tables[ENGLISH])
