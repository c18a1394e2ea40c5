"""The panel of a word that was clicked: alternatives beside the text, and a branch. (What follows the sliders, and a
look inside, need a real engine: test_page.py.)"""

import re

from barriers import slider_contrasts
from fake_engine import next_id
from playwright.sync_api import expect
from steps import converse, is_phone, reply, tokens, version, wait_until_ready


def test_a_click_opens_the_alternatives_beside_the_text_and_choosing_one_branches(page, fake):
    converse(page, "Tell me a story")
    expect(tokens(page)).to_have_count(40)
    tokens(page).nth(5).click()
    odds = page.locator(".odds button")
    expect(odds).to_have_count(8)
    expect(odds.first).to_be_in_viewport()
    expect(odds.first).to_have_attribute("aria-current", "true")
    expect(page.locator("#plot")).to_contain_text(re.compile(r"About \d real choices"))
    expect(tokens(page).nth(5)).to_be_in_viewport()  # also on a phone: the panel covers half of it
    covered = page.evaluate("""() => { const panel = document.querySelector('#settings').getBoundingClientRect(),
        word = document.querySelectorAll('#conversation .tok')[5].getBoundingClientRect();
        return word.right > panel.left && word.bottom > panel.top && word.top < panel.bottom; }""")
    assert not covered
    before = fake.ask("fake")[-1]
    assert all(ratio >= 3 for ratio in slider_contrasts(page.locator("#knob-temperature input[type=range]")))
    other = odds.nth(1).locator("bdi").text_content()
    odds.nth(1).click()
    expect(version(page)).to_have_text("2/2")
    if not is_phone(page):  # there the panel makes room for the text
        expect(page.locator("#plot h2")).to_have_text(f"Instead of “{other}”")
    wait_until_ready(page)
    branch = fake.ask("fake")[-1]
    assert branch["prompt"][:-1] == [*before["prompt"], *before["tokens"][:5]]
    assert branch["prompt"][-1] != before["tokens"][5]
    assert branch["tokens"][0] == next_id(branch["prompt"])
    assert branch["cached"] >= len(branch["prompt"]) - 1  # all but the forced token came from the cache
    expect(tokens(page)).to_have_count(46)
    expect(reply(page).locator(".forced")).to_have_count(1)
    page.get_by_role("button", name="Earlier version").click()
    expect(version(page)).to_have_text("1/2")
    expect(tokens(page)).to_have_count(40)

    page.evaluate("Glass.chat.leave(null)")  # another chat has no word of the old one
    expect(page.locator("#plot")).to_contain_text("Click a word of a reply")
    expect(page.locator("#plot .odds")).to_have_count(0)


def test_the_tip_of_a_word_is_one_line_beside_it(fake, open_page):
    page = open_page(fake)
    converse(page, "Hello")
    tip, word = page.locator(".tip"), tokens(page).nth(1)
    word.hover()
    expect(tip).to_have_text(re.compile(r"^“.+”: 30 %( → 3\d % after sampling)?$"))
    at, around = tip.bounding_box(), word.bounding_box()
    assert at["height"] < 30 and at["y"] + at["height"] <= around["y"] + 1
    tokens(page).nth(0).hover()
    expect(tip).to_have_text(re.compile(r"^“.+”: 5.0 % → 5.5 % after sampling$"))
    page.mouse.down()
    tokens(page).nth(9).hover()  # selecting
    expect(tip).to_be_hidden()
    page.mouse.up()
    tokens(page).nth(3).focus()
    page.keyboard.press("ArrowRight")
    expect(tip).to_have_text(re.compile("^“.+”: 99 %"))
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    expect(page.locator("#message textarea")).to_be_focused()
