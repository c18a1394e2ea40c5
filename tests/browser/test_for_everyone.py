"""The page for keyboards, screen readers and phones, and against words that want to be more than words."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from steps import converse, send, set_knob, tokens, version, wait_for, wait_until_ready, words


def test_the_keyboard_alone_talks_stops_and_branches(wide, fake):
    set_knob(wide, "Max tokens", 2000)
    wide.locator("body").press("/")
    wide.keyboard.type("Hello")
    expect(wide.get_by_role("button", name="Send")).to_be_visible()
    wide.keyboard.press("Enter")
    expect(tokens(wide).nth(10)).to_be_attached()
    wide.keyboard.press("Escape")
    wait_until_ready(wide, "stopped by you")
    wide.locator("#message textarea").blur()
    wide.keyboard.press("k")
    expect(tokens(wide).first).to_be_focused()
    for _ in range(3):
        wide.keyboard.press("ArrowRight")
    expect(tokens(wide).nth(3)).to_be_focused()
    wide.keyboard.press("Enter")
    wide.keyboard.press("ArrowDown")
    wide.keyboard.press("Enter")
    expect(version(wide)).to_have_text("2/2")
    expect(tokens(wide).nth(3)).to_be_focused()  # where the branch begins
    wide.keyboard.press("Escape")
    wide.keyboard.press("?")
    expect(wide.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    wide.keyboard.press("Escape")
    expect(wide.get_by_role("dialog", name="Keyboard shortcuts")).not_to_be_visible()


def test_controls_have_names_and_the_end_of_a_reply_is_said_once(wide):
    nameless = wide.evaluate("""() => [...document.querySelectorAll('button, input, textarea, [role=button]')]
        .filter((e) => e.checkVisibility() && !e.ariaHidden && !(e.ariaLabel || e.innerText || e.title ||
            e.labels?.[0]?.innerText || e.getAttribute('aria-labelledby'))).map((e) => e.outerHTML.slice(0, 200))""")
    assert nameless == []
    wide.evaluate("""() => { window.said = []; new MutationObserver(() => {
        const words = document.querySelector('#announcer')?.textContent; if (words) window.said.push(words);
    }).observe(document.body, {childList: true, subtree: true, characterData: true}) }""")
    converse(wide, "Hello")
    wide.wait_for_function("window.said.some((words) => words.startsWith('Reply:'))")
    assert len(set(wide.evaluate("window.said"))) == 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_any_tab(fake, open_page, theme):
    page = open_page(fake, theme=theme)
    set_knob(page, "Max tokens", 40)
    converse(page, "Hello")
    tokens(page).nth(4).click()
    expect(page.locator("#plot table")).to_be_visible()
    for tab in ("Chat", "Model", "Under the hood"):
        if tab != "Chat":
            page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(400)
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]})
        broken = found.response["violations"]
        assert [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in broken] == []


def test_a_phone_scrolls_one_way_and_covers_nothing(fake, open_page, shoot):
    page = open_page(fake, 390, 844)
    toggles = page.locator(".sidebar .toggle-button")
    for i in range(2):
        expect(toggles.nth(i)).to_have_attribute("aria-expanded", "false")
    converse(page, "long" * 200)
    for tab in ("Chat", "Model", "Under the hood"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
    page.get_by_role("tab", name="Chat").click()
    expect(page.locator("#message textarea")).to_be_in_viewport()
    covered = page.evaluate("""() => {
        const text = [...document.querySelectorAll('#header h1, .message .body')].map((e) => e.getBoundingClientRect());
        const over = [...document.querySelectorAll('.sidebar .toggle-button')].map((e) => e.getBoundingClientRect());
        return text.some((a) => over.some((b) => a.left < b.right && b.left < a.right)); }""")
    assert not covered
    small = page.evaluate("""() => [...document.querySelectorAll('button')]
        .filter((e) => e.checkVisibility() && e.tabIndex >= 0)
        .map((e) => [e.getBoundingClientRect(), e.outerHTML.slice(0, 150)])
        .filter(([r]) => r.width > 2 && (r.width < 24 || r.height < 24)).map(([, html]) => html)""")
    assert small == []
    shoot(page, "phone")


def test_hostile_words_stay_words(page):
    converse(page, "script", "the model finished")
    for _ in range(2):
        assert page.title() == "Glass Llama"
        assert page.locator("#conversation").locator("script, iframe, form, img, a, input").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        expect(words(page)).to_contain_text("<script>document.title='owned'</script>")
        expect(words(page)).to_contain_text("https://evil.example/steal.png")
        page.get_by_role("button", name="Probabilities").click()  # and as Markdown
    page.evaluate("Glass.store.setting('tokens', 'on')")


def test_markdown_becomes_elements(wide):
    made = wide.evaluate("""() => { const home = document.createElement('div');
        home.append(...Glass.markdown('# Head\\n\\nOne **two** `three`\\n\\n- a\\n- b\\n\\n| x | y |\\n' +
            '|--|--|\\n| 1 | 2 |\\n\\n```js\\n<b>**raw**</b>\\n```\\n> quoted'));
        return [home.querySelector('.heading').textContent, home.querySelector('strong').textContent,
            home.querySelector('code').textContent, home.querySelectorAll('li').length,
            home.querySelectorAll('td').length, home.querySelector('pre').textContent,
            home.querySelector('blockquote').textContent]; }""")
    assert made == ["Head", "two", "three", 2, 2, "<b>**raw**</b>", "quoted"]


def test_a_closed_tab_frees_its_slot(fake, open_page):
    page = open_page(fake)
    set_knob(page, "Max tokens", 2000)
    send(page, "Hello")
    wait_for(lambda: fake.health()["busy"] == 1, 5)
    page.close()
    wait_for(lambda: fake.health()["busy"] == 0, 1.0)
