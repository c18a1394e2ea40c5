"""The page before its model is ready: how far it is, and a message that waits."""

import pytest
from apps import FAKE_APP, SCREENS
from playwright.sync_api import expect
from steps import questions, replies, send, set_knob, tokens, wait_until_ready

HEAR = """() => { window.heard = []; const announcer = document.querySelector("#announcer");
    new MutationObserver(() => heard.push(announcer.textContent)).observe(announcer, {childList: true}); }"""


@pytest.fixture
def cold(start_app):
    """An app whose programs are compiled when the test heats it, and whose visitors may not load other models."""
    return start_app("cold", "off", program=FAKE_APP, waits=False)


def test_a_page_opened_early_shows_how_far_it_is_and_keeps_what_is_sent(cold, open_page):
    pages = [open_page(cold, width, height, theme) for width, height, theme in SCREENS.values()]
    assert cold.health()["status"] == "starting"
    for page in pages:
        expect(page.locator("#status")).to_contain_text("Warming up")
        expect(page.locator("#announcer")).to_have_text("Warming up")
        page.evaluate(HEAR)
        expect(page.locator("#model-chip")).to_contain_text("12.3K")
    cold.ask("fake/heat/3", post=True)
    for page in pages:
        expect(page.locator("#status")).to_contain_text("3 of 8 programs")
        expect(page.locator("#status [role=progressbar]")).to_have_attribute("aria-valuenow", "38")
        set_knob(page, "Max tokens", 20)
        send(page, "Never mind")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#message .submit-button")).to_be_visible()
        expect(replies(page)).to_have_count(0)
        expect(page.locator("#status")).to_contain_text("3 of 8 programs")
        send(page, "Hello")
        expect(page.locator("#status")).to_contain_text("3 of 8 programs")
        expect(questions(page)).to_have_count(2)
    cold.ask("fake/heat/5", post=True)
    for page in pages:
        expect(tokens(page)).to_have_count(20)
        wait_until_ready(page, "Length limit (20)")
        expect(page.locator("#announcer")).to_contain_text("Reply:")
        assert "Warming up" not in page.evaluate("heard"), "said again at each program"
        visitors_see_the_facts_alone(page)
    assert cold.health()["status"] == "ready"
    late = open_page(cold)
    send(late, "Hello")
    assert late.evaluate("document.querySelector('#announcer')?.textContent || ''") == ""  # that it is ready is no news


def visitors_see_the_facts_alone(page):
    page.locator("#model-chip").click()
    sheet = page.get_by_role("dialog", name="Models")
    expect(sheet).to_contain_text("The model of this page is set by whoever runs it.")
    expect(sheet).to_contain_text("12.3K parameters")
    expect(sheet.get_by_role("textbox")).to_have_count(0)
