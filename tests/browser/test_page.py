"""The page in front of real engines: random weights, the guide, and a real Llama where there is one. All of it is in
one file, because these engines take long to start."""

import json
import re

import pytest
from apps import wait_for
from barriers import look_for_barriers
from checkpoints import STORIES
from playwright.sync_api import expect
from quick_compilation import QUICKLY
from steps import (
    converse,
    make_endless,
    questions,
    replies,
    reply,
    send,
    set_knob,
    sidebar,
    tokens,
    type_and_enter,
    version,
    wait_until_ready,
    words,
)

MODELS = {"guide": (), "noise": ("--model", "random:tiny"), "stories": ("--model", str(STORIES))}


@pytest.fixture(scope="module")
def started(start_app):
    """All at once: the others compile their programs while the first is asked. Quickly: nothing here is about speed."""
    names = [name for name in MODELS if name != "stories" or STORIES.is_dir()]
    return {name: start_app(*MODELS[name], "--slots", "2", waits=False, **QUICKLY) for name in names}


@pytest.fixture(scope="module")
def guide(started):
    return started["guide"].wait_until_ready()


@pytest.fixture(scope="module")
def noise(started):
    """A small random model."""
    return started["noise"].wait_until_ready()


@pytest.fixture(scope="module")
def stories(started):
    if "stories" not in started:
        pytest.skip("stories260K is not here")
    return started["stories"].wait_until_ready()


def test_the_guide_says_what_it_is_and_answers_an_example(guide, open_page, look):
    page = open_page(guide, *look)
    expect(page.locator("h1")).to_be_in_viewport()
    expect(page.locator(".welcome")).to_contain_text("a tiny built-in model")
    expect(page.locator(".toolbar")).to_be_hidden()
    branch_off_the_stored_sentence(page)
    page.evaluate("Glass.chat.leave(null)")
    page.get_by_role("button", name="Load a larger model").click()
    expect(page.get_by_role("dialog", name="Models")).to_be_visible()
    page.keyboard.press("Escape")
    examples = page.locator(".examples button")
    expect(examples).to_have_count(4)
    asked = examples.first.text_content()
    examples.first.click()
    expect(questions(page)).to_contain_text(asked)
    wait_until_ready(page, "Finished")
    expect(page.locator(".toolbar")).to_be_visible()
    expect(words(page)).to_contain_text(re.compile(r"\w{3}"))
    expect(tokens(page).last).to_have_attribute("aria-label", re.compile(r"^end of the reply \d"))
    expect(page.locator("h1")).to_be_in_viewport()  # all of it fits: nothing was scrolled away


def branch_off_the_stored_sentence(page):
    """A word of it is open, and another one becomes a reply at once."""
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
    expect(version(page)).to_have_text("2/2")
    assert tokens(page).count() > 10


def test_noise_is_called_noise_streams_and_is_stopped(noise, open_page):
    page = open_page(noise)
    expect(page.locator(".welcome")).to_contain_text("the words are noise")
    page.locator("#model-chip").click()
    for said in ("random:tiny", "parameters", "float32", "runs on"):
        expect(page.locator("#model-now")).to_contain_text(said)
    page.keyboard.press("Escape")
    assert page.locator("h1").count() == 1
    make_endless(page)
    send(page, "Tell me a long story")
    for more in (0, 5, 10, 15):
        expect(tokens(page).nth(more)).to_be_attached()
        assert noise.health()["busy"] == 1
    type_and_enter(page, "my next question")  # while the reply goes on, Enter does nothing
    # By force: Playwright waits for two frames in the same place, which a busy machine does not always draw in time.
    page.get_by_role("button", name="Stop").click(force=True)
    wait_for(lambda: noise.health()["busy"] == 0, 30)
    wait_until_ready(page, "Stopped")
    assert tokens(page).count() < 2000
    expect(page.locator("#message textarea")).to_have_value("my next question")
    assert questions(page).count() == 1


