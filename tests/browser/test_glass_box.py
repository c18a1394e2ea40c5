"""The glass box as a person uses it: every token shown, bent and branched, as fast as it is written.

The engine is a fake that writes 300 tokens a second, each the sum of those before it (tests/helpers/fake_engine.py).
"""

import re

import pytest
from fake_engine import WORDS, next_id
from playwright.sync_api import expect
from steps import OLD_TALK, converse, reply, send, set_knob, sidebar, tokens, version, wait_until_ready


def test_a_token_shows_its_alternatives_and_branches(page, fake, shoot):
    converse(page, "Tell me a story")
    expect(tokens(page)).to_have_count(40)
    box = page.get_by_role("dialog", name="What could have come")
    tokens(page).nth(7).hover()
    expect(box).to_contain_text("60 %, after the sliders")
    tokens(page).nth(5).click()
    expect(box.get_by_role("button")).to_have_count(6)
    expect(box).to_contain_text("5.0 % → 5.5 %")
    expect(box).to_contain_text("cut")
    shoot(page, f"tokens-{page.viewport_size['width']}")
    before = fake.ask("fake")[-1]
    box.get_by_role("button").nth(1).click()
    expect(version(page)).to_have_text("2/2")
    wait_until_ready(page)
    branch = fake.ask("fake")[-1]
    assert branch["prompt"][:-1] == [*before["prompt"], *before["tokens"][:5]]
    assert branch["prompt"][-1] != before["tokens"][5]
    assert branch["tokens"][0] == next_id(branch["prompt"])
    assert branch["cached"] >= len(branch["prompt"]) - 1  # all but the forced token came from the cache
    expect(tokens(page)).to_have_count(46)
    expect(reply(page).locator(".forced")).to_have_count(1)
    expect(reply(page)).to_contain_text(f"({branch['cached']} cached)")
    page.get_by_role("button", name="Earlier version").click()
    expect(version(page)).to_have_text("1/2")
    expect(tokens(page)).to_have_count(40)


def test_the_plot_follows_the_sliders_without_the_engine(page, fake, shoot):
    converse(page, "Tell me a story")
    asked = len(fake.ask("fake"))
    tokens(page).nth(3).click()
    page.keyboard.press("Escape")
    plot = page.locator("#plot")
    with sidebar(page, "settings"):
        expect(plot).to_contain_text("What could have come instead of")
        expect(plot).to_contain_text("No cut")
        set_knob(page, "Top-k", 3)
        expect(plot).to_contain_text(f"Cut here: 3 of {len(WORDS) + 256} tokens are left")
        expect(plot).to_be_in_viewport()  # beside the slider that was moved
        expect(plot.locator("tr.gone")).to_have_count(7)
        shoot(page, f"plot-{page.viewport_size['width']}")
        set_knob(page, "Top-k", 0)
        set_knob(page, "Temperature", 0)
        expect(plot).to_contain_text(f"Cut here: 1 of {len(WORDS) + 256} tokens are left")
    assert len(fake.ask("fake")) == asked


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


def test_the_place_in_line_and_the_facts_are_in_sight(page, fake):
    fake.ask("fake/hold/2", post=True)
    send(page, "Hello")
    expect(page.locator("#status")).to_contain_text("place 2 in line")
    fake.ask("fake/hold/0", post=True)
    wait_until_ready(page, "reached the limit of 40 tokens")
    expect(page.locator("#status")).to_contain_text("45 of 4096 tokens of context")
    expect(reply(page)).to_contain_text(re.compile(r"tokens/s · first token after .* s · 40 tokens · prompt 5"))


def test_turns_that_no_longer_fit_are_shown_as_left_out(page, fake):
    for letter in "ab":
        converse(page, letter * 1700)
    expect(page.locator(".dropped")).to_have_count(0)
    converse(page, "c" * 1700)
    expect(page.locator(".dropped")).to_contain_text("4 messages above no longer fit")  # down to half of the room
    expect(page.locator(".forgotten")).to_have_count(4)
    assert len(fake.ask("fake")[-1]["prompt"]) < 4096


def test_a_problem_stands_below_what_was_written(page):
    send(page, "boom")
    expect(reply(page)).to_contain_text("The reply broke off: out of words")
    wait_until_ready(page, "ended by an error")
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
