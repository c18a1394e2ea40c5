"""What a person does on the page, for the tests to tell."""

import re
from contextlib import contextmanager

from playwright.sync_api import expect

ENDED = re.compile("Finished|Length limit|Stopped|Ended by an error|Context full")


# A conversation of 60 or more messages, the replies with 100 tokens and their alternatives.
OLD_TALK = """(count = 60) => {
    const others = [[1, ' the', .5, .5], [2, ' cat', .2, .2], [3, ' sat', .1, .1], [4, ' on', .1, .1]];
    const tokens = Array.from({length: 100}, (_, i) => [i % 14 + 1, ' word', .5, .5, others]);
    const nodes = [], selected = {};
    for (let i = 0; i < count; i++) { selected[i - 1] = i;
        nodes.push(i % 2 ? {role: 'assistant', parent: i - 1, tokens, model: 'fake', finish: 'length'} :
            {role: 'user', parent: i - 1, words: 'question ' + i}); }
    const chat = {format: 'glass-llama/1', id: 'old', revision: 1, system: '', told_from: null, selected, nodes};
    return chat; }"""


def type_and_enter(page, text):
    page.fill("#message textarea", text)
    page.locator("#message textarea").press("Enter")


def questions(page):
    return page.locator("#conversation [data-testid=user]")


def replies(page):
    return page.locator("#conversation [data-testid=bot]")


def reply(page):
    return replies(page).last


def words(page):
    """The text of the last reply."""
    return reply(page).locator(".body")


def tokens(page):
    return reply(page).locator(".tok")


def send(page, text):
    """Ask, and wait until the question stands in the conversation."""
    count = questions(page).count()
    type_and_enter(page, text)
    expect(questions(page)).to_have_count(count + 1)


# Looked at in each frame; what is expected of a locator is looked at twice a second after a while.
CAN_SEND = "() => document.querySelector('#message .submit-button')?.checkVisibility()"


def wait_until_ready(page, said=ENDED):
    page.wait_for_function(CAN_SEND, timeout=30_000)
    expect(page.locator("#status")).to_contain_text(said)


def converse(page, text, said=ENDED):
    send(page, text)
    wait_until_ready(page, said)


def ask_otherwise(page, text):
    """The last question, in other words; until it is answered."""
    questions(page).last.get_by_role("button", name="Edit").click()
    page.locator(".message textarea").fill(text)
    page.get_by_role("button", name="Submit").click()
    expect(questions(page).last).to_contain_text(text)
    wait_until_ready(page)


def is_phone(page):
    return page.viewport_size["width"] < 768


@contextmanager
def sidebar(page, name):
    """ "settings" and the "library" of chats lie behind a button unless they were left open."""
    toggle = page.locator(f"#{name} .toggle-button")
    covered = toggle.get_attribute("aria-expanded") == "false"
    if covered:
        toggle.click()
        expect(toggle).to_have_attribute("aria-expanded", "true")
    yield
    if covered and toggle.get_attribute("aria-expanded") == "true":
        toggle.click()
        expect(toggle).to_have_attribute("aria-expanded", "false")


def set_knob(page, name, value):
    with sidebar(page, "settings"):
        box = page.get_by_label(f"number input for {name}")
        box.fill(str(value))
        box.press("Tab")


def write(page, label, text):
    """Into a box of the sidebar."""
    with sidebar(page, "settings"):
        page.get_by_label(label).fill(text)


def reload(page):
    page.reload()
    settle(page)


def settle(page):
    """The sidebars are as they were last left."""
    page.wait_for_selector("#message textarea")
    page.wait_for_function("window.Glass?.chat")
    page.wait_for_selector("html.settled")


def make_endless(page):
    """A greedy random model goes round in circles and never ends a reply by itself."""
    set_knob(page, "Temperature", 0)
    set_knob(page, "Max tokens", 2000)


def version(page):
    """Which version of the last reply is shown: "2/3"."""
    return reply(page).locator(".versions span")