def test_sliders_take_effect_within_the_reply_and_a_closed_tab_frees_its_slot(noise, open_page):
    page = open_page(noise)
    make_endless(page)
    send(page, "one")
    expect(tokens(page).nth(5)).to_be_attached()
    set_knob(page, "Max tokens", 60)
    wait_until_ready(page, re.compile(r"Length limit \(60\)|Context full"))
    expect(reply(page).locator(".mark")).to_have_text("⟨Max tokens 2000 → 60⟩")
    make_endless(page)
    before = noise.cancelled()
    send(page, "two")
    wait_for(lambda: noise.health()["busy"] == 1, 30)
    page.close()
    wait_for(lambda: noise.health()["busy"] == 0 and noise.cancelled() > before, 30)


def test_two_people_chat_at_once(noise, open_page):
    pages = [open_page(noise), open_page(noise)]
    for page in pages:
        make_endless(page)
    for page in pages:
        send(page, "Hello")
    wait_for(lambda: noise.health()["busy"] == 2, 30)
    for page, count in zip(pages, (60, 61), strict=True):
        set_knob(page, "Max tokens", count)
    for page, count in zip(pages, (60, 61), strict=True):
        wait_until_ready(page, f"Length limit ({count})")


def test_what_cannot_be_asked_stays_in_the_box_and_the_conversation_stays(noise, open_page):
    page = open_page(noise)
    set_knob(page, "Max tokens", 5)
    converse(page, "short")
    long = "long " * 1000
    type_and_enter(page, long)
    expect(page.locator("#status")).to_contain_text("The prompt has")
    expect(page.locator("#message textarea")).to_have_value(long)
    with sidebar(page, "settings"):
        page.get_by_label("Seed").fill("many")
    type_and_enter(page, "again")
    expect(page.locator("#status")).to_contain_text("The seed is many")
    expect(page.get_by_label("Seed")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#message textarea")).to_have_value("again")
    expect(questions(page).locator(".body")).to_have_text(["short"])
    with sidebar(page, "settings"):
        page.get_by_label("Seed").fill("7")
    expect(page.get_by_label("Seed")).not_to_have_attribute("aria-invalid", "true")
    converse(page, "again")


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


def test_under_the_hood_draws_what_is_added_to_what_passes_by(noise, open_page):
    page = open_page(noise)
    page.get_by_role("tab", name="Under the hood").click()
    expect(page.locator("#picture .residual")).to_have_count(2)  # around attention and around the feed-forward part
    expect(page.locator("#numbers")).to_contain_text(re.compile(r"KV cache in use\s*\d+ of"))
    with page.context.expect_page() as waiting:
        page.locator("#code-links a").first.click()
    expect(waiting.value.locator("li:target")).to_contain_text("temperature")


def test_a_real_llama_tells_its_published_story_and_a_branch_recomputes_nothing(stories, open_page):
    page = open_page(stories)
    case = json.loads((STORIES / "expected.json").read_text())["cases"][1]
    set_knob(page, "Temperature", 0)
    set_knob(page, "Max tokens", len(case["greedy_ids"]))
    converse(page, case["prompt"])
    told = words(page).text_content().replace("⏎", "")
    assert (case["prompt"] + told).split() == case["text"].split()

    page.evaluate("Glass.chat.leave(null)")
    expect(replies(page)).to_have_count(0)
    set_knob(page, "Max tokens", 60)
    converse(page, "Once upon a time, there was a little girl named")
    tokens(page).nth(8).click()
    before = [tokens(page).nth(i).text_content() for i in range(8)]
    expect(page.locator(".odds")).to_be_visible()
    page.locator(".odds button:not([aria-current])").first.click()
    expect(version(page)).to_have_text("2/2")
    wait_until_ready(page)
    assert [tokens(page).nth(i).text_content() for i in range(8)] == before
    found = re.search(r"(\d+) prompt tokens, (\d+) reused", reply(page).locator(".facts").text_content())
    assert int(found[1]) - int(found[2]) <= 1  # the forced token alone was read
