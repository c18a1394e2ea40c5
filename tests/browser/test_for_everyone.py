"""The page for keyboards, screen readers and phones, and against words that want to be more than words."""

import pytest
from barriers import look_for_barriers
from playwright.sync_api import expect
from steps import converse, send, set_knob, sidebar, tokens, type_and_enter, version, wait_until_ready, words


def test_the_keyboard_alone_talks_stops_and_branches(page, fake):
    set_knob(page, "Max tokens", 2000)
    page.keyboard.type("Hello")  # wherever the focus is
    expect(page.locator("#message textarea")).to_have_value("Hello")
    page.keyboard.press("Enter")
    expect(tokens(page).nth(10)).to_be_attached()
    page.keyboard.press("Escape")
    wait_until_ready(page, "Stopped")
    page.keyboard.press("ArrowUp")
    expect(tokens(page).first).to_be_focused()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(tokens(page).nth(3)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".odds button").first).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(version(page)).to_have_text("2/2")
    expect(tokens(page).nth(3)).to_be_focused()  # where the branch begins
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).not_to_be_visible()


@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_wherever_one_goes(fake, open_page, width):
    page = open_page(fake, width)
    look_for_barriers(page)
    converse(page, "Hello")
    tokens(page).nth(4).click()
    expect(page.locator(".odds")).to_be_visible()
    look_for_barriers(page)
    page.locator(".odds button").first.press("Escape")
    page.keyboard.press("?")
    look_for_barriers(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Map of this chat").click()
    expect(page.locator("#map [role=treeitem]")).to_have_count(2)
    look_for_barriers(page)
    page.keyboard.press("Escape")
    for name in ("settings", "library"):
        with sidebar(page, name):
            look_for_barriers(page)
    page.locator("#model-chip").click()
    expect(page.locator(".models").first).to_be_visible()
    look_for_barriers(page)
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Under the hood").click()
    expect(page.locator("#picture .residual")).to_have_count(2)  # around attention and around the feed-forward part
    expect(page.locator("#numbers")).to_contain_text("KV cache in use")
    look_for_barriers(page)


def test_a_phone_scrolls_one_way_and_covers_nothing(fake, open_page):
    page = open_page(fake, 390, 844)
    expect(page.locator("#header h1")).to_be_in_viewport()
    converse(page, "long" * 200)
    for tab in ("Chat", "Under the hood"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
    page.get_by_role("tab", name="Chat").click()
    expect(page.locator("#message textarea")).to_be_in_viewport()
    covered = page.evaluate("""() => { scrollTo(0, document.documentElement.scrollHeight / 2);
        const boxes = (what) => [...document.querySelectorAll(what)].map((e) => e.getBoundingClientRect());
        const [bar] = boxes('#top'), toggles = boxes('.sidebar .toggle-button');
        const meets = (a) => toggles.some((b) => a.left < b.right && b.left < a.right);
        // What scrolls passes under the header, in which the toggles lie beside its words.
        const within = toggles.every((b) => b.top >= bar.top && b.bottom <= bar.bottom);
        const seen = [...Array(bar.width - 1)].map((_, x) => document.elementFromPoint(bar.left + x, bar.bottom - 2));
        return [boxes('#header h1, #model-chip').some(meets), !within, seen.some((e) => e.closest('.message'))]; }""")
    assert covered == [False, False, False]
    small = page.evaluate("""() => [...document.querySelectorAll('button')]
        .filter((e) => e.checkVisibility() && e.tabIndex >= 0)
        .map((e) => [e.getBoundingClientRect(), e.outerHTML.slice(0, 150)])
        .filter(([r]) => r.width > 2 && (r.width < 24 || r.height < 24)).map(([, html]) => html)""")
    assert small == []


# Whether what has the focus had it before; false as long as something lies over it (a list that was open fades away).
FOCUS = """() => { const e = document.activeElement, r = e.getBoundingClientRect(), seen = window.focused ??= new Set();
    if (e === document.body) return 'between the last and the first';
    if (seen.has(e)) return 'again';
    const at = document.elementFromPoint(r.left + r.width / 2, r.top + r.height / 2);
    const outlined = getComputedStyle(e).outlineStyle !== 'none' || e.closest('#message');
    return outlined && (e.contains(at) || at?.contains(e)) && Boolean(seen.add(e)); }"""


def test_controls_have_names_their_focus_is_seen_and_hostile_words_stay_words(page):
    nameless = page.evaluate("""() => [...document.querySelectorAll('button, input, textarea, [role=button]')]
        .filter((e) => e.checkVisibility() && !e.ariaHidden && !(e.ariaLabel || e.textContent || e.title ||
            e.labels?.[0]?.textContent || e.getAttribute('aria-labelledby'))).map((e) => e.outerHTML.slice(0, 200))""")
    assert nameless == []
    page.evaluate("""() => { window.said = []; new MutationObserver(() => {
        const words = document.querySelector('#announcer')?.textContent; if (words) window.said.push(words);
    }).observe(document.body, {childList: true, subtree: true, characterData: true}) }""")
    converse(page, "Hello")
    page.wait_for_function("window.said.some((words) => words.startsWith('Reply:'))")
    assert len(set(page.evaluate("window.said"))) == 1  # the end of a reply is said once

    count = 0
    while page.wait_for_function(FOCUS, timeout=30_000).json_value() != "again":
        page.keyboard.press("Tab")
        count += 1
    assert 12 < count < 80

    page.evaluate("Glass.chat.leave(null)")
    converse(page, "script", "Finished")
    assert page.title() == "script · Glass Llama"
    assert page.locator("#conversation").locator("script, iframe, form, img, a, input").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(words(page)).to_contain_text("<script>document.title='owned'</script>")
    expect(words(page)).to_contain_text("https://evil.example/steal.png")


def test_a_chat_that_is_too_large_to_be_sent_is_refused_in_words(fake, open_page):
    page = open_page(fake)
    send(page, "Hello")
    wait_until_ready(page)
    page.evaluate("() => { Glass.chat.chat.system = 'x'.repeat(20_000_001); }")
    type_and_enter(page, "And now?")
    expect(page.get_by_test_id("toast-body")).to_contain_text("larger than 20 MB, the most that is taken")
    expect(page.locator("#message .submit-button")).to_be_visible()
    expect(page.locator("#message textarea")).to_have_value("And now?")
