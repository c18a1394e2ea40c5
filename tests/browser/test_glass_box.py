"""The glass box as a person uses it: every token shown, bent and branched, as fast as it is written.

The engine is a fake that writes 300 tokens a second, each the sum of those before it (tests/helpers/fake_engine.py).
"""

import re

import pytest
from playwright.sync_api import expect
from steps import OLD_TALK, converse, reply, send, set_knob, tokens, wait_until_ready


def test_sliders_take_effect_within_the_reply_and_are_marked(page, fake):
    set_knob(page, "Max tokens", 400)
    fake.ask("fake/pace/40", post=True)
    send(page, "Tell me a story")
    expect(tokens(page).nth(20)).to_be_attached()
    set_knob(page, "Temperature", 1.3)
    fake.ask("fake/pace/300", post=True)
    expect(reply(page).locator(".mark")).to_have_text("⟨Temperature 0.7 → 1.3⟩")
    wait_until_ready(page)
    assert fake.ask("fake")[-1]["updates"] == [1.3]
    place = page.evaluate("Glass.chat.chat.nodes.at(-1).marks[0][0]")
    assert 20 < place < 400
    expect(reply(page).locator(".facts")).to_be_in_viewport()  # the page stayed at the end of the long reply


def test_the_place_in_line_the_facts_what_is_left_out_and_a_problem_are_in_sight(page, fake):
    fake.ask("fake/hold/2", post=True)
    send(page, "Hello")
    expect(page.locator("#status")).to_contain_text("place 2 in line")
    fake.ask("fake/hold/0", post=True)
    wait_until_ready(page, "Length limit (40)")
    expect(page.locator("#status")).to_contain_text("45 of 4096 tokens of context")
    facts = reply(page).locator(".facts")
    facts.get_by_text("tokens/s").click()
    expect(facts.get_by_text(re.compile(r"first token after .* s · 40 tokens · 5 prompt tokens"))).to_be_visible()

    page.evaluate("Glass.chat.leave(null)")
    for letter in "ab":  # turns that no longer fit
        converse(page, letter * 1700)
    expect(page.locator(".dropped")).to_have_count(0)
    converse(page, "c" * 1700)
    expect(page.locator(".dropped")).to_contain_text("4 messages above no longer fit")  # down to half of the room
    expect(page.locator(".forgotten")).to_have_count(4)
    assert len(fake.ask("fake")[-1]["prompt"]) < 4096

    page.evaluate("Glass.chat.leave(null)")
    send(page, "boom")
    expect(reply(page)).to_contain_text("The reply broke off: out of words")
    wait_until_ready(page, "Ended by an error")
    expect(tokens(page)).to_have_count(3)


@pytest.fixture
def hurried(fake):
    fake.ask("fake/pace/1000", post=True)
    yield fake
    fake.ask("fake/pace/300", post=True)


def test_two_thousand_tokens_arrive_beside_sixty_messages(hurried, open_page):
    page = open_page(hurried)
    page.evaluate(f"Glass.chat.leave(({OLD_TALK})())")
    set_knob(page, "Max tokens", 2000)
    converse(page, "Hello")
    kept = page.evaluate("Glass.chat.chat.nodes.at(-1).tokens")
    assert [record[0] for record in kept] == hurried.ask("fake")[-1]["tokens"]
    expect(tokens(page)).to_have_count(2000)
    expect(reply(page).locator(".facts")).to_be_in_viewport()
