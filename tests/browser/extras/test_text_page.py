"""A model that was not trained to chat: one sheet of text, which it continues."""

import pytest
from playwright.sync_api import expect
from steps import converse, reload, replies, set_knob, tokens, wait_until_ready

SHEET = ".messages.text"
TEXT = f"""() => [...document.querySelectorAll('{SHEET} .body')].map((body) => body.textContent).join('')"""


@pytest.fixture
def base(fake):
    fake.ask("fake/chats/no", post=True)
    yield fake
    fake.ask("fake/chats/yes", post=True)


def told(fake):
    """The text of the last prompt; the tokens of the reply that it goes on with are ids of words."""
    prompt = fake.ask("fake")[-1]["prompt"]
    return bytes(value - 15 for value in prompt if value >= 15).decode(), [value for value in prompt if value < 15]


def test_a_text_is_continued_without_bubbles_and_without_gaps(base, page):
    box = page.locator("#message textarea")
    expect(box).to_have_attribute("placeholder", "Write the beginning…")
    set_knob(page, "Max tokens", 20)
    converse(page, "Once upon a time")
    expect(page.locator(SHEET)).to_have_css("display", "block")
    expect(replies(page)).to_have_css("display", "inline")
    expect(page.get_by_text("You", exact=True)).to_be_hidden()
    expect(tokens(page)).to_have_count(20)
    assert told(base) == ("Once upon a time", [])
    text = page.evaluate(TEXT)
    assert text.startswith("Once upon a time ") and "⏎" not in text

    expect(box).to_be_focused()
    box.press("Enter")  # nothing: the model goes on
    expect(tokens(page)).to_have_count(40)
    wait_until_ready(page)
    assert told(base) == ("Once upon a time", base.ask("fake")[-2]["tokens"])
    assert page.evaluate(TEXT).startswith(text)

    text = page.evaluate(TEXT)
    converse(page, "then")
    assert told(base)[0] == f"{text} then"
    assert page.evaluate(TEXT).startswith(f"{text} then")
    expect(page.locator(f"{SHEET} footer:visible")).to_have_count(1)
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(f"{SHEET} footer .versions span")).to_have_text("2/2")
    wait_until_ready(page)
    page.get_by_role("button", name="Take back to the box").click()
    expect(box).to_have_value(" then")
    assert page.evaluate(TEXT) == text

    base.ask("fake/chats/yes", post=True)
    reload(page)
    expect(page.locator(SHEET)).to_have_count(0)  # a model that chats: the same words as messages
    expect(replies(page)).to_have_css("display", "block")
