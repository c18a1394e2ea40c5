"""The map of a chat's versions, walked with keys and by pointing."""

from playwright.sync_api import expect
from steps import ask_otherwise, converse, questions, replies, reply, version, wait_until_ready, words


def test_the_map_draws_the_tree_and_is_walked_with_keys_and_by_pointing(page):
    converse(page, "tell me of cats")
    converse(page, "and of dogs")
    ask_otherwise(page, "and of birds")
    replies(page).first.get_by_role("button", name="Retry").click()
    expect(questions(page)).to_have_count(1)
    expect(version(page)).to_have_text("2/2")
    wait_until_ready(page)
    answer = words(page).text_content()

    page.get_by_role("button", name="Map of this chat").click()
    items = page.locator("#map [role=treeitem]")
    expect(items).to_have_count(7)  # two first replies, two second questions, and a reply to each
    named = [item.get_attribute("aria-label") for item in items.all()]
    assert "You: … dogs" in named and "You: … birds" in named
    chosen = page.locator("#map [role=treeitem]:focus")
    expect(chosen).to_have_attribute("aria-selected", "true")
    expect(chosen).to_have_attribute("aria-level", "2")

    for key, level in (("ArrowLeft", "2"), ("ArrowDown", "3"), ("ArrowLeft", "3")):
        page.keyboard.press(key)
        expect(chosen).to_have_attribute("aria-level", level)
    expect(chosen).to_have_attribute("aria-label", "You: … dogs")
    page.keyboard.press("Enter")
    expect(page.locator("#map")).to_be_hidden()
    expect(questions(page).locator(".body")).to_have_text(["tell me of cats", "and of dogs"])

    page.get_by_role("button", name="Map of this chat").click()
    page.locator("#map [aria-level='2'][aria-selected=false]").click()
    expect(questions(page)).to_have_count(1)
    assert words(page).text_content() == answer
    expect(reply(page).locator("footer button:focus")).to_have_count(1)
    page.keyboard.press("Tab")  # the focus is in the conversation, not on the page's body
    expect(page.locator("#conversation :focus, #composer :focus")).to_have_count(1)
