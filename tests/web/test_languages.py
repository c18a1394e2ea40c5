"""The page's sentences in other languages: complete, with the same gaps to fill, and chosen as browsers ask."""

import string

import pytest

from web.languages import ENGLISH, LANGUAGES, requested_language, speaking
from web.strings import SCRIPT, TEXT

OTHERS = [language for language in LANGUAGES if language != ENGLISH]


def gaps(sentence):
    return sorted((name, form) for _, name, form, _ in string.Formatter().parse(sentence) if name is not None)


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("table", [TEXT, SCRIPT], ids=["text", "script"])
def test_a_table_has_the_keys_and_the_gaps_of_the_english_one(table, language):
    english, other = table.tables[ENGLISH], table.tables[language]
    assert list(other) == list(english)  # also in this order, so that two files can be read side by side
    assert [key for key in english if gaps(other[key]) != gaps(english[key])] == []
    assert [key for key in english if not other[key].strip()] == []


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7", "de"),
        (None, "zh-CN,zh;q=0.9", "zh"),
        (None, "fr, en;q=0.3, ZH-tw;q=0.7", "zh"),
        (None, "en-GB, de;q=0.9", "en"),
        (None, "de;q=0, fr", "en"),
        (None, "de;q=much, *", "en"),
        ("de", "zh", "de"),
        ("xx", "zh", "zh"),
    ],
)
def test_the_choice_comes_before_what_the_browser_accepts(chosen, accepted, language):
    assert requested_language(chosen, accepted) == language


def test_sentences_are_in_the_language_that_is_spoken():
    with speaking("de"):
        assert TEXT["knob_temperature"] == "Temperatur" and SCRIPT["send"] == "Senden"
        with speaking("zh"):
            assert SCRIPT["send"] == "发送"
        assert SCRIPT["send"] == "Senden"
    assert SCRIPT["send"] == "Send"
