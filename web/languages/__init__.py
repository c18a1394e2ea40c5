"""The page in the language of who reads it: which languages there are, and which one a request is answered in. English
is the source (web/strings.py); each other language is a JSON file here, with the same keys."""

from web.languages.blocks import TranslatedBlocks, language_of
from web.languages.sentences import COOKIE, ENGLISH, LANGUAGES, Sentences, language_now, requested_language, speaking

__all__ = [
    "COOKIE",
    "ENGLISH",
    "LANGUAGES",
    "Sentences",
    "TranslatedBlocks",
    "language_now",
    "language_of",
    "requested_language",
    "speaking",
]
