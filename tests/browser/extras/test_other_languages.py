"""The page in German and Chinese, as a browser that prefers them gets it."""

import re

import pytest
from playwright.sync_api import expect
from steps import send, sidebar, tokens, type_and_enter

from web.languages import ENGLISH
from web.strings import SCRIPT, TEXT

# All that is read or said: texts, and the names of what has none.
SEEN = """() => { const found = new Set();
    for (const e of document.querySelectorAll('body *:not(script, style, .said, .tok, .examples *)')) {
        if (!e.checkVisibility()) continue;
        for (const node of e.childNodes) if (node.nodeType === Node.TEXT_NODE) found.add(node.data.trim());
        for (const name of ['aria-label', 'title', 'placeholder']) found.add((e.getAttribute(name) || '').trim());
    }
    return [...found].filter((words) => words); }"""


def english_only(language):
    """A pattern for each English sentence that this language has otherwise."""
    rows = [(table.tables[ENGLISH][key], table.tables[language][key]) for table in (TEXT, SCRIPT) for key in table]
    sentences = [re.escape(english) for english, other in rows if english != other]
    return re.compile("|".join(re.sub(r"\\{[^}]*\\}", ".+", sentence) for sentence in sentences))


@pytest.mark.parametrize(("locale", "chosen"), [("de-DE", "English"), ("zh-CN", "Deutsch")])
def test_nothing_is_said_in_english_and_another_language_can_be_chosen(fake, open_page, locale, chosen):
    page, language = open_page(fake, 390, 844, locale=locale), locale[:2]
    foreign, words = english_only(language), SCRIPT.tables[language]

    def look():
        seen = page.evaluate(SEEN)
        parts = [part for text in seen for part in text.split(" · ")]
        assert [part for part in parts if foreign.fullmatch(part)] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        return seen

    expect(page.locator("html")).to_have_attribute("lang", language)
    expect(page.locator("#status")).to_have_text(words["ready"])
    assert {words["promise"], words["send"], TEXT.tables[language]["message_hint"]} <= set(look())
    send(page, "Hello")
    expect(page.locator("#status")).to_contain_text(TEXT.tables[language]["length_reason"].format(limit=40))
    look()
    tokens(page).nth(4).click()
    expect(page.locator(".odds button")).not_to_have_count(0)
    look()
    page.locator(".odds button").first.press("Escape")
    page.get_by_role("button", name=words["map"]).click()
    look()
    page.keyboard.press("Escape")
    with sidebar(page, "settings"):
        page.get_by_text(TEXT.tables[language]["more"], exact=True).click()
        look()
        seed = page.get_by_label(TEXT.tables[language]["seed"])
        seed.fill("seven")
    type_and_enter(page, "And now?")
    expect(page.locator("#status")).to_contain_text("seven")
    assert seed.get_attribute("aria-invalid") == "true"
    look()
    page.get_by_role("tab", name=TEXT.tables[language]["hood"]).click()
    expect(page.locator("#picture svg")).to_be_visible()
    look()
    page.get_by_role("tab", name=TEXT.tables[language]["chat"]).click()
    page.locator("#model-chip").click()
    expect(page.locator(".models").first).to_be_visible()
    look()
    page.keyboard.press("Escape")
    with sidebar(page, "library"):
        look()
        page.get_by_label(words["language"]).select_option(chosen)
    expect(page.locator("html")).to_have_attribute("lang", {"English": "en", "Deutsch": "de"}[chosen])
    expect(page.locator("#message textarea")).to_have_attribute(
        "placeholder", {"English": "Write a message", "Deutsch": "Schreib eine Nachricht"}[chosen]
    )
