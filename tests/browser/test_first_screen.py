"""The first screen: a sentence with one word open, examples, a way to a larger model, and a page that stands still."""

import re

import pytest
from barriers import look_for_barriers
from playwright.sync_api import expect
from steps import questions, replies, reply, tokens, wait_until_ready

# How much the page has moved by itself (Layout Instability API); Google calls 0.1 good.
SHIFT = """() => new Promise((done) => { let sum = 0; new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) sum += entry.value;
}).observe({type: 'layout-shift', buffered: true}); setTimeout(() => done(sum), 1500); })"""


@pytest.fixture(scope="module")
def guide(start_app):
    return start_app("--slots", "2")


def test_a_word_of_the_stored_sentence_is_open_and_another_one_branches_at_once(guide, open_page, look):
    page = open_page(guide, *look)
    sample = page.get_by_role("region", name="A sentence as a model saw it")
    opened = sample.locator(".word[aria-pressed=true]")
    expect(opened).to_be_in_viewport()
    expect(sample.locator(".odds button")).to_have_count(4)
    look_for_barriers(page)
    sample.locator(".word", has_text="kind").click()
    expect(opened).to_have_text(" kind")
    other = sample.locator(".odds button:not(.current)").first
    chosen = other.locator("bdi").text_content()
    other.click()
    expect(reply(page).locator(".forced")).to_have_text(re.compile(rf"^\s*{chosen}"))
    wait_until_ready(page, "Finished")
    expect(questions(page)).to_have_text(re.compile("Tell me a story about a llama"))
    expect(reply(page).locator(".versions span")).to_have_text("2/2")
    assert tokens(page).count() > 10


def test_examples_are_there_for_each_model_and_a_larger_one_is_offered_by_the_guide(guide, fake, open_page, look):
    page = open_page(guide, *look)
    expect(page.locator(".examples button")).to_have_count(4)
    expect(page.locator(".toolbar")).to_be_hidden()
    page.get_by_role("button", name="Load a larger model").click()
    expect(page.get_by_role("dialog", name="Models")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator(".examples button").first.click()
    wait_until_ready(page, "Finished")
    expect(page.locator(".toolbar")).to_be_visible()
    other = open_page(fake, *look)
    expect(other.locator(".examples button")).to_have_count(4)
    expect(other.get_by_role("button", name="Load a larger model")).to_have_count(0)


@pytest.mark.parametrize("width", [390, 1280, 1600])
def test_nothing_moves_by_itself_and_sidebars_are_as_they_were_left(fake, open_page, width):
    page = open_page(fake, width, 900)
    assert page.evaluate(SHIFT) < 0.05
    toggles = [page.get_by_role("button", name=name, exact=True) for name in ("Chats", "Settings")]
    for toggle in toggles:
        expect(toggle).to_have_attribute("aria-expanded", str(width >= 1500).lower())
    toggles[0].click()
    page.reload()
    page.wait_for_selector("html.settled")
    left_open = width == 1280
    expect(toggles[0]).to_have_attribute("aria-expanded", str(left_open).lower())
    expect(replies(page)).to_have_count(0)
