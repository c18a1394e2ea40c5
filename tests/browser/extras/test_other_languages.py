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

GAP = "[^\u4e00-\u9fff]+"  # what may stand for {...} in an English sentence: nothing Chinese


class Reader:
    """Somebody who reads `language`, its sentences, and the page."""

    def __init__(self, page, language):
        self.page, self.text, self.script = page, TEXT.tables[language], SCRIPT.tables[language]
        rows = [(table.tables[ENGLISH][key], table.tables[language][key]) for table in (TEXT, SCRIPT) for key in table]
        differ = [
            re.sub(r"\\{[^}]*\\}", lambda _: GAP, re.escape(english)) for english, other in rows if english != other
        ]
        self.english = re.compile("|".join(pattern for pattern in differ if re.search("[A-Za-z]{2}", pattern)))

    def look(self):
        """All that is seen; none of it is English, and it fits."""
        seen = self.page.evaluate(SEEN)
        parts = [part for words in seen for part in words.split(" · ")]
        assert [part for part in parts if self.english.fullmatch(part)] == []
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        return set(seen)

    def talk(self):
        """The first screen, a reply, the panel of a word, the map."""
        page, script = self.page, self.script
        assert {script["promise"], script["send"], script["message_hint"]} <= self.look()
        send(page, "Hello")
        expect(page.locator("#status")).to_contain_text(self.text["length_reason"].format(limit=40))
        self.look()
        tokens(page).nth(4).click()
        expect(page.locator(".odds button")).not_to_have_count(0)
        self.look()
        page.locator(".odds button").first.press("Escape")
        page.get_by_role("button", name=script["map"]).click()
        self.look()
        page.keyboard.press("Escape")

    def set_up(self):
        """The settings, what is wrong with one of them, the sheet of models, the chats."""
        page, text = self.page, self.text
        with sidebar(page, "settings"):
            page.get_by_text(text["more"], exact=True).click()
            self.look()
            seed = page.get_by_label(text["seed"])
            seed.fill("seven")
        type_and_enter(page, "And now?")
        expect(page.locator("#status")).to_contain_text("seven")
        expect(seed).to_have_attribute("aria-invalid", "true")
        self.look()
        page.get_by_role("tab", name=text["hood"]).click()
        expect(page.locator("#picture svg")).to_be_visible()
        self.look()
        page.get_by_role("tab", name=text["chat"]).click()
        page.locator("#model-chip").click()
        expect(page.locator(".models").first).to_be_visible()
        self.look()
        page.keyboard.press("Escape")


@pytest.mark.parametrize(("locale", "other"), [("de-DE", "en"), ("zh-CN", "de")])
def test_nothing_is_said_in_english_and_another_language_can_be_chosen(fake, open_page, locale, other):
    page, language = open_page(fake, 390, 844, locale=locale), locale[:2]
    expect(page.locator("html")).to_have_attribute("lang", language)
    reader = Reader(page, language)
    reader.talk()
    reader.set_up()
    with sidebar(page, "library"):
        reader.look()
        page.get_by_label(reader.script["language"]).select_option(other)
    expect(page.locator("html")).to_have_attribute("lang", other)
    expect(page.locator("#message textarea")).to_have_value("And now?")  # it was not sent
    hint = SCRIPT.tables[other]["message_hint"]
    expect(page.locator("#message textarea")).to_have_attribute("placeholder", hint)
