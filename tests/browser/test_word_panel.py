"""The panel of a word that was clicked: alternatives that follow the sliders, a branch, a look inside."""

import re

from barriers import look_for_barriers, slider_contrasts
from fake_engine import WORDS, next_id
from playwright.sync_api import expect
from steps import converse, is_phone, reply, set_knob, tokens, version, wait_until_ready

ALL = len(WORDS) + 256


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


def test_the_alternatives_follow_the_sliders_also_after_a_look_inside(noise, open_page, look):
    page = open_page(noise, *look)
    set_knob(page, "Max tokens", 12)
    converse(page, "Hello")
    tokens(page).nth(4).click()
    odds, plot = page.locator(".odds button"), page.locator("#plot")
    expect(plot).to_contain_text(re.compile(r"Cut here: [\d,]+ of 4,"))  # by min-p, with which noise begins
    asked = noise.ask("health")
    page.get_by_role("button", name="Look inside").click()
    expect(page.locator("#lens tbody tr")).to_have_count(4)  # one a layer
    # What the last layer says is what the list says, reached by another way.
    last = page.locator("#lens tbody tr").first.locator("td").first.locator("bdi").text_content()
    assert odds.first.locator("bdi").text_content().removesuffix(" ✓") == last
    page.get_by_label("number input for Layer").fill("2")
    page.get_by_label("number input for Layer").press("Tab")
    expect(page.locator("#attention")).to_contain_text(re.compile(r"Layer 2, head \d: what it attended to before"))
    for top_k in (3, 1):
        page.get_by_label("number input for Top-k").fill(str(top_k))
        page.get_by_label("number input for Top-k").press("Tab")
        expect(plot).to_contain_text(f"Cut here: {top_k} of 4,")
        expect(page.locator(".odds .gone")).to_have_count(odds.count() - top_k)
    assert noise.ask("health") == asked
    look_for_barriers(page)
    before = page.locator("#attention h3").text_content()
    page.keyboard.press("Escape")
    tokens(page).nth(7).click()  # another word, while what is inside is unfolded
    expect(page.locator("#attention h3")).not_to_have_text(before)
    last = page.locator("#lens tbody tr").first.locator("td").first.locator("bdi")
    expect(odds.first.locator("bdi")).to_have_text(re.compile(rf"^{re.escape(last.text_content())}( ✓)?$"))


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


def test_another_chat_has_no_word_of_the_old_one(page):
    converse(page, "Hello")
    tokens(page).nth(3).click()
    expect(page.locator("#plot .odds")).to_be_visible()
    page.evaluate("Glass.chat.leave(null)")
    expect(page.locator("#plot")).to_contain_text("Click a word of a reply")
    expect(page.locator("#plot .odds")).to_have_count(0)


def test_under_the_hood_draws_what_is_added_to_what_passes_by(noise, open_page, look):
    page = open_page(noise, *look)
    page.get_by_role("tab", name="Under the hood").click()
    expect(page.locator("#picture .residual")).to_have_count(2)  # around attention and around the feed-forward part
    expect(page.locator("#numbers")).to_contain_text(re.compile(r"KV cache in use\s*\d+ of"))
    look_for_barriers(page)
    with page.context.expect_page() as waiting:
        page.locator("#code-links a").first.click()
    expect(waiting.value.locator("li:target")).to_contain_text("temperature")
