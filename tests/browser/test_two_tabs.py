"""Two tabs of one browser: what one adds the other shows, and neither overwrites the other's words."""

from playwright.sync_api import expect
from steps import converse, questions, reload, send, set_knob, sidebar, tokens, wait_until_ready


def test_words_of_two_tabs_on_one_chat_come_together_and_a_chat_that_is_left_goes_on(page, fake, open_page):
    converse(page, "one")
    other = open_page(fake, beside=page)
    expect(questions(other)).to_have_count(1)
    converse(other, "Say hi.")
    expect(questions(page).locator(".body")).to_have_text(["one", "Say hi."])  # without a reload
    page.bring_to_front()
    converse(page, "Say bye.")
    for tab in (other, page):
        reload(tab)
        expect(questions(tab).locator(".body")).to_have_text(["one", "Say hi.", "Say bye."])
    other.close()
    reply_in_a_chat_that_is_left(page, fake)


def reply_in_a_chat_that_is_left(page, fake):
    """It goes on, and its status stays with it."""
    page.evaluate("Glass.chat.leave(null)")
    expect(questions(page)).to_have_count(0)
    set_knob(page, "Max tokens", 400)
    fake.ask("fake/pace/30", post=True)
    send(page, "about cats")
    with sidebar(page, "library"):
        page.get_by_role("button", name="New chat").click()
        expect(questions(page)).to_have_count(0)
    expect(page.locator("#status")).not_to_contain_text("tokens")
    page.evaluate("() => { Glass.store.read = () => new Promise(() => {}); }")  # the storage has not all of its words
    with sidebar(page, "library"):
        page.locator("#chats li .open").first.click()
        expect(questions(page)).to_have_count(1)
    fake.ask("fake/pace/300", post=True)
    expect(tokens(page)).to_have_count(400)
    wait_until_ready(page, "")
    assert len(fake.ask("fake")[-1]["tokens"]) == 400
