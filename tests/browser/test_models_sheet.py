"""The model's chip in the header, and the sheet under it where another model is found, sized, loaded and cancelled."""

import re

import pytest
from checkpoints import reference_model
from gguf_files import write_gguf
from playwright.sync_api import expect
from steps import converse, questions, reply, send, set_knob, tokens


@pytest.fixture
def sheet(page):
    page.locator("#model-chip").click()
    expect(page.get_by_role("dialog", name="Models")).to_be_visible()
    return page.get_by_role("dialog", name="Models")


def load(sheet, name):
    sheet.get_by_role("textbox", name="Another model").fill(name)
    sheet.get_by_role("button", name="Load", exact=True).click()


def test_the_chip_names_the_model_and_its_sheet_says_what_each_would_take(page, fake, sheet):
    expect(page.locator("#model-chip")).to_have_text(re.compile("fake · 12.3K"))
    expect(sheet.locator(".models", has_text="Built in").get_by_role("radio")).to_have_count(3)
    expect(sheet.get_by_role("radio", name=re.compile(r"^guide\s+✓ 2.02M · .* MB"))).to_be_visible()
    expect(sheet.locator("#model-now")).to_contain_text("Recommended by its makers, and set: Temperature 0.7")
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(page.locator("#model-chip")).to_be_focused()
    closing_it_by_key_does_not_stop_the_reply(page, fake)


def closing_it_by_key_does_not_stop_the_reply(page, fake):
    fake.ask("fake/pace/40", post=True)
    set_knob(page, "Max tokens", 200)
    send(page, "Hello")
    expect(tokens(page).first).to_be_attached()
    page.locator("#model-chip").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Models")).to_be_hidden()
    fake.ask("fake/pace/300", post=True)
    expect(tokens(page)).to_have_count(200)


def test_the_last_thing_touched_is_what_is_loaded_and_of_several_files_one_is_chosen(page, sheet, tmp_path):
    sheet.get_by_role("textbox", name="Another model").fill(str(tmp_path))
    sheet.get_by_role("textbox", name="Another model").fill("")
    sheet.get_by_role("textbox", name="Another model").fill("tiny")
    sheet.get_by_role("radio", name=re.compile("^random:tiny")).check()
    expect(sheet.get_by_role("textbox", name="Another model")).to_have_value("random:tiny")
    expect(sheet.locator("#model-said")).to_contain_text(re.compile(r"random:tiny: .*parameters.*Memory .* MB"))
    sheet.get_by_role("textbox", name="Another model").fill("us/slow")
    expect(sheet.get_by_role("radio", checked=True)).to_have_count(0)
    load(sheet, "us/slow")
    expect(
        sheet.get_by_role("progressbar", name=re.compile(r"Downloading us.slow: \d+ of 1000 MB"))
    ).to_be_in_viewport()
    expect(sheet.get_by_role("button", name="Load", exact=True)).to_be_hidden()
    sheet.get_by_role("button", name="Cancel").click()
    expect(sheet.locator("#model-said")).to_contain_text("Cancelled. fake stays.")
    expect(sheet.get_by_role("button", name="Cancel")).to_be_hidden()
    of_several_files_one_is_chosen_by_its_size(page, sheet, tmp_path)


def of_several_files_one_is_chosen_by_its_size(page, sheet, tmp_path):
    theirs = reference_model(num_hidden_layers=1, intermediate_size=128)
    for kind in ("F16", "Q4_0"):
        write_gguf(tmp_path / f"m-{kind}.gguf", theirs, kind=kind)
    expect(page.locator("#model-file")).to_be_hidden()
    sheet.get_by_role("textbox", name="Another model").fill(str(tmp_path))
    sheet.get_by_role("button", name="Check size").click()
    sheet.get_by_label("Which of its files").click()
    expect(page.locator("[role=option]")).to_have_text([re.compile(r"m-F16.gguf \(.*KB\)"), re.compile(r"m-Q4_0.gguf")])
    page.get_by_role("option", name="m-F16").click()
    expect(sheet.locator("#model-said")).to_contain_text(re.compile(r"m-F16.gguf: .*parameters. Files .* KB"))
    expect(sheet.get_by_role("textbox", name="Another model")).to_have_value(str(tmp_path / "m-F16.gguf"))


def test_another_model_takes_over_and_the_chat_goes_on_in_every_tab(page, fake, open_page, look):
    other = open_page(fake, *look)
    page.bring_to_front()
    converse(page, "about cats")
    set_knob(page, "Top-p", 0.5)
    page.locator("#model-chip").click()
    sheet = page.get_by_role("dialog", name="Models")
    load(sheet, "random:tiny")
    expect(sheet.locator("#model-said")).to_contain_text("Loaded tiny. This chat continues with it.")
    expect(page.locator("#model-chip")).to_contain_text("tiny")
    # Its own defaults, but for the slider that the person moved.
    expect(page.get_by_label("number input for Temperature")).to_have_value("0.3")
    expect(page.get_by_label("number input for Top-p")).to_have_value("0.5")
    expect(other.locator("#model-chip")).to_contain_text("fake")
    converse(other, "Hello")
    expect(other.locator("#model-chip")).to_contain_text("tiny")
    page.bring_to_front()
    load(sheet, "random:135M")
    expect(sheet.locator("#model-said")).to_contain_text("Not loaded: this one cannot be loaded; choose another")
    sheet.get_by_role("button", name="Close").click()
    expect(questions(page)).to_have_count(1)
    converse(page, "more")
    expect(reply(page).locator("h2")).to_have_text("tiny")
    page.locator("#model-chip").click()
    load(sheet, "random:fake")
    expect(sheet.locator("#model-said")).to_contain_text("Loaded fake")
    other.evaluate("dispatchEvent(new Event('focus'))")  # the person returns to the tab
    expect(other.locator("#model-chip")).to_contain_text("fake")
