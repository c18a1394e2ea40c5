"""The page in front of a real engine: random weights, and a real Llama where there is one."""

import json
import re
import time

import pytest
from apps import wait_for
from checkpoints import STORIES
from playwright.sync_api import expect
from steps import (
    converse,
    make_endless,
    questions,
    reply,
    send,
    set_knob,
    sidebar,
    tokens,
    type_and_enter,
    wait_until_ready,
    words,
)


def test_a_reply_streams_and_stop_frees_the_slot(noise, open_page):
    page = open_page(noise)
    make_endless(page)
    send(page, "Tell me a long story")
    expect(tokens(page).first).to_be_attached()
    for more in (5, 10, 15):
        expect(tokens(page).nth(more)).to_be_attached()
        assert noise.health()["busy"] == 1
    # By force: Playwright waits for two frames in the same place, which a busy machine does not always draw in time.
    page.get_by_role("button", name="Stop").click(force=True)
    wait_for(lambda: noise.health()["busy"] == 0, 30)
    wait_until_ready(page, "Stopped")
    assert tokens(page).count() < 2000


def test_sliders_take_effect_within_the_reply(noise, open_page):
    page = open_page(noise)
    make_endless(page)
    send(page, "one")
    expect(tokens(page).nth(5)).to_be_attached()
    set_knob(page, "Max tokens", 60)
    wait_until_ready(page, re.compile(r"Length limit \(60\)|Context full"))
    expect(reply(page).locator(".mark")).to_have_text("⟨Max tokens 2000 → 60⟩")


def test_two_people_chat_at_once(noise, open_page):
    pages = [open_page(noise), open_page(noise)]
    for page, count in zip(pages, (800, 801), strict=True):
        make_endless(page)
        set_knob(page, "Max tokens", count)
    for page in pages:
        send(page, "Hello")
    wait_for(lambda: noise.health()["busy"] == 2, 30)
    for page, count in zip(pages, (800, 801), strict=True):
        wait_until_ready(page, f"{count} tokens")


def test_a_closed_tab_frees_its_slot(noise, open_page):
    page, before = open_page(noise), noise.cancelled()
    make_endless(page)
    send(page, "Hello")
    wait_for(lambda: noise.health()["busy"] == 1, 30)
    page.close()
    wait_for(lambda: noise.health()["busy"] == 0 and noise.cancelled() > before, 30)


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


def test_enter_during_a_reply_loses_nothing(noise, open_page):
    page = open_page(noise)
    make_endless(page)
    send(page, "Hello")
    expect(tokens(page).first).to_be_attached()
    type_and_enter(page, "my next question")
    time.sleep(0.5)
    expect(page.locator("#message textarea")).to_have_value("my next question")
    page.get_by_role("button", name="Stop").click(force=True)
    wait_until_ready(page, "Stopped")
    assert questions(page).count() == 1


def test_the_model_and_its_device_are_named_and_noise_is_called_noise(noise, open_page):
    page = open_page(noise)
    expect(page.locator(".welcome")).to_contain_text("the words are noise")
    page.locator("#model-chip").click()
    for said in ("random:tiny", "parameters", "float32", "runs on"):
        expect(page.locator("#model-now")).to_contain_text(said)
    assert page.locator("h1").count() == 1


@pytest.fixture(scope="module")
def guide(start_app):
    return start_app("--slots", "2")


def test_the_guide_says_what_it_is_and_answers_an_example(guide, open_page, look):
    page = open_page(guide, *look)
    expect(page.locator("h1")).to_be_in_viewport()
    expect(page.locator(".welcome")).to_contain_text("a tiny built-in model")
    examples = page.locator(".examples button")
    expect(examples).to_have_count(4)
    asked = examples.first.text_content()
    examples.first.click()
    expect(questions(page)).to_contain_text(asked)
    wait_until_ready(page, "Finished")
    expect(words(page)).to_contain_text(re.compile(r"\w{3}"))
    expect(tokens(page).last).to_have_attribute("aria-label", re.compile(r"^end of the reply \d"))
    expect(page.locator("h1")).to_be_in_viewport()  # all of it fits: nothing was scrolled away


@pytest.fixture(scope="module")
def stories(start_app):
    if not STORIES.is_dir():
        pytest.skip("stories260K is not here")
    return start_app("--model", str(STORIES), "--slots", "2")


def test_a_real_llama_tells_its_published_story(stories, open_page):
    page = open_page(stories)
    case = json.loads((STORIES / "expected.json").read_text())["cases"][1]
    set_knob(page, "Temperature", 0)
    set_knob(page, "Max tokens", len(case["greedy_ids"]))
    converse(page, case["prompt"])
    told = words(page).text_content().replace("⏎", "")
    assert (case["prompt"] + told).split() == case["text"].split()


def test_a_branch_of_a_real_llama_recomputes_nothing(stories, open_page):
    page = open_page(stories)
    set_knob(page, "Temperature", 0)
    set_knob(page, "Max tokens", 60)
    converse(page, "Once upon a time, there was a little girl named")
    tokens(page).nth(8).click()
    before = [tokens(page).nth(i).text_content() for i in range(8)]
    expect(page.locator(".odds")).to_be_visible()
    page.locator(".odds button:not([aria-current])").first.click()
    expect(reply(page).locator(".versions span")).to_have_text("2/2")
    wait_until_ready(page)
    assert [tokens(page).nth(i).text_content() for i in range(8)] == before
    found = re.search(r"(\d+) prompt tokens, (\d+) reused", reply(page).locator(".facts").text_content())
    assert int(found[1]) - int(found[2]) <= 1  # the forced token alone was read
